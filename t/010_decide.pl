# What the worker and the launcher decide to do next, and when schedules that
# count from a time of the day are due, by tables: see t/unit.

use strict;
use warnings;

use FindBin;

use PostgreSQL::Test::Utils;
use Test::More;

my $source = "$FindBin::RealBin/..";
my ($cc, $includes);

foreach my $option ('cc', 'includedir-server')
{
	my ($value) = run_command([ $ENV{PG_CONFIG} // 'pg_config', "--$option" ]);

	$option eq 'cc' ? ($cc = $value) : ($includes = $value);
}

foreach my $unit ('decide', 'launch', 'clock')
{
	my $program = "$PostgreSQL::Test::Utils::tmp_check/$unit";

	system_or_bail(split(' ', $cc),
		'-std=gnu11', '-D_GNU_SOURCE', '-Wall', '-I', $source,
		'-I', $includes, '-o', $program,
		"$FindBin::RealBin/unit/$unit.c", "$source/src/worker/$unit.c");

	# Each line that the program prints is a result.
	my ($printed) = run_command([$program]);
	foreach my $line (split /\n/, $printed)
	{
		ok(!$1, "$unit: $2") if $line =~ /^(not )?ok \d+ - (.*)/;
		diag($line) if $line =~ /^#/;
	}
	like($printed, qr/\A1\.\.(\d+)\n(?:.*\n)*?(?:not )?ok \1 - .*\z/,
		"$unit: the program has come to its end");
}
done_testing();
