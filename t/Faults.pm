# Faults of the clock, of the disk and of starts, for the tests of a whole
# server.
#
#     use Faults;
#
#     plan skip_all => faults_missing() if faults_missing();
#     my $node = new_node('name', ...);
#     add_faults($node);                    # before its first start
#     $node->start;                         # start, stop, restart as ever
#
#     set_clock($node, -5 * 86400);         # the server's clock is 5 days slow
#     set_clock($node, 0);                  # and right again
#
#     disk_full($node, 'on');               # no temporary file can be written
#     disk_full($node, 'on', '*/16400');    # nor any file of this path alone
#     disk_full($node, 'off');
#
#     hold_starts($node, 'on');             # whatever is started now waits
#     starts_waiting($node);                # how many do, or did
#     hold_starts($node, 'off');            # and now goes on
#
# All can be changed at any time, whether the server runs or not, and hold
# from that moment on for all of its processes; a restart changes nothing.
#
# The clock is what the server has as the time of the day: now(), the times in
# its log and in its tables.  Its monotonic clock, by which it sleeps and
# measures, is that of the machine, as are all clocks of the tests.  What
# psql prints of the server's times is the server's.
#
# A disk is full for every file that matches one of the patterns: then each
# write to it fails with ENOSPC.  Files are named as the server opens them,
# mostly from the data directory ("base/5/16400", "base/pgsql_tmp/..."), shared
# memory by "/dev/shm/PostgreSQL.NNN"; '*' in a pattern stands for '/' too.
# Full for pg_wal means PANIC, as PostgreSQL has it.  What the server writes by
# the streams of the C library (its log, the files of its configuration and
# statistics) never fails.
#
# A small library of ours does it (fault/faults.c), which is compiled here and
# loaded before the C library into the server's processes, and into nothing
# else.

package Faults;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use Fcntl qw(O_RDWR O_CREAT SEEK_SET);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(
  faults_missing add_faults set_clock disk_full disk_failures
  hold_starts starts_waiting
);

# The file of all that is wrong has the clock's offset in microseconds, the
# number of the writes that have failed, whether starts are held, how many
# processes that has stopped, and the patterns of a full disk.
my $size = 4096;
my $failures_at = 8;
my $held_at = 16;
my $waiting_at = 24;
my $patterns_at = 32;

my $library;
my $missing;

# Why there can be no faults here; '' if there can.
sub faults_missing
{
	$missing //= _compile();
	return $missing;
}

sub _compile
{
	my ($flags) = run_command([ 'pg_config', '--cflags' ]);
	my ($compiler) = run_command([ 'pg_config', '--cc' ]);
	my @compiler = split ' ', $compiler;
	my $source = abs_path(dirname(__FILE__) . '/fault/faults.c');

	return 'a server with sanitizers takes no library before theirs'
	  if $flags =~ /-fsanitize/;
	return "there is no $compiler[0] to compile the faults with"
	  if system("command -v $compiler[0] >/dev/null") != 0;
	$library = PostgreSQL::Test::Utils::tempdir('faults') . '/faults.so';
	system(@compiler, qw(-shared -fPIC -O2 -g -Wall -o),
		$library, $source, '-ldl') == 0
	  or die "could not compile $source";
	return '';
}

# add_faults(NODE): have the node always started such that faults are possible.
# Returns the node.
sub add_faults
{
	my ($node) = @_;

	die faults_missing() if faults_missing();
	bless $node, 'Faults::Node';
	$node->{_faults} = $node->basedir . '/faults';
	_put($node, 0, "\0" x $size);
	return $node;
}

# set_clock(NODE, SECONDS): the clock of the server is ahead of the machine's by
# so much from now on, or behind if it is negative.  Fractions are possible.
sub set_clock
{
	my ($node, $seconds) = @_;

	_put($node, 0, pack('q', sprintf('%.0f', $seconds * 1_000_000)));
	return;
}

# disk_full(NODE, 'on' [, PATTERN...]), disk_full(NODE, 'off').  The patterns
# take the place of those before; without any, they are those of temporary
# files: of sorts, joins and the like, and of temporary tables.
sub disk_full
{
	my ($node, $on, @patterns) = @_;

	die "\"$on\" is neither on nor off" unless $on =~ /^(on|off)$/;
	@patterns = ('*pgsql_tmp/*', 'base/*/t[0-9]*_[0-9]*')
	  if $on eq 'on' && !@patterns;
	my $list = $on eq 'on' ? join('', map { "$_\n" } @patterns) : '';

	# The first byte says whether there is any.
	_put($node, $patterns_at, "\0");
	_put($node, $patterns_at + 1, substr("$list\0\0", 1));
	_put($node, $patterns_at, substr("$list\0", 0, 1));
	return;
}

# hold_starts($node, 'on'), hold_starts($node, 'off'): processes that the server
# starts wait before they do anything, be it even to answer a client.
sub hold_starts
{
	my ($node, $on) = @_;

	die "\"$on\" is neither on nor off" unless $on =~ /^(on|off)$/;
	_put($node, $held_at, pack('q', $on eq 'on' ? 1 : 0));
	return;
}

# How many processes have been held so far when they started.
sub starts_waiting
{
	my ($node) = @_;

	return _get($node, $waiting_at);
}

# How many writes have failed so far because of a full disk.
sub disk_failures
{
	my ($node) = @_;

	return _get($node, $failures_at);
}

sub _get
{
	my ($node, $offset) = @_;
	my $bytes;

	open(my $file, '<:raw', $node->{_faults}) or die "$node->{_faults}: $!";
	sysseek($file, $offset, SEEK_SET);
	sysread($file, $bytes, 8) == 8 or die "$node->{_faults}: $!";
	close($file);
	return unpack('q', $bytes);
}

# Change a part of the file.  The server has it mapped, so it is never made
# anew.
sub _put
{
	my ($node, $offset, $bytes) = @_;

	sysopen(my $file, $node->{_faults}, O_RDWR | O_CREAT)
	  or die "$node->{_faults}: $!";
	sysseek($file, $offset, SEEK_SET);
	syswrite($file, $bytes) == length($bytes) or die "$node->{_faults}: $!";
	close($file);
	return;
}

# A node whose server is always started with the library.  (So is pg_ctl,
# which compares the server's clock to its own.)
package Faults::Node;

our @ISA = ('PostgreSQL::Test::Cluster');

sub start
{
	my ($self, @arguments) = @_;

	local $ENV{LD_PRELOAD} = $library;
	local $ENV{REFRESHER_FAULTS} = $self->{_faults};
	return $self->SUPER::start(@arguments);
}

sub restart
{
	my ($self, @arguments) = @_;

	local $ENV{LD_PRELOAD} = $library;
	local $ENV{REFRESHER_FAULTS} = $self->{_faults};
	return $self->SUPER::restart(@arguments);
}

1;
