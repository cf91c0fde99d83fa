#!/usr/bin/perl
# One Mail::IMAPTalk client, driven by test_libraries.py: dies where an answer is not as expected.
use strict;
use warnings;
use Mail::IMAPTalk ();

my ($port, $user, $password) = @ARGV;
my $imap = Mail::IMAPTalk->new(
    Server => '127.0.0.1', Port => $port, Username => $user, Password => $password, Uid => 1,
) || die "login: $@";

sub want {
    my ($what, $found, $wanted) = @_;
    $found = defined $found ? $found : 'undef';
    die "$what: '$found', not '$wanted': $@" unless $found eq $wanted;
}

my $capability = $imap->capability() or die "capability: $@";
for my $word (qw(idle condstore qresync quota metadata uidplus thread=references sort)) {
    die "no $word" unless $capability->{$word};
}
$imap->create('Perl') or die "create: $@";
$imap->create('Perl/be low') or die "create: $@";
my @names = sort map { $_->[2] } @{ $imap->list('', 'Perl*') };
want('list', join('|', @names), 'Perl|Perl/be low');
$imap->subscribe('Perl') or die "subscribe: $@";
want('lsub', join('|', map { $_->[2] } @{ $imap->lsub('', '*') }), 'Perl');

for my $n (1 .. 3) {
    my $text = "From: Jo <jo\@example.org>\r\nSubject: talk $n\r\nMIME-Version: 1.0\r\n"
        . "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext $n\r\n--b\r\n"
        . "Content-Type: text/html\r\n\r\n<p>$n</p>\r\n--b--\r\n";
    $imap->append('Perl', '(\Seen $Label)', { Literal => $text }) or die "append: $@";
}
$imap->select('Perl') or die "select: $@";
want('exists', $imap->get_response_code('exists'), 3);
die 'no uidvalidity' unless $imap->get_response_code('uidvalidity');
my $fetched = $imap->fetch('1:*', '(flags envelope bodystructure rfc822.size internaldate modseq)')
    or die "fetch: $@";
want('messages', scalar(keys %$fetched), 3);
want('subject', $fetched->{2}{envelope}{Subject}, 'talk 2');
want('parts', scalar(@{ $fetched->{2}{bodystructure}{'MIME-Subparts'} }), 2);
want('flags', join(' ', sort grep { $_ ne '\Recent' } @{ $fetched->{1}{flags} }), '$Label \Seen');
want('search', join(',', @{ $imap->search('subject', { Quote => 'talk 3' }) }), '3');
want('sort', join(',', @{ $imap->sort('(reverse subject)', 'utf-8', 'all') }), '3,2,1');
my $threads = $imap->thread('references', 'utf-8', 'all') or die "thread: $@";
want('threads', scalar(@$threads), 3);
$imap->store('2', '+flags', '(\Flagged)') or die "store: $@";
want('flagged', join(',', @{ $imap->search('flagged') }), '2');
$imap->copy('1', 'Perl/be low') or die "copy: $@";
my $uids = $imap->get_response_code('copyuid') or die 'no copyuid';
$imap->store('1', '+flags.silent', '(\Deleted)') or die "store: $@";
$imap->uidexpunge('1') or die "uidexpunge: $@";
want('left', join(',', @{ $imap->search('all') }), '2,3');
my $status = $imap->status('Perl/be low', '(messages uidnext unseen)') or die "status: $@";
want('copied', $status->{messages}, 1);
my $root = $imap->getquotaroot('INBOX') or die "getquotaroot: $@";
$imap->setmetadata('Perl', '/private/comment', 'mine') or die "setmetadata: $@";
my $metadata = $imap->getmetadata('Perl', '/private/comment') or die "getmetadata: $@";
want('metadata', $metadata->{Perl}{'/private/comment'}, 'mine');
$imap->rename('Perl/be low', 'Perl/above') or die "rename: $@";
$imap->delete('Perl/above') or die "delete: $@";
die 'deleted twice' if $imap->delete('Perl/above');
$imap->close() or die "close: $@";
$imap->logout();
print "done\n";
