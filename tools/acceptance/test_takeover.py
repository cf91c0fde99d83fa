"""Stores of other servers are served where they lie, as their own servers served them."""

import json
import os
import re
import signal
import subprocess

from harness import proc, taken
from harness.case import Case

STORES = {"cyrus-3.6-legacydirs": "/", "cyrus-3.6-uuid": "."}


class CyrusTakeover(Case):
    layout = "cyrus"

    def store(self, name):
        self.only_cursus()
        one = taken.CyrusStore(name, STORES[name])
        self.servers.append(one)
        return one

    def compare(self, one, answers):
        """Everything that its own server answered is answered alike."""
        met = 0
        for wanted in answers["imap"]:
            user = wanted["user"]
            names = [name for name in wanted["mailboxes"]
                     if not name.startswith("DELETED") and not name.endswith("#sieve")]
            if user == "cyrus":
                names = [name for name in names if name.startswith("shared")]
            with self.subTest(user=user):
                got = taken.ask(one, user, names)
                self.assertEqual(got["lsub"], sorted(wanted["lsub"]))
            for name in names:
                with self.subTest(user=user, mailbox=name):
                    met += self.compare_mailbox(user, name, got["mailboxes"][name],
                                                wanted["mailboxes"][name])
        self.assertGreater(met, 70)

    def compare_mailbox(self, user, name, got, wanted):
        where = f"{name} of {user}"
        self.assertEqual(taken.USES & set(got["attrs"]), taken.USES & set(wanted["attrs"]), where)
        if "acl" in wanted and "acl" in got and user != "cyrus":
            pairs = wanted["acl"]
            acl = {who: "".join(sorted(rights)) for who, rights in zip(pairs[::2], pairs[1::2])}
            have = {user if who == "owner" else who: "".join(sorted(rights))
                    for who, rights in got["acl"].items()}
            # Letters of RFC 2086 come with those that took their place.
            plain = lambda acl: {who: re.sub("[cd]", "", rights) for who, rights in acl.items()}
            self.assertEqual(plain(have), plain(acl), where)
        limits = [m for line in wanted.get("quota", ()) for m in
                  re.findall(r"(STORAGE|MESSAGE) (\d+) (\d+)", line)]
        # Octets are rounded up here, down there.
        limit = lambda quota: [(what, most) for what, _, most in quota]
        self.assertEqual(limit(got["quota"]), limit(limits), where)
        if "status" not in wanted or "status" not in got:
            self.assertEqual("status" in wanted, "status" in got, where)
            return 0
        messages = {m["uid"]: {
            "flags": sorted(f for f in m["flags"] if f != "\\Recent"),
            "internaldate": taken.day(m["internaldate"]),
            "rfc822.size": m["rfc822.size"],
            # 0, which no MODSEQ is, for index versions that know none.
            "modseq": max(m["modseq"], 1),
            "sha256": m["sha256"],
        } for m in wanted["messages"]}
        self.assertEqual(sorted(got["messages"]), sorted(messages), where)
        for uid, message in messages.items():
            have = got["messages"][uid]
            self.assertEqual(have, message, f"{where}, UID {uid}")
        status = dict(wanted["status"])
        if re.search("V0[6-9]$", name):
            # Counted with an expunged one by its own server.
            status["MESSAGES"] = str(len(messages))
        have = {key: got["status"][key] for key in status}
        self.assertEqual(have, status, where)
        return len(messages)

    def check_takeover(self, name):
        one = self.store(name)
        before = one.message_files()
        dry = one.take_over("--dry-run").stdout
        self.assertIn("to be taken over", dry)
        self.assertFalse(list(one.spool.rglob("cursus.*")), "a dry run wrote something")
        told = one.take_over().stdout
        self.assertIn(" taken over", told)
        again = one.take_over().stdout
        self.assertIn("0 users, 0 mailboxes, 0 messages taken over", again)
        one.tool("check")
        one.add_users()
        one.start()
        answers = taken.answers(name)
        self.compare(one, answers)
        for user, wanted in answers["pop3"].items():
            with one.pop3(user) as client:
                self.assertEqual([l.decode() for l in client.lines("LIST")], wanted["list"])
                self.assertEqual([l.decode() for l in client.lines("UIDL")], wanted["uidl"])
        self.assertEqual(one.stop(), 0)
        self.assertEqual(one.message_files(), before)

    def test_directories_by_name(self):
        self.check_takeover("cyrus-3.6-legacydirs")

    def test_directories_by_id(self):
        self.check_takeover("cyrus-3.6-uuid")

    def test_a_takeover_goes_on_after_kill_9(self):
        """Killed ever later; what was done stays done, the rest follows, nothing is there twice."""
        one = self.store("cyrus-3.6-legacydirs")
        before = one.message_files()
        argv = [proc.BINARIES / "cursus", "--config", one.config, "takeover", "cyrus",
                "--imapd-conf", one.imapd_conf]
        killed, pause = 0, 0.005
        while True:
            child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                _, told = child.communicate(timeout=pause)
                self.assertEqual(child.returncode, 0, told)
                break
            except subprocess.TimeoutExpired:
                os.kill(child.pid, signal.SIGKILL)
                child.communicate()
                killed += 1
            pause *= 1.3
        self.assertGreater(killed, 3)
        one.tool("check")
        one.add_users()
        one.start()
        self.compare(one, taken.answers(one.name))
        one.stop()
        self.assertEqual(one.message_files(), before)

    def test_a_damaged_index_is_named_and_nothing_else_is_touched(self):
        one = self.store("cyrus-3.6-legacydirs")
        index = one.spool / "a/user/alice/Work/cyrus.index"
        whole = bytearray(index.read_bytes())
        whole[200] ^= 0x40
        index.write_bytes(whole)
        done = one.take_over(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("user.alice.Work: left alone: ", done.stderr)
        self.assertIn("checksum", done.stderr)
        one.add_users()
        one.start()
        with one.imap() as client:
            names = b"".join(client.ok('LIST "" "*"'))
            self.assertIn(b"INBOX/Many", names)
            # Its place is another server's: no mailbox of ours may come there.
            answer = client.command('CREATE INBOX/Work')
            self.assertIn(b" NO ", answer[-1])
        one.stop()
        done = one.take_over("--rebuild-damaged", check=False)
        self.assertIn("begun anew, flags are lost", done.stderr)
        one.start()
        with one.imap() as client:
            state = client.select("INBOX/Work")
            self.assertEqual(state["exists"], 3)
            self.assertGreater(state["uidvalidity"], 1795466534)


LETTER = (b"From: =?utf-8?q?J=C3=B6rg?= <j@example.net>\r\nTo: Alice <alice@internal.test>\r\n"
          b"Date: Thu, 02 Jul 2026 10:00:00 +0200\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= \"x\"\r\n"
          b"Message-ID: <letter@example.net>\r\nMIME-Version: 1.0\r\n"
          b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
          b"Content-Transfer-Encoding: quoted-printable\r\n\r\nsch=C3=B6n\r\n--b\r\n"
          b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n")
PARTS = "UID FETCH %s (ENVELOPE BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[HEADER.FIELDS (SUBJECT X-A)])"


class CyrusHandback(CyrusTakeover):
    """A store comes back to Debian's Cyrus, unchanged and changed, and goes the other way again."""

    # Those of the class above are not to be run twice.
    test_directories_by_name = test_directories_by_id = None
    test_a_takeover_goes_on_after_kill_9 = None
    test_a_damaged_index_is_named_and_nothing_else_is_touched = None
    seconds = 300

    def cyrus(self, one):
        peer = taken.CyrusServer(one)
        peer.need(self)
        self.addCleanup(peer.stop)
        return peer

    def nothing_to_mend(self, peer):
        """`reconstruct -n` names mailboxes and says no word more; `quota -f` corrects nothing."""
        told = peer.tool("reconstruct", "-n").splitlines()
        more = [line for line in told if " " in line.strip()]
        self.assertEqual(more, [])
        self.assertGreater(len(told), 10)
        before = self.quota_files(peer)
        peer.tool("quota", "-f")
        self.assertEqual(self.quota_files(peer), before)

    def quota_files(self, peer):
        # What `quota -f` writes has its own MODSEQ.
        return {str(path): re.sub(rb" MODSEQ \d+", b"", path.read_bytes())
                for path in (peer.root / "lib").rglob("quota/*/*")}

    def tree(self, one):
        """All of Cyrus's files."""
        return {str(path.relative_to(one.root)): path.read_bytes()
                for path in sorted(one.root.rglob("*")) if path.is_file()}

    def test_an_unchanged_store_comes_back_as_it_was(self):
        one = self.store("cyrus-3.6-uuid")
        before = self.tree(one)
        one.take_over()
        one.hand_back()
        self.assertEqual(self.tree(one), before)

    def change(self, one, dot):
        """Changes of every kind, by Cursus; gives the names that alice has then."""
        inbox = lambda *levels: dot.join(("INBOX",) + levels)
        with one.imap() as client:
            client.append("INBOX", LETTER, b"\\Flagged NewWord")
            client.select("INBOX")
            client.ok("UID STORE 1 -FLAGS (\\Seen)")
            client.ok("UID STORE 2 +FLAGS ($Label1 other)")
            client.ok("UID STORE 3 +FLAGS (\\Deleted)")
            client.ok("UID EXPUNGE 3")
            client.ok(f"CREATE {inbox('New')}")
            client.ok(f"CREATE {inbox('New', 'Below')}")
            client.append(inbox("New", "Below"), LETTER)
            client.ok(f"RENAME {inbox('Many')} {inbox('Lots')}")
            client.ok(f"DELETE {inbox('Trash')}")
            client.ok(f"SUBSCRIBE {inbox('New')}")
            client.ok(f"UNSUBSCRIBE {inbox('Work')}")
            client.ok(f"SETACL {inbox('New')} bob lrs")
            client.ok(f'SETMETADATA {inbox("New")} (/shared/comment "a new one")')
            client.ok(f"UID COPY 1:2 {inbox('New')}")
            names = [taken.words(line)[-1] for line in taken.text_of(client.ok('LIST "" "INBOX*"'))[:-1]]
        with one.imap("bob") as client:
            client.select(dot.join(("user", "alice", "Work")))
            client.ok("UID STORE 1:3 +FLAGS (\\Seen)")
        one.deliver(LETTER.replace(b"letter@", b"delivered@"), "bob")
        return names

    def states(self, one, names, dot):
        others = dot.join(("user", "alice", "Work"))
        asked = {"alice": names + ["shared"], "bob": ["INBOX", others, "shared"], "carol": ["INBOX", others]}
        return {user: taken.alike(taken.ask(one, user, wanted), user) for user, wanted in asked.items()}

    def back_and_forth(self, name):
        one = self.store(name)
        peer = self.cyrus(one)
        dot = STORES[name]
        one.take_over()
        one.add_users()
        one.start()
        names = self.change(one, dot)
        mine = self.states(one, names, dot)
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.assertFalse(list(one.root.rglob("cursus.*")))
        self.nothing_to_mend(peer)
        peer.start()
        theirs = self.states(peer, names, dot)
        self.maxDiff = None
        for user in mine:
            for mailbox in mine[user]["mailboxes"]:
                with self.subTest(user=user, mailbox=mailbox):
                    self.assertEqual(theirs[user]["mailboxes"][mailbox], mine[user]["mailboxes"][mailbox])
            self.assertEqual(theirs[user]["lsub"], mine[user]["lsub"])
        # What its cache says of messages that it has not seen before.
        with peer.imap("alice") as client:
            state = client.select("INBOX")
            whole = b"".join(client.ok(PARTS % (state["uidnext"] - 1)))
            self.assertIn(b'("APPLICATION" "OCTET-STREAM" NIL NIL NIL "BASE64" 8', whole)
            self.assertIn(b"sch=C3=B6n", whole)
            self.assertIn(b"AAECAw==", whole)
            self.assertIn(b"Subject: =?utf-8", whole)
            client.ok('SEARCH SUBJECT "x" FROM "j@example.net"')
            # And what it does with the store from here on.
            client.ok("UID STORE 2 -FLAGS (other)")
            client.append("INBOX", LETTER.replace(b"letter@", b"again@"))
        theirs = self.states(peer, names, dot)
        peer.stop()
        one.take_over()
        one.start()
        mine = self.states(one, names, dot)
        for user in mine:
            with self.subTest(user=user, round=2):
                self.assertEqual(mine[user], theirs[user])
        one.stop()

    def test_lists_of_2_4_and_back_to_3_6(self):
        """mailboxes.db and subscriptions as 2.4 writes them: without ids, UIDVALIDITY and types."""
        one = self.store("cyrus-3.6-legacydirs")
        lib = one.root / "lib"
        listed = json.loads((one.root / "ctl_mboxlist-d.txt").read_text())
        # Sorted by their bytes; tabs in values are as they are.
        lines = sorted(
            f"{name}\t0 {box['partition']} "
            + "".join(f"{who}\t{rights}\t" for who, rights in box["acl"].items()) + "\n"
            for name, box in listed.items() if "partition" in box)
        (lib / "mailboxes.db").write_text("".join(lines))
        (lib / "user/a/alice.sub").write_text(
            "shared\t\nuser.alice\t\nuser.alice.Entw&APw-rfe\t\nuser.alice.Work\t\n")
        (lib / "user/b/bob.sub").write_text("user.alice.Work\t\n")
        peer = self.cyrus(one)
        one.take_over()
        one.add_users()
        one.start()
        self.compare(one, taken.answers(one.name))
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.nothing_to_mend(peer)

    def test_by_name_changed_and_back_and_forth(self):
        self.back_and_forth("cyrus-3.6-legacydirs")

    def test_by_id_changed_and_back_and_forth(self):
        self.back_and_forth("cyrus-3.6-uuid")
