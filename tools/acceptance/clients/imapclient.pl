#!/usr/bin/perl
# One Mail::IMAPClient client, driven by test_libraries.py: dies where an answer is not as expected.
use strict;
use warnings;
use Mail::IMAPClient;

my ($port, $user, $password) = @ARGV;
my $imap = Mail::IMAPClient->new(
    Server => '127.0.0.1', Port => $port, User => $user, Password => $password, Uid => 1,
    Compress => 1,
) or die "login: $@";

sub want {
    my ($what, $found, $wanted) = @_;
    $found = defined $found ? $found : 'undef';
    die "$what: '$found', not '$wanted': $@" unless $found eq $wanted;
}

die 'no IDLE' unless $imap->has_capability('IDLE');
$imap->create('Client') or die "create: $@";
want('exists', $imap->exists('Client') ? 1 : 0, 1);
my @uids;
for my $n (1 .. 4) {
    my $text = "From: Jo <jo\@example.org>\r\nTo: a\@b\r\nSubject: client $n\r\n"
        . "Date: Wed, 1 Jan 2020 00:00:0$n +0000\r\nMessage-ID: <$n\@x>\r\n\r\nText $n\r\n";
    my $uid = $imap->append_string('Client', $text, '\Seen', undef) or die "append: $@";
    push @uids, $uid;
}
want('uids', join(',', @uids), '1,2,3,4');
$imap->select('Client') or die "select: $@";
want('count', $imap->message_count('Client'), 4);
want('search', join(',', $imap->search(SUBJECT => 'client 2')), '2');
want('sort', join(',', $imap->sort('REVERSE DATE', 'UTF-8', 'ALL')), '4,3,2,1');
my $threads = $imap->thread('REFERENCES', 'UTF-8', 'ALL') or die "thread: $@";
want('threads', scalar(@$threads), 4);
die 'message' unless $imap->message_string(3) =~ /\r\n\r\nText 3\r\n\z/;
want('subject', $imap->subject(3), 'client 3');
my $envelope = $imap->get_envelope(4) or die "envelope: $@";
want('envelope', $envelope->subject, 'client 4');
my $structure = $imap->get_bodystructure(4) or die "bodystructure: $@";
want('type', lc $structure->bodytype, 'text');
$imap->set_flag('Flagged', 1, 2) or die "flag: $@";
want('flagged', join(",", $imap->search("FLAGGED")), "1,2");
my $flags = $imap->flags([1, 4]);
want('flags', join(' ', sort grep { $_ ne '\Recent' } @{ $flags->{1} }), '\Flagged \Seen');
$imap->create('Client/below') or die "create: $@";
my $moved = $imap->move('Client/below', 1) or die "move: $@";
$imap->delete_message(2) or die "delete: $@";
$imap->expunge or die "expunge: $@";
want('left', join(',', $imap->messages), '3,4');
my $tag = $imap->idle or die "idle: $@";
my $heard = $imap->idle_data(0.1);
$imap->done($tag) or die "done: $@";
my @folders = sort grep { /^Client/ } $imap->folders;
want('folders', join('|', @folders), 'Client|Client/below');
$imap->rename('Client/below', 'Client/moved') or die "rename: $@";
want('status', $imap->message_count('Client/moved'), 1);
$imap->subscribe('Client/moved') or die "subscribe: $@";
want('subscribed', join('|', $imap->subscribed), 'Client/moved');
$imap->close or die "close: $@";
$imap->delete('Client/moved') or die "delete: $@";
$imap->logout or die "logout: $@";
print "done\n";
