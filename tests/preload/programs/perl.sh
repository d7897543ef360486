# perl: hashes, regular expressions, sorting, forks, and interpreter threads, each of which clones
# all data of its parent and frees it elsewhere.
needs perl
cat >work.pl <<'SCRIPT'
use strict;
use warnings;
use threads;
use Digest::SHA qw(sha256_hex);

my %table;
my $state = 1;
for my $i (1 .. 150_000) {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    push @{$table{$state % 4001}}, sprintf("%x-%s", $state, "y" x ($state % 60));
    delete $table{$state % 3001} if $i % 5 == 0;
}
print scalar(keys %table), " ", sha256_hex(map { ($_, @{$table{$_}}) } sort keys %table), "\n";

my $text = join ' ', map { "item$_=" . $_ * $_ } 1 .. 40_000;
my $hits = () = $text =~ /\bitem(\d*7\d*)=(\d+)/g;
(my $copy = $text) =~ s/item(\d+)/sprintf('%05d', $1)/ge;
print "$hits ", length $copy, " ", sha256_hex($copy), "\n";

my @threads = map {
    my $n = $_;
    threads->create(sub {
        my %own = map { $_ => "v" x ($_ % 90) } 1 .. 4000 * $n;
        scalar keys %own;
    })
} 1 .. 4;
print join(',', map { $_->join } @threads), "\n";

for my $n (1 .. 5) {
    my $pid = open(my $from, '-|') // die;
    if (!$pid) { print sha256_hex(sort { $a cmp $b } map { $_ ^ $n } 1 .. 20_000); exit 0 }
    print <$from>, "\n";
    close $from or die;
}
print unpack('%32C*', pack('w/a* N n C', $text, 1, 2, 3)), "\n";
SCRIPT
PERL_HASH_SEED=0 run perl work.pl
