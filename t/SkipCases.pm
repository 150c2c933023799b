# Runs tables of cases about skip_unchanged.
#
# Each case is a schema of its own.  All cases take their steps together: while
# the worker is disabled, the next step of each is made; then the worker runs a
# cycle; then its outcome is looked at, and each view is compared with what its
# query returns now.  Every step is also a test that nothing else did matter:
# a case without a step in a round is to be skipped.
#
# A case is its name, the SQL that makes what there is at first, and its steps.
# A step is what is done, as SQL in the case's schema or as code that is given
# the node and the schema, and what the next cycle makes of the view "v": its
# outcome, 'any' where a refresh is needless but harmless, or undef if it
# is late on purpose.  Then other views may follow, each with its outcome.

package SkipCases;

use strict;
use warnings;

use Exporter qw(import);
use Refresher;
use Skipping;
use Test::More;

our @EXPORT = qw(run_cases in_session holding releasing $plain);

# What most cases begin with: a view of one table
our $plain = q{
	CREATE TABLE t (id int PRIMARY KEY, a text, unused int);
	INSERT INTO t SELECT g, 'a' || g, g FROM generate_series(1, 9) AS g;
	CREATE MATERIALIZED VIEW v AS SELECT id, a FROM t;
};

# Sessions that last longer than a step
my %session;

# in_session(NAME, SQL): a step that is made in the session of that name.
sub in_session
{
	my ($name, $sql) = @_;

	return sub {
		my ($node, $schema) = @_;

		$session{$name} //= session($node, 'postgres');
		$session{$name}->query_safe("SET search_path = $schema");
		$session{$name}->query_safe($sql);

		# Not in a transaction, for else there is nothing to flush.
		$session{$name}->query_safe('SELECT pg_stat_force_next_flush()');
	};
}

# holding(LOCK, SQL): a step that begins to hold an advisory lock, and makes a
# change.
sub holding
{
	my ($lock, $sql) = @_;

	return sub {
		my ($node, $schema) = @_;

		$session{$lock} = hold($node, 'postgres', $lock);
		_take($node, $schema, $sql);
	};
}

# releasing(LOCK): a step that ends what holding() began.
sub releasing
{
	my ($lock) = @_;

	return sub {
		delete($session{$lock})->quit;
	};
}

# run_cases(NODE, CASES, never => [NAME, ...], not_listed => [SCHEMA, ...]): the
# views of the cases "never" can never be skipped; materialized views in the
# schemas "not_listed" are nobody's.
sub run_cases
{
	my ($node, $cases, %options) = @_;
	my %never = map { $_ => 1 } @{ $options{never} // [] };
	my @apart = @{ $options{not_listed} // [] };
	my $must_skip = sub {
		my ($view) = @_;

		return !$never{ $view =~ s/[.].*//r };
	};

	_begin($node, $cases, $must_skip);
	for (my $round = 1;; $round++)
	{
		my %step = _take_steps($node, $cases, $round) or last;

		# What one process finds unchanged, another one does as well.
		configure($node,
			'bigbrotr_refresher.max_workers' => $round % 2 ? 1 : 2);

		my %outcome = next_outcomes($node);
		_check_step($_, $step{$_}, \%outcome) foreach sort keys %step;
		is( join(' ',
				grep {
						 $outcome{$_} ne 'skipped'
					  && !$step{s/[.].*//r}
					  && $must_skip->($_)
				  } sort keys %outcome),
			'',
			"round $round: without a change, nothing is refreshed");
		is( different(
				$node,
				_not_in(@apart, grep { !defined $step{$_}->[1] } keys %step)),
			'',
			"round $round: all views are what their queries return");
	}
	$_->quit foreach values %session;
	%session = ();
	return;
}

# Make the schemas, and run cycles that only establish what there is; all may
# be needed only once.
sub _begin
{
	my ($node, $cases, $must_skip) = @_;

	make_different($node);
	foreach my $case (@$cases)
	{
		my ($name, $setup) = @$case;

		$node->safe_psql('postgres',
			"CREATE SCHEMA $name; SET search_path = $name; $setup");
	}
	configure($node, views => join ', ', map { "$_->[0].*" } @$cases);

	my %outcome = next_outcomes($node);
	is(scalar(grep { $_ ne 'refreshed' } values %outcome),
		0, 'at first, all views are refreshed');
	%outcome = next_outcomes($node);
	is( join(' ',
			grep { $outcome{$_} ne 'skipped' && $must_skip->($_) }
			  sort keys %outcome),
		'',
		'then, nothing has changed');
	return;
}

# Take the next step of each case that has one; returns them by the case's name.
sub _take_steps
{
	my ($node, $cases, $round) = @_;
	my %step;

	foreach my $case (@$cases)
	{
		my ($name, undef, @steps) = @$case;
		my $step = $steps[ $round - 1 ] or next;
		my $action = $step->[0];

		$step{$name} = $step;
		if (ref $action) { $action->($node, $name) }
		else { _take($node, $name, $action) }
	}
	return %step;
}

sub _take
{
	my ($node, $schema, $sql) = @_;

	change($node, "SET search_path = $schema;\n$sql");
	return;
}

# Are the outcomes those that the step of a case names?
sub _check_step
{
	my ($name, $step, $outcomes) = @_;
	my ($action, $expected, %others) = @$step;
	my $what = ref $action ? 'in a session' : $action =~ s/\s+/ /gr;

	%others = (v => $expected, %others) if defined $expected;
	foreach my $view (sort keys %others)
	{
		my $outcome = $outcomes->{"$name.$view"} // 'missing';

		if ($others{$view} eq 'any')
		{
			like($outcome, qr/^(refreshed|skipped)$/,
				"$name.$view, $what: $outcome");
		}
		else
		{
			is($outcome, $others{$view},
				"$name.$view, $what: $others{$view}");
		}
	}
	return;
}

# A condition on pg_class "c": it is in none of these schemas.
sub _not_in
{
	my @schemas = @_;

	return 'true' unless @schemas;
	return 'c.relnamespace::regnamespace::text NOT IN ('
	  . join(', ', map { "'$_'" } @schemas) . ')';
}

1;
