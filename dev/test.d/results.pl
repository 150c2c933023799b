#!/usr/bin/perl
#
# Reads what "make -i installcheck" prints, with prove being verbose, from
# standard input; prints a line a test (or all of it, with --verbose), and
# all that a failed one said.  Writes to the file OUTCOME the numbers of
# passed, failed and skipped test cases in its first line, and after it what
# has failed: "regress", "isolation", or a TAP script's name.
#
#     results.pl OUTCOME [--verbose]

use strict;
use warnings;

my ($outcome, $verbose) = @ARGV;
my %count = (passed => 0, failed => 0, skipped => 0);
my $kind = '';    # of tests: regress, isolation, tap
my $failures = 0; # among those of this kind
my $script = '';  # the TAP script being run,
my @said;         # what it, or pg_regress, said so far,
my @wrong;        # of that, its failed cases and what follows each,
my $is_wrong = 0; # whether that is where we are,
my @cases = (0, 0); # and how many of its cases passed and failed
my @failed;

$| = 1;

sub show
{
	print "@_\n" unless $verbose;
	return;
}

sub count
{
	my ($what) = @_;

	$count{$what}++;
	$cases[0]++ if $what eq 'passed';
	$cases[1]++ if $what eq 'failed';
	if ($what eq 'failed' && $failures++ == 0 && $kind ne 'tap')
	{
		push @failed, $kind;
	}
	return;
}

# Print what the failed test said, as far as one wants to read it, and last what
# failed.
sub show_said
{
	splice(@said, 0, -200);
	splice(@wrong, 100);
	show("    $_") foreach @said, @wrong ? ('what failed:', @wrong) : ();
	@said = ();
	@wrong = ();
	return;
}

sub start_script
{
	($script) = @_;
	@cases = (0, 0);
	@said = ();
	@wrong = ();
	$is_wrong = 0;
	return;
}

# The line with which prove closes a script.  One may fail without a failed
# case, by dying or by running fewer cases than planned.
sub end_script
{
	my ($ok) = @_;

	count('failed') if !$ok && $cases[1] == 0;
	if ($ok)
	{
		show("tap        $script ... ok ($cases[0])");
	}
	else
	{
		show("tap        $script ... FAILED");
		show_said();
		push @failed, $script;
	}
	$script = '';
	@said = ();
	return;
}

sub tap_line
{
	my ($line) = @_;

	if ($line =~ /^(\S+\.pl) \.+ skipped: (.*)/)
	{
		count('skipped');
		show("tap        $1 ... skipped: $2");
	}
	elsif ($line =~ /^(\S+\.pl) \.+ *$/)
	{
		start_script($1);
	}
	elsif ($script eq '')
	{
		return;    # prove's summary says nothing new
	}
	elsif ($line =~ /^(not )?ok \d+(.*)/)
	{
		count(
			$2 =~ /# skip/i ? 'skipped'
			: $1 && $2 !~ /# todo/i ? 'failed'
			: 'passed');
	}
	elsif ($line =~ /^ok$/)
	{
		end_script(1);
	}
	elsif ($line =~ /^(?:Dubious|Failed \d|No subtests run)/)
	{
		push @said, $line;
		end_script(0);
		return;
	}
	push @said, $line;
	$is_wrong = $1 eq 'not ok' if $line =~ /^((?:not )?ok)\b/;
	push @wrong, $line if $is_wrong;
	return;
}

# As PostgreSQL 15 prints a test, or as 16 and later do.
sub regress_line
{
	my ($line) = @_;
	my ($ok, $name);

	push @said, $line;
	if ($line =~ /^(?:test| )\s+(\S+)\s+\.\.\. (ok|FAILED|failed)/)
	{
		($name, $ok) = ($1, $2 eq 'ok');
	}
	elsif ($line =~ /^(not )?ok \d+\s+[-+] (\S+)/)
	{
		($name, $ok) = ($2, !$1);
	}
	else
	{
		return;
	}
	count($ok ? 'passed' : 'failed');
	show(sprintf '%-10s %s ... %s', $kind, $name, $ok ? 'ok' : 'FAILED');
	return;
}

while (my $line = <STDIN>)
{
	print $line if $verbose;
	chomp $line;

	if ($line =~ /^(?:# )?\+\+\+ (\w+) .*check in/)
	{
		$kind = $1;
		$failures = 0;
		@said = ();
	}
	elsif ($line =~ /^make.*\bError \d+ \(ignored\)/)
	{
		# What failed without saying in which test: a server that does not
		# start, a script that prove could not run.
		if ($failures == 0)
		{
			count('failed');
			show("$kind ... FAILED");
			show_said();
		}
	}
	elsif ($kind eq 'tap')
	{
		tap_line($line);
	}
	elsif ($kind ne '')
	{
		regress_line($line);
	}
	elsif ($line !~ /^echo "/)
	{
		show($line);
	}
}

open(my $file, '>', $outcome) or die "could not write \"$outcome\": $!\n";
print $file "$count{passed} $count{failed} $count{skipped}\n";
print $file "$_\n" foreach @failed;
close($file) or die "could not write \"$outcome\": $!\n";
