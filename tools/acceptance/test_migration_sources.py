"""How `cursus migrate imap` logs in to Debian's Dovecot and Cyrus, and whose mailboxes it copies there."""

import base64
import hashlib
import hmac
import json
import time

from harness import corpus, moving, peers, proc
from harness.case import Case
from harness.server import PASSWORD
from test_migration import Migration

MASTER = ("admin", "master secret")
KEY = b"a key of the issuer's, long enough for HS256"


def token(user, seconds=600, key=KEY):
    """An access token in the form of a JSON Web Token."""
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    now = int(time.time())
    claims = {"sub": user, "iat": now, "nbf": now - 5, "exp": now + seconds}
    signed = b".".join(part(json.dumps(one).encode()) for one in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + part(hmac.new(key, signed, hashlib.sha256).digest())).decode()


class MasterDovecot(peers.Dovecot):
    """With a master user, and with access tokens that it looks through itself."""

    def start(self):
        super().start()
        keys = self.dir / "keys" / "default" / "HS256"
        keys.mkdir(parents=True)
        (keys / "default").write_bytes(base64.b64encode(KEY))
        (self.dir / "masters").write_text("%s:{PLAIN}%s\n" % MASTER)
        (self.dir / "oauth2.conf.ext").write_text(
            "introspection_mode = local\n"
            f"local_validation_key_dict = fs:posix:prefix={self.dir}/keys/\n"
            "username_attribute = sub\n")
        conf = self.dir / "dovecot.conf"
        text = conf.read_text()
        first = "passdb {\n  driver = static\n"
        assert first in text
        conf.write_text(text.replace(first, f"""
auth_mechanisms = plain login oauthbearer xoauth2
auth_master_user_separator = *
auth_failure_delay = 0 secs
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
# Else access control lists hold for the master user, who has no rights.
plugin {{
  acl_user = %u
}}
passdb {{
  driver = passwd-file
  master = yes
  args = {self.dir}/masters
}}
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {self.dir}/oauth2.conf.ext
}}
{first}  mechanisms = plain login
"""))
        proc.run(["chmod", "-R", "go+rX", self.dir / "keys"])
        proc.run([proc.find_program("doveadm"), "-c", conf, "reload"])

        def is_new():
            try:
                client = moving.imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=5)
            except OSError:
                return False
            with client:
                return "AUTH=OAUTHBEARER" in client.capabilities
        proc.wait_until(is_new, 20, "Dovecot's new configuration")
        return self


class LogsIn(Migration):
    test_everything_comes_over_and_what_changes_later_too = None

    def setUp(self):
        super().setUp()
        for n in range(3):
            self.add("INBOX", n)
        self.secret = self.work / "secret"

    def logs_in(self, users, *options, secret=None):
        """Whether all come over as they should; None where the source says no."""
        self.users.write_text(users)
        if secret is not None:
            self.secret.write_text(secret + "\n")
            self.secret.chmod(0o600)
            options = (*options, "--master-password-file", self.secret)
        done = self.migrate(*options, "--state", self.work / f"state{time.monotonic_ns()}",
                            "--match", "message-id", check=False)
        if done["status"] == "failed":
            self.assertIn("login refused", done["error"])
            return None
        self.assertEqual((done["status"], done["messages"] + done["matched"]), ("done", 3), done)
        self.compare(["INBOX"])
        return True


class ByDovecotsMaster(LogsIn, Case):
    peer = MasterDovecot

    def test_a_master_user_by_star_and_by_authorization_identity(self):
        name, password = MASTER
        users = "user1\tann\n"
        for options in (["--master-star"], []):
            options = ("--master-user", name, *options)
            self.assertIsNone(self.logs_in(users, *options, secret="wrong"))
            # The users' own password is none of the master's.
            self.assertIsNone(self.logs_in(users, *options, secret=peers.PASSWORD))
            self.assertTrue(self.logs_in(users, *options, secret=password))
        self.assertIn("user1", self.source_server.log())

    def test_access_tokens_by_both_mechanisms(self):
        for option, mechanism in (("--bearer", "OAUTHBEARER"), ("--xoauth2", "XOAUTH2")):
            good, late = token("user1"), token("user1", -60)
            forged = token("user1", key=b"another key")
            for bad in (late, forged, token("user2")):
                self.assertIsNone(self.logs_in(f"user1\t{bad}\tann\n", option), (mechanism, bad))
            self.assertTrue(self.logs_in(f"user1\t{good}\tann\n", option), mechanism)
            self.assertIn(f"method={mechanism}", self.source_server.log())


class Namespaces(Migration):
    """Each mailbox comes over once, to its owner."""

    test_everything_comes_over_and_what_changes_later_too = None

    def mailboxes(self, user):
        listing = self.here.tool("mailbox", "list", user).stdout.decode()
        return {line.split("\t")[1] for line in listing.splitlines() if "\t" in line}

    def both(self, *options):
        self.users.write_text(f"user1\t{peers.PASSWORD}\tann\nuser2\t{peers.PASSWORD}\tbob\n")
        done = json.loads(proc.run(self.argv(*options)).stdout)
        self.assertEqual([one["status"] for one in done], ["done", "done"], done)
        return done

    def seen_by(self, user, ending):
        other = moving.login(self.source_server.ports["imap"], user, peers.PASSWORD)
        names = [line.decode() for line in moving.ok(other.list()) if line]
        other.logout()
        return [name for name in names if name.rstrip('"').endswith(ending)]


class OfDovecot(Namespaces, Case):
    peer = peers.Dovecot

    def test_what_another_user_shares_is_not_copied_twice(self):
        self.source.create("Work")
        self.add("Work", 1)
        moving.ok(self.source.client.setacl("Work", "user2", "lrs"))
        self.assertTrue(self.seen_by("user2", "Other Users/user1/Work"))
        ann, bob = self.both()
        self.assertEqual((ann["messages"], bob["messages"]), (1, 0))
        self.assertIn("other users' mailboxes are not copied", " ".join(bob["notes"]))
        self.assertEqual(self.mailboxes("bob"), {"INBOX"})
        # Bob sees it here as he did there.
        with self.here.imap("bob") as client:
            self.assertEqual(client.select("Other Users/ann/Work")["exists"], 1)


class OfCyrus(Namespaces, Case):
    peer = peers.Cyrus
    prefix = "Shared Folders/"

    def test_shared_folders_come_once_and_where_they_are_shared(self):
        admin = moving.login(self.source_server.ports["imap"], peers.ADMIN, peers.PASSWORD)
        moving.ok(admin.create("board"))
        moving.ok(admin.setacl("board", "anyone", "lrs"))
        moving.ok(admin.setacl("board", "user1", "lrsip"))
        admin.logout()
        message = corpus.plain("for all")
        moving.ok(self.source.client.append(f'"{self.prefix}board"', None, None, message))
        self.source.create("Work")
        self.add("Work", 1)
        moving.ok(self.source.client.setacl("Work", "user2", "lrs"))
        self.assertTrue(self.seen_by("user2", self.prefix + "board"))
        self.assertTrue(self.seen_by("user2", "user1/Work"))
        ann, bob = self.both()
        self.assertEqual((ann["messages"], bob["messages"]), (1, 0))
        notes = " ".join(bob["notes"])
        self.assertIn("shared mailboxes are not copied", notes)
        self.assertIn("other users' mailboxes are not copied", notes)
        self.assertEqual(self.mailboxes("bob"), {"INBOX"})
        self.users.write_text(f"user2\t{peers.PASSWORD}\tbob\n")
        shared = self.migrate("--shared", "--delete")
        self.assertEqual((shared["status"], shared["messages"], shared["created"]), ("done", 1, 1))
        self.assertEqual(self.mailboxes("bob"), {"INBOX", "board"})
        self.nothing(self.migrate("--shared", "--delete"))
        # The run for users' own folders does not take it for one that is gone.
        self.assertEqual(self.migrate("--delete")["removed"], 0)
        self.assertEqual(self.mailboxes("bob"), {"INBOX", "board"})
