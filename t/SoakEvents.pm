# What can happen in the soak, and how often.
#
# An event is a sub that does harm, and leaves to the scene what repairs it
# (repair_by) and which views may fail until then (hurt).  What only ends a
# refresh hurts nobody: the next cycle must be right again without a repair.

package SoakEvents;

use strict;
use warnings;

use Exporter qw(import);
use SoakChecks;
use SoakData;
use SoakServer;

our @EXPORT = qw(choose_events run_event repair);

# By name: the weight, the code, and what it needs: faults of disk and clock,
# or to be alone in its burst.
my %events = (server_events(), data_events());

# choose_events(SCENE, NAME...): the events of a burst, of these names or of all:
# one to three, or one that must be alone.
sub choose_events
{
	my ($scene, @names) = @_;

	@names = map { ($_) x $events{$_}[0] } sort keys %events unless @names;
	die "there is no event \"$_\"\n" foreach grep { !$events{$_} } @names;
	@names = grep { $scene->{faults} || !_needs($_, 'faults') } @names;
	my ($first, @more) = map { _choose($scene, @names) }
	  1 .. 1 + int($scene->random('choice') * 3);

	return $first if _needs($first, 'alone');
	return ($first, grep { !_needs($_, 'alone') } @more);
}

sub _choose
{
	my ($scene, @names) = @_;

	return $names[ int($scene->random('choice') * @names) ];
}

sub _needs
{
	my ($name, $what) = @_;

	return ($events{$name}[2] // '') =~ /$what/;
}

sub run_event
{
	my ($scene, $name) = @_;

	$scene->{said} = '';
	$events{$name}[1]->($scene);
	return;
}

# Undo what the events of a burst have done, the last first.
sub repair
{
	my ($scene) = @_;

	$scene->finish_sessions;
	$_->() foreach reverse splice @{ $scene->{repairs} };
	$scene->settle;
	forgive($scene, $_) foreach sort keys %{ $scene->{lossy} };
	$scene->{$_} = {} foreach qw(lossy hurt touched);
	return;
}

1;
