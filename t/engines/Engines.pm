# What the tests beside other extensions share.  Each of them needs a server
# that has its extension, and is skipped where there is none.

package Engines;

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

our @EXPORT = qw(need_engine citus_cluster);

# need_engine(LIBRARY): skip the whole test if the server does not have it.
sub need_engine
{
	my ($library) = @_;
	my ($folder) = run_command([ 'pg_config', '--pkglibdir' ]);

	plan skip_all => "the server has no $library"
	  unless -e "$folder/$library.so";
	return;
}

# citus_cluster(NAME, SETTING => VALUE, ...): a coordinator with a database
# "postgres" that is distributed over two workers, all started; the settings are
# the coordinator's.  Returns the nodes, the coordinator first.
sub citus_cluster
{
	my ($name, %settings) = @_;
	my @nodes;

	foreach my $number (0 .. 2)
	{
		my $node = new_node(
			"$name$number",
			# Citus must be the first one.
			shared_preload_libraries => 'citus, bigbrotr_refresher',
			databases => '',
			wal_level => 'logical',
			max_prepared_transactions => 100,
			max_worker_processes => 16,
			'citus.node_conninfo' => 'sslmode=disable keepalives_idle=60 keepalives_interval=10 '
			  . 'keepalives_count=3 tcp_user_timeout=90000',
			'citus.recover_2pc_interval' => '1s',
			$number == 0 ? %settings : ());

		$node->append_conf('postgresql.conf',
			conf_lines('citus.local_hostname' => $node->host));
		$node->start;
		$node->safe_psql('postgres', 'CREATE EXTENSION citus; CREATE EXTENSION citus_columnar');
		push @nodes, $node;
	}

	my ($coordinator, @workers) = @nodes;

	$coordinator->safe_psql('postgres',
		'CREATE EXTENSION bigbrotr_refresher;'
		  . "SELECT citus_set_coordinator_host('" . $coordinator->host . "', " . $coordinator->port . ');'
		  . join(' ', map { "SELECT citus_add_node('" . $_->host . "', " . $_->port . ');' } @workers));
	return @nodes;
}

1;
