"""`cursus migrate imap --pop3` from Debian's Dovecot, Courier and Cyrus: clients that leave their mail on
the server by POP3 download nothing anew, whatever UIDLs are made of there."""

import hashlib
import json
import poplib
import re
import signal
import subprocess
import time

from harness import alternation, corpus, moving, peers, proc
from harness.case import Case
from harness.server import PASSWORD
from test_migration import Migration

USER = "user1"
MESSAGES = 24


class GuidDovecot(peers.Dovecot):
    """Its UIDLs are GUIDs, in Maildirs names of files, and no number of IMAP is in them."""

    def start(self):
        super().start()
        conf = self.dir / "dovecot.conf"
        conf.write_text(conf.read_text() + "pop3_uidl_format = %g\n")
        proc.run([proc.find_program("doveadm"), "-c", conf, "reload"])
        return self


class KeepsUidls(Migration):
    test_everything_comes_over_and_what_changes_later_too = None
    # What a UIDL of this server looks like.
    form = None

    def serve(self, **_):
        return super().serve(users=(USER, "bob"))

    def setUp(self):
        super().setUp()
        self.users.write_text(f"{USER}\t{peers.PASSWORD}\t{USER}\n")
        self.old = (self.source_server.ports["pop3"], peers.PASSWORD)
        self.new = (self.here.ports["pop3"], PASSWORD)
        self.more = ("--pop3", f"localhost:{self.old[0]}", "--pop3-tls", "none",
                     "--only", "INBOX", "--only", "Work")

    def mail(self, port, password):
        """Digests of messages by UIDL. TOP, as RETR marks messages as read."""
        client = poplib.POP3("127.0.0.1", port, timeout=60)
        if "UTF8" in client.capa():
            # Else headers of other than ASCII come in another form.
            client.utf8()
        client.user(USER)
        client.pass_(password)
        _, lines, _ = client.uidl()
        found = {}
        for line in lines:
            number, uidl = line.decode().split(" ", 1)
            _, text, _ = client.top(number, 1_000_000)
            found[uidl] = hashlib.sha256(b"\r\n".join(text)).hexdigest()
        client.quit()
        self.assertEqual(len(found), len(lines), "UIDLs are not distinct")
        return found

    def fill_inbox(self):
        for n in range(MESSAGES):
            # Few sizes, so that many messages have the same.
            self.add("INBOX", n, octets=200 + 100 * (n % 3))
        same = corpus.plain("twice", b"the same\r\n")
        other = same.replace(b"the same", b"not same")
        assert len(same) == len(other) and same != other
        for message in (same, other, same):
            self.source.append("INBOX", message, "", 1_100_000_000)
        # With those that are marked as deleted already.
        return MESSAGES + 3 - self.source.expunge("INBOX", "3")

    def test_clients_fetch_nothing_twice(self):
        self.source.create("Work")
        count = self.fill_inbox()
        fetch = proc.new_dir("fm")
        self.assertEqual(self.fetchmail(fetch, USER, *self.old), count)
        there = self.mail(*self.old)
        self.assertTrue(all(re.fullmatch(self.form, uidl) for uidl in there), list(there)[:3])

        first = self.migrate()
        self.assertEqual((first["status"], first["notes"]), ("done", []))
        self.assertEqual((first["messages"], first["uidls"]), (count, count))
        self.assertEqual(self.mail(*self.new), there)
        self.assertEqual(self.fetchmail(fetch, USER, *self.new), 0)
        again = self.migrate()
        self.nothing(again)
        self.assertEqual((again["uidls"], again["notes"]), (0, []))

        # New mail on either side; they stay through a stop.
        self.here.deliver(corpus.plain("here"), user=USER)
        self.add("INBOX", 500, octets=200)
        self.add("INBOX", 501, octets=200)
        last = self.migrate()
        self.assertEqual((last["status"], last["messages"], last["uidls"]), ("done", 2, 2))
        self.here.stop()
        self.here.start()
        there, here = self.mail(*self.old), self.mail(*self.new)
        self.assertLessEqual(there.items(), here.items())
        self.assertEqual(len(here), len(there) + 1)
        self.assertEqual(self.fetchmail(fetch, USER, *self.old), 2)
        self.assertEqual(self.fetchmail(fetch, USER, *self.new), 1)


class FromDovecot(KeepsUidls, Case):
    peer = GuidDovecot
    form = r"\d+\.M.*"

    def test_killed_and_run_again(self):
        self.source.create("Work")
        self.fill_inbox()
        for n in range(6):
            self.add("Work", 100 + n)
        for round in range(3):
            child = subprocess.Popen([str(a) for a in self.argv("--max-rate", "30K")],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(self.random.uniform(0.1, 0.9))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            # One of a message that has one by now, and one that is none's yet.
            self.add("INBOX", 600 + round, octets=200)
        last = self.migrate()
        self.assertEqual((last["status"], last["notes"]), ("done", []))
        self.assertEqual(self.mail(*self.new), self.mail(*self.old))
        self.assertEqual(self.migrate()["uidls"], 0)

    def test_what_is_not_the_same_message_is_named_and_left_out(self):
        self.source.create("Work")
        self.fill_inbox()
        # A POP3 server with other mail: one message of it is in INBOX, too.
        other = peers.Dovecot(2)
        self.addCleanup(other.stop)
        other.start()
        elsewhere = moving.Source(other, USER, peers.PASSWORD)
        self.addCleanup(elsewhere.client.shutdown)
        both = corpus.plain("in both")
        self.source.append("INBOX", both, "", 1_200_000_000)
        for message in (corpus.plain("nowhere else"), both):
            elsewhere.append("INBOX", message, "", 1_200_000_000)
        self.more = ("--pop3", f"localhost:{other.ports['pop3']}", *self.more[2:])
        first = self.migrate()
        self.assertEqual((first["status"], first["uidls"]), ("done", 1))
        [note] = first["notes"]
        self.assertIn("no message of INBOX is the same", note)
        theirs, here = self.mail(other.ports["pop3"], peers.PASSWORD), self.mail(*self.new)
        self.assertEqual(len(theirs.keys() & here.keys()), 1)
        self.assertEqual(len(theirs.items() & here.items()), 1)


class FromCourier(KeepsUidls, Case):
    peer = peers.Courier
    form = r"UID\d+-\d+"


class GivenBack(KeepsUidls):
    """What came over is a Maildir of another old server's, which serves it in the end."""

    test_clients_fetch_nothing_twice = None
    # Who gets the Maildir.
    next_server = None

    def setUp(self):
        super().setUp()
        self.new = (self.here.ports["pop3"], alternation.PASSWORD)

    def serve(self, **_):
        self.after = self.next_server(2)
        self.addCleanup(self.after.stop)
        self.after.start()
        maildir = json.loads((self.after.dir / "peer.json").read_text())["maildir"]
        self.after.stop()
        one = alternation.Turn(maildir, self.after.name)
        self.servers.append(one)
        one.start()
        return one

    def test_the_next_server_tells_the_same(self):
        self.source.create("Work")
        self.fill_inbox()
        first = self.migrate()
        self.assertEqual((first["status"], first["notes"]), ("done", []))
        there = self.mail(*self.old)
        self.assertEqual(self.mail(*self.new), there)
        # By a later run, too, when files were given back before.
        self.here.stop()
        self.here.start()
        self.add("INBOX", 500, octets=200)
        self.assertEqual(self.migrate()["uidls"], 1)
        there = self.mail(*self.old)
        self.here.stop()
        self.after.start()
        port = self.after.ports["pop3"]
        self.assertEqual(self.mail(port, peers.PASSWORD), there)
        # And what comes then has one of its own.
        moving.Source(self.after, USER, peers.PASSWORD).append(
            "INBOX", corpus.plain("later"), "", 1_300_000_000)
        later = self.mail(port, peers.PASSWORD)
        self.assertLess(there.items(), later.items())


class FromCourierToDovecot(GivenBack, Case):
    peer = peers.Courier
    next_server = peers.Dovecot


class FromCourierToCourier(GivenBack, Case):
    peer = peers.Courier
    next_server = peers.Courier


class FromDovecotToDovecot(GivenBack, Case):
    peer = GuidDovecot
    next_server = peers.Dovecot


class FromCyrus(KeepsUidls, Case):
    peer = peers.Cyrus
    form = r"\d+\.\d+"
