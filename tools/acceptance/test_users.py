"""Users whom the servers before us had: their files and daemons, made by Debian's own tools."""

import base64
import hmac
import json

from harness import old_users, proc, server
from harness.case import Case
from harness.server import PASSWORD
from harness.wire import Imap, Lmtp, Pop3

LETTER = b"Subject: for an old user\r\n\r\nHere.\r\n"
OLD = "geheim"


def said(client, name, password):
    """What LOGIN is answered."""
    return client.command(f'LOGIN "{name}" "{password}"')[-1].split(b" ", 1)[1]


class Users(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def site(self, backends, tables="", auth=""):
        """A server whose own users are alice and bob, where it has users of its own."""
        one = server.make(
            "maildir", extra=f"[auth]\nbackends = {json.dumps(backends)}\n"
                             f"failure_delay_first_seconds = 0\n{auth}\n{tables}\n")
        self.servers.append(one)
        one.added = "users" not in backends
        return one.start()

    def login(self, one, name, password=OLD):
        with Imap(one.at("imap")) as client:
            return said(client, name, password)

    def good(self, one, name, password=OLD):
        answer = self.login(one, name, password)
        self.assertTrue(answer.startswith(b"OK"), (name, answer))

    def bad(self, one, name, password="wrong", code=b"[AUTHENTICATIONFAILED]"):
        answer = self.login(one, name, password)
        self.assertTrue(answer.startswith(b"NO") and code in answer, (name, answer))

    def pop3(self, one, name, password=OLD):
        with Pop3(one.at("pop3")) as client:
            client.ok(f"USER {name}")
            return client.command(f"PASS {password}").startswith(b"+OK")

    def cram(self, one, name, password=OLD, hash="md5"):
        with Imap(one.at("imap")) as client:
            tag = client.start(f"AUTHENTICATE CRAM-{hash.upper()}")
            challenge = base64.b64decode(client.line()[2:])
            digest = hmac.new(password.encode(), challenge, hash).hexdigest()
            client.send(base64.b64encode(f"{name} {digest}".encode()) + b"\r\n")
            return b" OK" in client.until(tag)[-1]

    def rcpt(self, one, name):
        """The code that a delivery is answered."""
        with Lmtp(one.at("lmtp")) as client:
            return client.deliver([name], LETTER)[0][0]

    def hashed(self, *arguments):
        return proc.run([self.need("doveadm"), "pw", *arguments]).stdout.decode().strip()

    # -- files -------------------------------------------------------------------

    def test_userdb_as_text_and_as_makeuserdb_makes_it(self):
        self.need("makeuserdb", "userdbpw")
        make = proc.new_dir("ud")
        pw = lambda kind: proc.run([proc.find_program("userdbpw"), kind],
                                   stdin=OLD + "\n").stdout.decode().strip()
        text = make / "userdb"
        text.write_text(
            f"carol@old.test\tuid=1|gid=1|home=/home/carol|systempw={pw('-md5')}|"
            f"hmac-md5pw={pw('-hmac-md5')}|quota=5000S|options=disablepop3=1\n"
            f"dan\thome=/home/dan|imappw={pw('-md5')}|pop3pw={self.hashed('-s', 'SSHA', '-p', 'other')}\n"
            f"alice\thome=/home/alice|systempw={pw('-md5')}\n"
            "broken\tsystempw={NTLM}00\n")
        old_users.make_userdb(text)
        for path in (text, make / "userdb.dat"):
            with self.subTest(path.name):
                one = self.site(["users", "userdb"], f'[auth.userdb]\npath = "{path}"',
                                'mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5"]')
                self.good(one, "carol@old.test")
                self.bad(one, "carol@old.test")
                self.assertTrue(self.cram(one, "carol@old.test"))
                self.assertFalse(self.cram(one, "carol@old.test", "wrong"))
                self.assertFalse(self.pop3(one, "carol@old.test"), "disablepop3")
                self.good(one, "dan")
                self.assertEqual((self.pop3(one, "dan"), self.pop3(one, "dan", "other")),
                                 (False, True))
                # The first back end that knows a name decides.
                self.bad(one, "alice", OLD)
                self.good(one, "alice", PASSWORD)
                self.assertEqual(self.rcpt(one, "carol@old.test"), 250)
                self.assertEqual(self.rcpt(one, "nobody@old.test"), 550)
                self.assertEqual(self.rcpt(one, "broken"), 451)
                self.bad(one, "broken", "x", b"[UNAVAILABLE]")
                with Imap(one.at("imap")) as client:
                    client.login("carol@old.test", OLD)
                    self.assertIn(b"(STORAGE 1 4)", b" ".join(client.ok("GETQUOTAROOT INBOX")))
                listed = json.loads(one.tool("--json", "user", "list").stdout)
                self.assertEqual({(u["name"], u["backend"]) for u in listed},
                                 {("alice", "users"), ("bob", "users"), ("dan", "userdb"),
                                  ("carol@old.test", "userdb")})
                checked = one.tool("--json", "user", "check", check=False)
                found = json.loads(checked.stdout)
                self.assertEqual(checked.returncode, 1)
                text_of = "\n".join(found["problems"] + found["remarks"])
                self.assertIn("user broken: systempw: password scheme {NTLM} isn't taken", text_of)
                self.assertIn("user dan: weak password scheme MD5-CRYPT, SSHA", text_of)
                self.assertIn("user dan: Maildir /home/dan/Maildir, but the store has", text_of)

    def test_passwd_with_every_scheme_that_doveadm_has(self):
        listed = self.hashed("-l").split()
        no_login = {"OTP", "PLAIN-MD4", "PLAIN-TRUNC"}
        self.assertGreater(len(listed), 25)
        lines, users = [], []
        for scheme in listed:
            for suffix in ("", ".hex", ".b64"):
                binary = any(word in scheme for word in ("SHA", "MD5")) and not any(
                    word in scheme for word in ("CRYPT", "SCRAM")) and scheme != "MD5"
                if suffix and not binary:
                    continue
                name = f"{scheme}{suffix}".lower()
                users.append((name, scheme))
                lines.append(f"{name}:" + self.hashed("-s", scheme + suffix, "-u", name, "-p", OLD)
                             + "::::::")
        apache = proc.run(["openssl", "passwd", "-apr1", OLD]).stdout.decode().strip()
        lines.append(f"apache:{apache}")
        users.append(("apache", ""))
        path = proc.new_dir("pw") / "passwd"
        path.write_text("\n".join(lines) + "\n")
        one = self.site(["passwd"], f'[auth.passwd]\npath = "{path}"')
        for name, scheme in users:
            with self.subTest(name):
                if scheme in no_login:
                    self.bad(one, name, OLD, b"[UNAVAILABLE]")
                    continue
                self.good(one, name)
                self.bad(one, name)

    def test_sasldb_as_saslpasswd2_makes_it(self):
        self.need("saslpasswd2")
        path = old_users.make_sasldb(proc.new_dir("sb") / "sasldb2",
                                     [("erin", "here.test", OLD), ("finn", "old.test", "other")])
        one = self.site(["users", "sasldb"],
                        f'[auth.sasldb]\npath = "{path}"\nrealm = "here.test"',
                        'mechanisms = ["PLAIN", "CRAM-MD5", "DIGEST-MD5", "CRAM-SHA256"]')
        self.good(one, "erin")
        self.bad(one, "erin")
        self.good(one, "finn@old.test", "other")
        self.bad(one, "finn", "other")
        for hash in ("md5", "sha256"):
            self.assertTrue(self.cram(one, "erin", hash=hash))
            self.assertFalse(self.cram(one, "erin", "wrong", hash))
        self.assertEqual((self.rcpt(one, "finn@old.test"), self.rcpt(one, "finn@gone.test")),
                         (250, 550))
        # What is added meanwhile is known.
        old_users.make_sasldb(path, [("gus", "here.test", OLD)])
        self.good(one, "gus")

    # -- daemons -----------------------------------------------------------------

    def test_authdaemon(self):
        if not old_users.Authdaemon.can_run():
            self.skipTest("no courier-authdaemon, or no right to mount")
        pw = lambda kind: proc.run([self.need("userdbpw"), kind],
                                   stdin=OLD + "\n").stdout.decode().strip()
        daemon = old_users.Authdaemon(
            f"carol@old.test\tuid=1|gid=1|home=/home/carol|systempw={pw('-md5')}|"
            f"hmac-md5pw={pw('-hmac-md5')}|quota=5000S|options=disablepop3=1\n").start()
        self.addCleanup(lambda: daemon.child.alive() and daemon.stop())
        one = self.site(["users", "authdaemon"], f'[auth.authdaemon]\nsocket = "{daemon.socket}"',
                        'remember_seconds = 0\nmechanisms = ["PLAIN", "LOGIN", "CRAM-MD5"]')
        self.good(one, "carol@old.test")
        self.bad(one, "carol@old.test")
        self.bad(one, "nobody@old.test")
        self.assertTrue(self.cram(one, "carol@old.test"))
        self.assertFalse(self.cram(one, "carol@old.test", "wrong"))
        self.assertFalse(self.pop3(one, "carol@old.test"), "disablepop3")
        self.assertEqual((self.rcpt(one, "carol@old.test"), self.rcpt(one, "nobody@old.test")),
                         (250, 550))
        listed = json.loads(one.tool("--json", "user", "list").stdout)
        self.assertIn(("carol@old.test", "authdaemon"), {(u["name"], u["backend"]) for u in listed})
        # authuserdb takes a new password, where the old one is right.
        changed = one.tool("user", "passwd", "carol@old.test", stdin="wrong\nneu\n", check=False)
        self.assertEqual(changed.returncode, 65, changed.stderr)
        daemon.stop()
        self.bad(one, "carol@old.test", OLD, b"[UNAVAILABLE]")
        self.bad(one, "nobody@old.test", OLD, b"[UNAVAILABLE]")
        self.good(one, "alice", PASSWORD)
        self.assertEqual((self.rcpt(one, "carol@old.test"), self.rcpt(one, "nobody@old.test"),
                          self.rcpt(one, "alice@old.test")), (451, 451, 451))
        self.assertEqual(self.rcpt(one, "alice"), 250)
        daemon.start()
        self.good(one, "carol@old.test")

    def test_saslauthd(self):
        if not old_users.Saslauthd.can_run() or not proc.find_program("saslauthd"):
            self.skipTest("no sasl2-bin, or no right to mount")
        path = old_users.make_sasldb(proc.new_dir("sb") / "sasldb2", [("hal", "old.test", OLD)])
        daemon = old_users.Saslauthd().start(path)
        self.addCleanup(lambda: daemon.child.alive() and daemon.stop())
        one = self.site(["users", "saslauthd"], f'[auth.saslauthd]\nsocket = "{daemon.socket}"',
                        "remember_seconds = 0")
        self.assertEqual(self.rcpt(one, "hal@old.test"), 550)
        self.bad(one, "hal@old.test")
        self.assertEqual(self.rcpt(one, "hal@old.test"), 550)
        self.good(one, "hal@old.test")
        self.assertEqual((self.rcpt(one, "hal@old.test"), self.rcpt(one, "ida@old.test")), (250, 550))
        self.assertTrue(self.pop3(one, "hal@old.test"))
        self.bad(one, "alice", OLD)
        daemon.stop()
        self.bad(one, "hal@old.test", OLD, b"[UNAVAILABLE]")
        self.good(one, "alice", PASSWORD)

    def test_a_maildir_that_agrees_is_served_where_it_is(self):
        make = proc.new_dir("ud")
        (make / "userdb").write_text(
            f"carol\thome={make}/mail/carol|systempw={self.hashed('-s', 'MD5-CRYPT', '-p', OLD)}\n")
        one = server.make("maildir", extra=f'[auth]\nbackends = ["userdb"]\n'
                                           f'[auth.userdb]\npath = "{make}/userdb"\n'
                                           f'[[partition]]\nname = "old"\npath = "{make}/mail"\n'
                                           'user_path = "{user}/Maildir"\n')
        self.servers.append(one)
        one.added = True
        one.start()
        self.assertEqual(one.tool("user", "check").returncode, 0)
        self.assertEqual(self.rcpt(one, "carol"), 250)
        self.assertEqual(len(list((make / "mail/carol/Maildir").glob("*/*carol*"))
                             + list((make / "mail/carol/Maildir/cur").iterdir())
                             + list((make / "mail/carol/Maildir/new").iterdir())), 1)
        refused = one.tool("user", "add", "new", stdin="x\n", check=False)
        self.assertEqual(refused.returncode, 78)
