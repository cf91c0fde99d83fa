"""Shared mailboxes, as programs that nobody here wrote make them: cyradm, Python, Perl."""

import imaplib

from harness import corpus, proc
from harness.case import Case
from harness.server import PASSWORD

SCRIPT = """\
createmailbox user.alice.Box
createmailbox --partition default user.alice.Lists
createmailbox news
setaclmailbox user.alice.Box bob lrs anyone p
setaclmailbox news anyone lrs
setaclmailbox user.alice.L* cyrus all
listaclmailbox user.alice.Box
setquota user.alice 1000
listquota user.alice
listquotaroot user.alice
renamemailbox user.alice.Lists user.alice.Old
mboxconfig user.alice.Old comment ours
info user.alice.Old
setinfo motd hello
info
deleteaclmailbox user.alice.Box anyone
listaclmailbox user.alice.Box
createmailbox user.ann@example.org
createmailbox user.ann.Sub@example.org
listmailbox user.ann*
deletemailbox user.alice.Old
listmailbox
"""

PERL = r"""
use strict; use warnings; use Mail::IMAPClient;
my ($port, $user, $password) = @ARGV;
my $imap = Mail::IMAPClient->new(Server => '127.0.0.1', Port => $port, User => $user,
    Password => $password) or die "login: $@";
$imap->create('Perl') or die "create: $@";
$imap->setacl('Perl', 'bob', 'lrsi') or die "setacl: $@";
my $acl = $imap->getacl('Perl') or die "getacl: $@";
die 'acl: ' . join(' ', %$acl) unless $acl->{bob} eq 'lrsi';
my @rights = $imap->listrights('Perl', 'bob');
die "listrights: @rights" unless grep { $_ eq 'l' } @rights;
$imap->deleteacl('Perl', 'bob') or die "deleteacl: $@";
$acl = $imap->getacl('Perl');
die 'acl: ' . join(' ', %$acl) if exists $acl->{bob};
"""


class Sharing(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def site(self, listener=""):
        from harness import server
        one = server.make("cyrus", extra='[auth]\nadmins = ["cyrus"]\n'
                                         '[sharing]\nshared_user = "bb"\n')
        self.servers.append(one)
        one.add_users()
        for user in ("cyrus", "bob"):
            one.tool("user", "add", user, stdin=PASSWORD + "\n", check=False)
        one.start()
        one.fill(corpus.varied(3))
        return one

    def client(self, one, user):
        client = imaplib.IMAP4("127.0.0.1", one.ports["imap"], timeout=20)
        client.login(user, PASSWORD)
        self.addCleanup(client.logout)
        return client

    def test_cyradm(self):
        cyradm = self.need("cyradm")
        one = self.site()
        # Its separator here is a slash.
        script = SCRIPT.replace("user.", "user/").replace("alice.", "alice/").replace(
            "ann.", "ann/")
        done = proc.run([cyradm, "--user", "cyrus", "--password", PASSWORD, "--auth", "PLAIN",
                         "--port", str(one.ports["imap"]), "127.0.0.1"], stdin=script, seconds=60)
        said = done.stdout.decode()
        for line in ("bob lrs", "anyone p", "/1000 (", "comment: ours", "motd: hello",
                     "user/ann/Sub@example.org", "user/alice/Box"):
            self.assertIn(line, said)
        self.assertEqual(said.count("anyone p"), 1, said)
        last = said.rsplit("user/ann@example.org", 1)[0].rsplit("INBOX", 1)[1]
        self.assertNotIn("user/alice/Old", last, said)
        bob = self.client(one, "bob")
        names = b"\n".join(bob.list('""', "*")[1])
        for name in (b'"Other Users/alice/Box"', b'"Shared Folders/news"'):
            self.assertIn(name, names)
        self.assertNotIn(b"Old", names)

    def test_python_shares_and_another_reads(self):
        one = self.site()
        alice, bob = self.client(one, "alice"), self.client(one, "bob")
        self.assertEqual(alice.setacl("INBOX", "bob", "lrs")[0], "OK")
        self.assertIn(b"bob lrs", alice.getacl("INBOX")[1][0])
        shared = '"Other Users/alice"'
        self.assertEqual(bob.select(shared), ("OK", [b"3"]))
        self.assertEqual(bob.fetch("1", "(BODY[])")[0], "OK")
        self.assertEqual(bob.search(None, "SEEN")[1], [b"1"])
        self.assertEqual(bob.store("1", "+FLAGS", "\\Flagged")[0], "NO")
        alice.select("INBOX", readonly=True)
        self.assertEqual(alice.search(None, "SEEN")[1], [b""])
        alice.unselect()
        self.assertEqual(alice.deleteacl("INBOX", "bob")[0], "OK")
        with self.assertRaises(imaplib.IMAP4.abort):
            bob.noop()
            bob.noop()
        self.assertEqual(self.client(one, "bob").select(shared)[0], "NO")

    def test_mail_imapclient(self):
        one = self.site()
        if proc.run(["perl", "-MMail::IMAPClient", "-e1"], check=False).returncode:
            self.skipTest("Mail::IMAPClient is not installed")
        proc.run(["perl", "-e", PERL, str(one.ports["imap"]), "alice", PASSWORD], seconds=30)
