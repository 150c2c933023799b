# What the documents tell their readers to do is done: each block of SQL is
# executed, each one of configuration is read by a server, each command runs.
# What cannot run in a test is listed here with the reason, and a block that is
# neither executed nor listed is a failure.  Links lead somewhere, and the tables
# of parameters, columns and log lines are complete.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use FindBin;
use lib $FindBin::RealBin;

use Docs;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Refresher;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/..');
my @files = map { "$top/$_" } qw(README.md CONTRIBUTING.md ARCHITECTURE.md
  CHANGELOG.md docker/README.md);
push @files, grep { !/migrate/ } sort glob("$top/docs/*.md");
push @files, "$top/docs/migrate-from-the-python-service.md";

# Blocks of these kinds show something that is not to be executed, or not here:
# dev/test monitoring does what is for a docker deployment, "console", and
# dev/test engines what is for Citus.
my %shown = map { $_ => 1 } qw(text json console citus);

# Blocks, and commands of blocks, that cannot run here
my @not_here = (
	[ qr/^apt-get /, 'needs root, and changes the machine' ],
	[ qr/^service /, 'needs root, and a server of the system' ],
	[ qr/^docker /, 'there is no container engine' ],
	[ qr/^make with_llvm=no( install)?$/, 'what dev/test does before this' ],
	[ qr/^dev\/package /, 'takes minutes: dev/test package, dev/test newcomer' ],
	[ qr/^unzip |^cd bigbrotr_refresher-/, 'there is no archive before a release' ],
	[ qr/^FROM postgres:/, 'there is no container engine' ],
	[ qr/^postgresql:\n  parameters:/, 'there is no Patroni' ],
	[ qr/^apiVersion: postgresql.cnpg.io/, 'there is no Kubernetes' ],
	[ qr/^(PROVE_TESTS=\S+ |PROVE_TESTS='.*' )?dev\/(test|soak|format)/, 'this runs in it' ],
	[ qr/pg_buildext updatecontrol$/, 'takes packages, and a new major' ],
	[ qr/^git /, 'a release is made once' ],
);
my %needed;

# ---- a server that has what the documents name --------------------------------------

# It begins as that of a newcomer: without the library.
my $node = new_node('docs', databases => '', shared_preload_libraries => '',
	max_worker_processes => 16, max_connections => 40);
my $conf = $node->data_dir . '/docs.conf';
my $base_conf = '';
my $databases = 'mydb, bigbrotr, windows';

append_to_file($conf, '');
$node->append_conf('postgresql.conf', "include = 'docs.conf'\n");
$node->start;
$node->safe_psql('postgres', $_)
  foreach ('CREATE DATABASE mydb', 'CREATE DATABASE shop', 'CREATE ROLE operator');

# Files that are read in order, in a database of their own or of others before.
# Of those that come later than README.md, "mydb" has more views.
my %database = (
	'docs/windows.md' => 'windows',
	'docker/README.md' => 'image',
	'docs/migrate-from-the-python-service.md' => 'bigbrotr');
my $more_views = q{
	CREATE MATERIALIZED VIEW daily_totals AS
		SELECT day, sum(amount) AS total FROM orders GROUP BY day;
	CREATE UNIQUE INDEX ON daily_totals (day);
	CREATE MATERIALIZED VIEW monthly_totals AS
		SELECT extract(month FROM day) AS month, sum(total) FROM daily_totals GROUP BY 1;
	CREATE TABLE daily_counts (day date PRIMARY KEY, n bigint);
	CREATE FUNCTION daily_counts_refresh(after timestamptz, until timestamptz)
	RETURNS void LANGUAGE sql AS '';
};

sub prepare
{
	my ($database) = @_;

	return if $database eq 'mydb';
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql('windows', 'CREATE EXTENSION bigbrotr_refresher;
		CREATE TABLE orders (id int);
		CREATE TABLE service_state (owner text, state_type text, state_key text,
			state_value jsonb, PRIMARY KEY (owner, state_type, state_key))')
	  if $database eq 'windows';
	load_demo($node, 'bigbrotr') if $database eq 'bigbrotr';
	return;
}

# ---- blocks --------------------------------------------------------------------------

# Commands run in a folder that looks like the checkout, such that what they write
# does not stay there.  curl sends nothing, and tells what it would have sent.
my $folder = PostgreSQL::Test::Utils::tempdir();
my $sent = "$folder/sent";

mkdir "$folder/bin";
symlink($_, "$folder/" . (m{([^/]+)$})[0]) foreach glob("$top/*");
append_to_file("$folder/bin/curl", "#!/bin/sh\ncat >'$sent'\n");
chmod 0755, "$folder/bin/curl";

my $bin = $node->config_data('--bindir');

# Each of the commands that run may have these outcomes; the others succeed.
my @outcomes = ([ qr/exit "\$code"/, qr/^(?:OK|WARNING|CRITICAL): .*\n\z/ ]);

sub run_command
{
	my ($command) = @_;
	my ($expected) = map { $_->[1] } grep { $command =~ $_->[0] } @outcomes;
	my ($stdout, $stderr);

	local %ENV = (
		%ENV,
		PATH => "$folder/bin:$bin:$ENV{PATH}",
		PGHOST => $node->host,
		PGPORT => $node->port,
		SLACK_WEBHOOK => 'http://127.0.0.1:9');
	IPC::Run::run([ 'bash', '-c', "cd '$folder' || exit\n$command" ],
		'>', \$stdout, '2>', \$stderr);
	my $failed = $expected ? $stdout !~ $expected : $? != 0;
	return $failed ? "$command\n$stdout$stderr" : undef;
}

# These return undef, or why the block is wrong.
my %execute = (
	sql => sub {
		my ($block, $database) = @_;
		my ($status, $stdout, $stderr) = $node->psql($database, $block->{text});

		# What it did to the whole server would hold for the next one.
		if ($block->{text} =~ /ALTER SYSTEM/)
		{
			$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
			reload();
		}
		$node->safe_psql($database, 'CREATE EXTENSION bigbrotr_refresher')
		  if $block->{text} =~ /^DROP EXTENSION/;
		return $status == 0 ? undef : $stderr;
	},
	ini => sub {
		my ($block, $database) = @_;
		my $wrong;

		set_conf($block->{text});
		if ($block->{text} =~ /^shared_preload_libraries/m)
		{
			$node->restart;
			$base_conf ||= $block->{text}
			  . "bigbrotr_refresher.databases = '$databases'\n";
		}
		# Of a value that is wrong, or of a parameter that does not exist
		$wrong //= $node->safe_psql('postgres', q{
			SELECT f.name, f.error
			FROM pg_file_settings AS f LEFT JOIN pg_settings AS s ON s.name = f.name
			WHERE f.sourcefile LIKE '%/docs.conf'
				AND (f.error IS NOT NULL OR s.short_desc IS NULL)});
		set_conf($base_conf);
		if ($block->{text} =~ /^shared_preload_libraries/m)
		{
			$node->restart;
		}
		elsif ($base_conf ne '')
		{
			# A reload that an earlier block asked for may have read this one.
			$node->reload;
			$node->poll_query_until('postgres',
				"SELECT current_setting('bigbrotr_refresher.databases') = '$databases'")
			  or die 'the server does not read its configuration';
		}
		return $wrong eq '' ? undef : $wrong;
	},
	sh => sub {
		my ($block) = @_;

		foreach my $command (shell_commands($block->{text}))
		{
			next if listed($command);
			my $wrong = run_command($command);
			return $wrong if defined $wrong;
		}
		return undef;
	});

# Have the server read its configuration, and wait for that: what is asked for
# before, by a block, must not read the next one.
sub reload
{
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time()');

	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', "SELECT pg_conf_load_time() <> '$before'")
	  or die 'the configuration was not read';
	return;
}

sub set_conf
{
	my ($text) = @_;

	unlink $conf;
	append_to_file($conf, $text);
	return;
}

# Is it in the list of what cannot run here?
sub listed
{
	my ($text) = @_;
	my ($found) = grep { $text =~ $_->[0] } @not_here;

	return 0 unless $found;
	$needed{ $found->[0] } = 1;
	return 1;
}

sub try_block
{
	my ($block, $database) = @_;
	my $execute = $execute{ $block->{kind} };

	return if $shown{ $block->{kind} };
	if ($execute)
	{
		is($execute->($block, $database), undef,
			"$block->{place}: $block->{kind} is right");
	}
	else
	{
		ok(listed($block->{text}), "$block->{place}: executed, or listed")
		  or diag($block->{text});
	}
	return;
}

foreach my $file (@files)
{
	my $name = substr($file, length($top) + 1);
	my $database = $database{$name} // 'mydb';

	prepare($database);
	try_block($_, $database) foreach doc_blocks($file);
	$node->safe_psql('mydb', $more_views) if $file eq $files[0];
}
is(join(', ', map { $_->[1] } grep { !$needed{ $_->[0] } } @not_here),
	'', 'no more is listed than there is');

# The command for Slack tells of a server that is not there, too.
my ($slack) = map { $_->{text} } grep { $_->{text} =~ /SLACK/ }
  doc_blocks("$top/docs/operations.md");
unlink $sent;
is(run_command($slack =~ s/psql /psql -p 1 /r), undef, 'without a server there is a message');
my $message = slurp_file($sent);
like(
	$node->safe_psql('postgres', "SELECT \$x\$$message\$x\$::json ->> 'text'"),
	qr/connection to server .* failed/,
	'which is JSON');
nothing_broke($node);

# ---- links and sentences ------------------------------------------------------------

foreach my $file (@files)
{
	my @broken;

	foreach my $link (grep { !/^https?:/ } doc_links($file))
	{
		my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $path eq '' ? $file : dirname($file) . "/$path";

		push @broken, $link
		  unless -e $target
		  && (!defined $anchor || {doc_anchors($target)}->{$anchor});
	}
	is(join(' ', @broken), '', substr($file, length($top) + 1) . ': its links lead somewhere');
}

my %said;
push @{ $said{$_} }, 1 foreach map { doc_sentences($_) } @files;
is(join("\n", grep { @{ $said{$_} } > 1 } sort keys %said), '', 'no sentence is there twice');

# ---- tables that are complete -------------------------------------------------------

# What README says of a parameter is what the server says: its default, in any unit,
# and the unit of a bare number.
my %units = ('' => '', s => 'seconds', ms => '**milliseconds**');
my $parameters = $node->safe_psql('postgres', q{
	SELECT substr(name, 20), coalesce(unit, ''), boot_val FROM pg_settings
	WHERE name LIKE 'bigbrotr\_refresher.%' ORDER BY name});
my @rows = doc_section($files[0], 'Parameters') =~ /^\| `(\w+)` \|(.*)\|$/mg;
my %row = @rows;

is(scalar(keys %row), scalar(my @all = split /\n/, $parameters), 'README has each parameter');
foreach my $line (@all)
{
	my ($parameter, $unit, $default) = split /\|/, $line, -1;
	my ($said_default, undef, $said_unit) = split / ?\| ?/, ($row{$parameter} // '') =~ s/^ //r;
	my ($value) = ($said_default // '') =~ /^`(\w+)`/;

	like(doc_section("$top/docs/reference.md", 'Parameters', $parameter),
		qr/^```ini\nbigbrotr_refresher\.$parameter = /m,
		"reference.md: an example of $parameter");
	like($said_unit // '', $unit eq '' ? qr/^(views)?\s*$/ : qr/^\Q$units{$unit}\E$/,
		"README: unit of $parameter");
	next if $parameter eq 'views';
	if (!defined $value)
	{
		is($default, '', "README: default of $parameter");
		next;
	}
	$value = $node->safe_psql('postgres', "SELECT extract(epoch FROM interval '$value')
		* (CASE '$unit' WHEN 'ms' THEN 1000 ELSE 1 END)::int8") + 0
	  if $unit ne '';
	is($value, $default, "README: default of $parameter");
}

# Each column that one can ask for is described.
my %columns = (
	'views' => "'bigbrotr_refresher.views'::regclass",
	'cycles' => "'bigbrotr_refresher.cycles'::regclass",
	'history' => "'bigbrotr_refresher.history'::regclass");
my %functions = (
	'plan()' => 'bigbrotr_refresher.plan()',
	'status' => 'bigbrotr_refresher.status()');

foreach my $section (sort keys %columns, sort keys %functions)
{
	my $query = $columns{$section}
	  ? "SELECT attname FROM pg_attribute WHERE attrelid = $columns{$section}
		 AND attnum > 0 AND NOT attisdropped"
	  : "SELECT unnest(proargnames) FROM pg_proc WHERE oid = '$functions{$section}'::regprocedure";
	my $text = doc_section("$top/docs/reference.md", 'What you can ask', $section);
	my @missing = grep { $text !~ /^\|[^|]*`$_`/m } split /\n/, $node->safe_psql('mydb', $query);

	is(join(' ', @missing), '', "reference.md: the columns of $section");
}

# Each line of the log is described.
my %events;
foreach my $source (glob("$top/src/*/*.c"), glob("$top/src/*.c"))
{
	$events{$_} = 1
	  foreach slurp_file($source) =~ /(?:log_event\(|REFRESHER_NAME )"(?::\ )?(\w+_\w+)[ %"]/g;
}
my $log = doc_section("$top/docs/reference.md", 'The log');
is(join(' ', grep { $log !~ /^\|[^|]*`$_\b/m } sort keys %events), '',
	'reference.md: the lines of the log');
cmp_ok(scalar(keys %events), '>', 15, 'of which there are some');

$node->stop;
done_testing();
