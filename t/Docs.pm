# What the documents have in them, for t/090_docs.pl: blocks of code, links,
# headings, sentences.

package Docs;

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(doc_blocks doc_links doc_anchors doc_sentences doc_section
  shell_commands);

# doc_blocks(FILE [, TEXT]): its blocks of code, or those of a piece of it, each as a hash of "place" (file and
# line), "kind" (of a fenced block the word behind the fence, of an indented one
# what its first line looks like; '' if that is nothing we know) and "text".
sub doc_blocks
{
	my ($file, $text) = @_;
	my @blocks;
	my ($block, $indent, $fenced);
	my $blank = 1;
	my $number = 0;

	foreach my $line (split /\n/, $text // _slurp($file))
	{
		$number++;
		if ($fenced)
		{
			if ($line =~ /^\s*```\s*$/)
			{
				$fenced = 0;
				undef $block;
				next;
			}
			$line =~ s/^$indent//;
			$block->{text} .= "$line\n";
		}
		elsif ($line =~ /^(\s*)```(\w*)\s*$/)
		{
			($indent, $fenced) = ($1, 1);
			$block = _block($file, $number, $2);
			push @blocks, $block;
		}
		elsif ($line =~ /^( {4,})(?![-*] |\d+\. )\S/ && ($blank || $block))
		{
			if (!$block)
			{
				$indent = $1;
				$block = _block($file, $number, undef);
				push @blocks, $block;
			}
			$block->{text} .= _without($indent, $line) . "\n";
			$blank = 0;
			next;
		}
		elsif ($line =~ /^\s*$/)
		{
			$block->{text} .= "\n" if $block;
			$blank = 1;
			next;
		}
		else
		{
			undef $block;
		}
		undef $block unless $fenced;
		$blank = 0;
	}
	foreach my $found (@blocks)
	{
		$found->{text} =~ s/\n+\z/\n/;
		$found->{kind} //= _looks_like($found->{text});
	}
	return @blocks;
}

# Without the modules of the server's tests: dev/test newcomer has none.
sub _slurp
{
	my ($file) = @_;

	open(my $handle, '<', $file) or die "$file: $!";
	local $/;
	return scalar <$handle>;
}

sub _block
{
	my ($file, $number, $kind) = @_;
	my ($name) = $file =~ m{((?:docs/|docker/)?[^/]+)$};

	return {
		place => "$name, line $number",
		kind => $kind,
		text => '' };
}

sub _without
{
	my ($indent, $line) = @_;

	$line =~ s/^$indent//;
	return $line;
}

my $first_words = join '|', qw(ALTER BEGIN CALL COMMENT CREATE DELETE DROP
  GRANT INSERT LISTEN LOCK REFRESH REVOKE SELECT SET TRUNCATE UPDATE WITH);

sub _looks_like
{
	my ($text) = @_;

	return 'sql' if $text =~ /^(?:--.*\n)*(?:$first_words)\b/;
	return 'ini' if $text =~ /^[a-z_]+(?:\.[a-z_]+)? = /;
	return 'text' if $text =~ /^(?:LOG|WARNING|ERROR):  /;
	return '';
}

# shell_commands(TEXT): the commands of a block, those that are continued on a
# next line as one, without comments.
sub shell_commands
{
	my ($text) = @_;
	my @commands;
	my $open = 0;

	foreach my $line (split /\n/, $text)
	{
		next if $line =~ /^\s*(?:#.*)?$/;
		if ($open || $line =~ /^\s/ && @commands)
		{
			$commands[-1] .= "\n$line";
		}
		else
		{
			push @commands, $line;
		}
		$open = $line =~ /(?:\\|\||&&)$/;
	}
	return @commands;
}

# The text of a file without its blocks of code.
sub _prose
{
	my ($file) = @_;
	my $text = _slurp($file);

	$text =~ s/^(\s*)```.*?^\s*```\s*$//msg;
	return $text;
}

# doc_links(FILE): what it links to, pictures too.
sub doc_links
{
	my ($file) = @_;
	my $text = _prose($file);

	$text =~ s/`[^`]*`//g;
	return $text =~ /\]\(([^()\s]+)\)/g;
}

# doc_anchors(FILE): the names by which its headings can be linked to, as GitHub
# makes them.
sub doc_anchors
{
	my ($file) = @_;
	my %anchors;

	foreach my $heading (_prose($file) =~ /^#+ +(.*?)\s*$/mg)
	{
		my $name = lc $heading;

		utf8::decode($name);
		$name =~ s/[^\w\- ]//g;
		$name =~ tr/ /-/;
		$anchors{$name} = 1;
	}
	return %anchors;
}

# doc_section(FILE, HEADING, ...): what stands below that heading, its blocks too,
# up to the next one of the same or a higher level; of that, what stands below the
# next heading that is named.
sub doc_section
{
	my ($file, @headings) = @_;
	my $text = _slurp($file);

	foreach my $heading (@headings)
	{
		$text =~ /^(#+) +\Q$heading\E\s*\n(.*)/ms
		  or die "$file has no heading $heading";
		my ($level, $rest) = (length $1, $2);
		$text = $rest =~ s/^#{1,$level} .*//msr;
	}
	return $text;
}

# doc_sentences(FILE): its sentences, of which a few words are none.
sub doc_sentences
{
	my ($file) = @_;
	my $text = _prose($file);

	$text =~ s/^\|.*$//mg;
	$text =~ s/^#.*$/\n/mg;
	$text =~ s/^\s*(?:[-*]|\d+\.) /\n/mg;
	$text =~ s/\[([^\]]*)\]\([^)]*\)/$1/g;
	$text =~ s/[*_]{2}//g;
	return grep { tr/ // >= 8 }
	  map { s/\s+/ /gr =~ s/^ | $//gr }
	  split /(?<=[.!?])\s+|(?<=:)\n|\n{2,}/, $text;
}

1;
