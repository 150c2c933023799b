# What the worker decides to do next, by a table of facts: see t/unit/decide.c.

use strict;
use warnings;

use FindBin;

use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/..";
my $program = "$PostgreSQL::Test::Utils::tmp_check/decide";
my ($cc, $includes);

foreach my $option ('cc', 'includedir-server')
{
	my ($value) = run_command([ $ENV{PG_CONFIG} // 'pg_config', "--$option" ]);

	$option eq 'cc' ? ($cc = $value) : ($includes = $value);
}

system_or_bail(split(' ', $cc),
	'-std=gnu11', '-Wall', '-I', $source, '-I', $includes,
	'-o', $program,
	"$FindBin::RealBin/unit/decide.c", "$source/src/worker/decide.c");

# Each line that the program prints is a result.
my ($printed) = run_command([$program]);
foreach my $line (split /\n/, $printed)
{
	ok(!$1, $2) if $line =~ /^(not )?ok \d+ - (.*)/;
	diag($line) if $line =~ /^#/;
}
like($printed, qr/\A1\.\.(\d+)\n(?:.*\n)*?(?:not )?ok \1 - .*\z/,
	'the program has come to its end');
done_testing();
