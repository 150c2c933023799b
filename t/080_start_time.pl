# Schedules that count from a time of the day, over changes of the clock: at
# rest, over a restart, after a failure, in another time zone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Faults;
use Refresher;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

plan skip_all => faults_missing() if faults_missing();

my $node = add_faults(
	new_node(
		'start_time',
		views => 'nightly @ 1d from 03:00, quarter @ 1h from 00:15, '
		  . 'weekly @ 7d from 03:00, plain @ 1d',
		timezone => 'Europe/Berlin',
		'bigbrotr_refresher.retry_interval' => 0));

# Set the server's clock to a time of UTC, as in "2027-03-28 01:00:00".
sub set_time
{
	my ($time) = @_;

	$time =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)$/ or die $time;
	set_clock($node, timegm($6, $5, $4, $3, $2 - 1, $1) - time());
	return;
}

# Sessions have another time zone than the worker, which is all that counts.
sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "SET TimeZone = 'UTC'; $sql");
}

# Wait until nothing is to be done, by the clock as it is now.
sub await_rest
{
	$node->poll_query_until(
		'postgres', "SELECT state IN ('resting', 'idle') AND next_due > now()
			AND next_due = (SELECT min(next_due) FROM bigbrotr_refresher.views)
		 FROM bigbrotr_refresher.status() WHERE database = 'postgres'")
	  or die 'the worker does not rest';
	return;
}

# Set the clock, have the worker look at it, and return what it has refreshed
# when it rests.  With settings, it does nothing by the time before it has them.
sub at
{
	my ($time, %settings) = @_;
	my $offset;

	if (%settings)
	{
		configure_and_rest($node, enabled => 'off');
		$settings{enabled} = 'on';
	}
	$offset = log_size($node);
	set_time($time);
	configure_and_rest($node, %settings);
	await_rest();
	return join ' ', sort split / /, outcomes(log_since($node, $offset));
}

# When views are due, without the year, by UTC
sub due
{
	return query("SELECT string_agg(view || ' '
			|| to_char(next_due, 'MM-DD HH24:MI'), ', ' ORDER BY view)
		FROM bigbrotr_refresher.views");
}

# ---- spring ----------------------------------------------------------------

# Saturday noon: the clock goes forward in the next night.
set_time('2027-03-27 11:00:00');
$node->start;
query(
	q{
	CREATE EXTENSION bigbrotr_refresher;
	CREATE FUNCTION nightly_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION quarter_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION weekly_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION plain_refresh() RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION bad_refresh() RETURNS void LANGUAGE sql AS 'SELECT 1 / 0';
});
query('SELECT bigbrotr_refresher.run(true)');
is(at('2027-03-27 11:00:30'), '', 'what was refreshed waits');
is( due(),
	'nightly 03-28 01:00, plain 03-28 11:00, quarter 03-27 11:15, weekly 03-29 01:00',
	'until the clock on the worker\'s wall shows its time');
is( query("SELECT string_agg(view || ' ' || start_time, ', ' ORDER BY view)
		FROM bigbrotr_refresher.views"),
	'nightly 03:00:00, quarter 00:15:00, weekly 03:00:00',
	'which is shown');
is(at('2027-03-28 00:50:00'),
	'quarter', 'after hours, what was missed is not made up');
is( due(),
	'nightly 03-28 01:00, plain 03-28 11:00, quarter 03-28 01:15, weekly 03-29 01:00',
	'and an hour that does not exist is passed over');

# A second or two before 03:00, it waits for the moment.
my $offset = log_size($node);
set_time('2027-03-28 00:59:58');
configure($node);
wait_for_line($node, 'view_refreshed view=nightly', $offset);
await_rest();
is( query("SELECT date_trunc('second', cycle_start)
		FROM bigbrotr_refresher.history WHERE view = 'nightly'
		ORDER BY id DESC LIMIT 1"),
	'2027-03-28 01:00:00+00',
	'at 03:00 it is refreshed');
is(outcomes(log_since($node, $offset)), 'nightly', 'once');
is( due(),
	'nightly 03-29 01:00, plain 03-28 11:00, quarter 03-28 01:15, weekly 03-29 01:00',
	'and next in the following night');
is(at('2027-03-29 01:00:02'),
	'nightly plain quarter weekly', 'weeks count from Mondays');
like(due(), qr/weekly 04-05 01:00$/, 'so the next one is the next');

# ---- what does not move it -----------------------------------------------------

query('SELECT bigbrotr_refresher.run(true)');
await_rest();
like(due(), qr/^nightly 03-30 01:00/, 'run() does not move it');
query("SELECT bigbrotr_refresher.refresh('nightly')");
await_rest();
like(due(), qr/^nightly 03-30 01:00/, 'nor does refresh()');

$offset = log_size($node);
$node->restart;
await_rest();
is(outcomes(log_since($node, $offset)), '', 'nor does a restart');
like(due(), qr/^nightly 03-30 01:00/, 'which changes nothing');

# Down at 03:00, and until the afternoon
$offset = log_size($node);
$node->stop;
set_time('2027-03-30 14:00:00');
$node->start;
await_rest();
is(join(' ', sort split / /, outcomes(log_since($node, $offset))),
	'nightly plain quarter', 'what the server has slept through is due at once');
like(
	due(),
	qr/^nightly 03-31 01:00, plain 03-31 14:00, quarter 03-30 14:15/,
	'and then as ever');

# ---- a clock that was set back --------------------------------------------------

is(at('2027-03-31 01:00:10'), 'nightly quarter', 'the next night');
is(at('2027-03-31 00:40:00'), '', 'set back to before 03:00, all wait');
like(
	due(),
	qr/^nightly 03-31 01:00, .*, quarter 03-31 01:15/,
	'until it is 03:00 again');

# ---- autumn ------------------------------------------------------------------------

# The clock goes back at 01:00 UTC, from 03:00 to 02:00.
is(at('2027-10-30 22:00:00'), 'nightly plain quarter weekly', 'in autumn');
is(at('2027-10-31 00:15:01'), 'quarter', 'an hour that comes twice');
like(
	due(),
	qr/^nightly 10-31 02:00, .*, quarter 10-31 02:15, weekly 11-01 02:00/,
	'counts once');
is(at('2027-10-31 01:30:00'), '', 'so nothing happens when it comes again');
is(at('2027-10-31 02:00:03'), 'nightly', '03:00 is what the wall says');
like(due(), qr/^nightly 11-01 02:00/, 'from then on, too');

# ---- another time zone -----------------------------------------------------------------

configure_and_rest($node, timezone => 'America/New_York');
await_rest();
like(
	due(),
	qr/^nightly 10-31 07:00, .*, quarter 10-31 02:15, weekly 11-01 07:00/,
	'a new time zone is followed at once');
is(at('2027-10-31 07:00:01'), 'nightly quarter', 'there it is 03:00 later');
configure_and_rest($node, timezone => 'Asia/Kathmandu');
await_rest();
like(
	due(),
	qr/^nightly 10-31 21:15, .*, quarter 10-31 07:30, weekly 10-31 21:15/,
	'one with an odd offset likewise');

# ---- a failure -------------------------------------------------------------------------

is( at(
		'2027-10-31 20:00:00',
		views => 'bad @ 1d from 03:00, quarter @ 1h from 00:15',
		'bigbrotr_refresher.retry_interval' => '20min'),
	'bad:22012 quarter',
	'a view fails');
like(due(), qr/^bad 10-31 20:20/, 'it is retried as any other');
is(at('2027-10-31 20:20:01'), 'bad:22012', 'and fails again');
like(due(), qr/^bad 10-31 21:00/, 'later');
is(at('2027-10-31 21:00:01'), 'bad:22012 quarter', 'and again');
like(due(), qr/^bad 10-31 21:15/, 'but never later than at its time');

# ---- the default interval ----------------------------------------------------------------

$offset = log_size($node);
is( at(
		'2027-11-02 12:00:00',
		views => 'nightly, quarter, plain @ 1h',
		'bigbrotr_refresher.start_time' => '4:30',
		interval => '1d',
		timezone => 'UTC'),
	'nightly plain quarter',
	'start_time');
is(due(), 'nightly 11-03 04:30, plain 11-02 13:00, quarter 11-03 04:30',
	'is that of the default interval alone');
unlike(log_since($node, $offset), qr/start_time_ignored/, 'and is followed');

# One that fits no day
at('2027-11-02 12:01:00', interval => '7h');
at('2027-11-02 12:02:00');
is(due(), 'nightly 11-02 19:00, plain 11-02 13:00, quarter 11-02 19:00',
	'unless the interval does not fit');
my @said = log_since($node, $offset) =~
  /WARNING:  bigbrotr_refresher: start_time_ignored interval=25200$/mg;
is(scalar(@said), 1, 'as is said once');

# ---- a year ------------------------------------------------------------------------------

is( at(
		'2028-01-03 12:00:00',
		views => 'weekly @ 364d from 03:00, plain @ 366d',
		interval => '1d',
		'bigbrotr_refresher.start_time' => undef),
	'weekly',
	'long intervals');
is(due(), 'plain 11-02 12:00, weekly 11-27 03:00', 'are possible');

nothing_broke($node);
$node->stop;
done_testing();
