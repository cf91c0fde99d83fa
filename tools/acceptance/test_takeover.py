"""Stores of other servers are served where they lie, as their own servers served them."""

import json
import pathlib
import re
import shutil

from harness import proc, taken
from harness.cyrus_case import LETTER, STORES, CyrusCase

PARTS = "UID FETCH %s (ENVELOPE BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[HEADER.FIELDS (SUBJECT X-A)])"


class CyrusTakeover(CyrusCase):
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
        self.compare_columns(one, answers)
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

        def look():
            if (one.state / "takeover-cyrus.begun").exists():
                self.refused(one, "`cursus takeover cyrus` goes on with it")
        killed = self.killed_ever_later(one, "takeover", 0.005, 1.3, look)
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


class CyrusHandback(CyrusCase):
    """A store comes back to Debian's Cyrus, unchanged and changed, and goes the other way again."""

    seconds = 300

    def test_what_was_not_taken_over_is_not_handed_back(self):
        one = self.store("cyrus-3.6-uuid")
        before = self.tree(one)
        done = one.hand_back(check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("nothing was taken over", done.stderr)
        self.assertEqual(self.tree(one), before)
        one.take_over()
        one.hand_back()
        # Nor twice: whoever asks again, because the first was cut off at its end, loses nothing.
        before = self.tree(one)
        self.assertIn("all was handed back before", one.hand_back().stdout)
        self.assertEqual(self.tree(one), before)

    def test_who_is_denied_services_is_named(self):
        one = self.store("cyrus-3.6-uuid")
        (one.root / "lib/user_deny.db").write_text("alice\t2\timap.*\tgo away\n")
        done = one.take_over()
        self.assertIn("alice: in Cyrus's deny list; set auth.deny_file =", done.stderr)

    def test_what_was_not_taken_over_is_not_served_as_empty(self):
        one = self.store("cyrus-3.6-legacydirs")
        before = self.tree(one)
        one.add_users()
        one.start()
        with self.assertRaises(AssertionError) as refused, one.imap() as client:
            client.select("INBOX")
        self.assertIn("not taken over", str(refused.exception))
        self.assertEqual(one.stop(), 0)
        self.assertEqual(self.tree(one), before)
        # By id nobody's directory tells whose it is: the server does not start.
        one = self.store("cyrus-3.6-uuid")
        one.add_users()
        self.refused(one, "uuid are not taken over: `cursus takeover cyrus`")
        one.take_over()
        one.hand_back()
        self.refused(one, "uuid are not taken over: `cursus takeover cyrus`")

    def test_an_unchanged_store_comes_back_as_it_was(self):
        one = self.store("cyrus-3.6-uuid")
        before = self.tree(one)
        one.take_over()
        one.hand_back()
        self.assertEqual(self.tree(one), before)

    def back_and_forth(self, name):
        one = self.store(name)
        peer = self.cyrus(one)
        dot = STORES[name]
        self.serve_taken(one)
        names = self.change(one)
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
        self.serve_taken(one)
        self.compare(one, taken.answers(one.name))
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        # An administrator who logged in here has no mailbox there.
        self.assertNotIn("user/cyrus", self.nothing_to_mend(peer))

    def test_by_name_changed_and_back_and_forth(self):
        self.back_and_forth("cyrus-3.6-legacydirs")

    def test_by_id_changed_and_back_and_forth(self):
        self.back_and_forth("cyrus-3.6-uuid")


class CyrusArchive(CyrusCase):
    seconds = 300

    def test_archived_messages_are_brought_back(self):
        """Debian's cyr_expire moves all messages to archive partitions; they are served, and Cyrus finds them again."""
        # Of indexes of the oldest versions Debian's archives nothing: there all of one mailbox.
        for name, which in (("cyrus-3.6-uuid", ()), ("cyrus-3.6-legacydirs", ("-p", "user/alice/Many"))):
            with self.subTest(store=name):
                self.check_archive(name, which)

    def check_archive(self, name, which):
        one = self.store(name)
        mailbox = one.separator.join(("INBOX", "Many")) if which else "INBOX"
        peer = self.cyrus(one)
        text = one.imapd_conf.read_text()
        partitions = re.findall(r"^partition-(\S+):", text, re.M)
        archive = one.root / "archive"
        more = "".join(f"archivepartition-{part}: {archive}/{part}\n" for part in partitions)
        for part in partitions:
            (archive / part).mkdir(parents=True)
        one.imapd_conf.write_text(text + "archive_enabled: yes\n" + more)
        peer.tool("cyr_expire", "-E", "1", "-A", "0", *which)
        archived = {path for path in one.message_files() if path.startswith("archive/")}
        self.assertGreater(len(archived), 10)
        alone = one.take_over("--dry-run", check=False)
        self.assertEqual(alone.returncode, 1)
        self.assertIn("messages are in an archive partition (archivepartition-", alone.stderr)
        self.assertIn("left alone", alone.stderr)
        dry = one.take_over("--dry-run", "--from-archive")
        self.assertIn("to be copied from the archive partition", dry.stderr)
        self.assertEqual({path for path in one.message_files() if path in archived}, archived)
        one.take_over("--from-archive")
        one.add_users()
        one.start()
        self.compare(one, taken.answers(name))
        with one.imap() as client:
            client.select(mailbox)
            client.ok("UID STORE 1 +FLAGS (\\Deleted)")
            client.ok("UID EXPUNGE 1")
        self.assertEqual(one.stop(), 0)
        # Nothing of Cyrus's was changed till now.
        self.assertLessEqual(archived, set(one.message_files()))
        one.hand_back()
        self.nothing_to_mend(peer)
        left = {path for path in one.message_files() if path.startswith("archive/")}
        self.assertLess(len(left), len(archived) // 2)
        peer.start()
        with peer.imap("alice") as client:
            client.select(mailbox)
            self.assertNotIn(1, client.bodies())
            self.assertGreater(len(client.bodies()), 2)
        peer.stop()


class CyrusLeftovers(CyrusCase):
    """What delayed expunge and delayed delete left in Cyrus's files goes when it is old."""

    seconds = 300

    def expire(self, one, *options, **more):
        done = one.tool("expire", "cyrus", "--imapd-conf", one.imapd_conf, *options, **more)
        return done.stdout.decode()

    def removed_by_cyrus(self, one, peer):
        """Message files that Debian's cyr_expire removes from a copy of the store."""
        before = set(one.message_files())
        kept = proc.new_dir("kept") / "store"
        shutil.copytree(one.root, kept, symlinks=True)
        peer.tool("cyr_expire", "-E", "1", "-X", "0", "-D", "0")
        after = set(one.message_files())
        shutil.rmtree(one.root)
        shutil.copytree(kept, one.root, symlinks=True)
        return before - after

    def check_expiry(self, name):
        one = self.store(name)
        peer = self.cyrus(one)
        theirs = self.removed_by_cyrus(one, peer)
        self.serve_taken(one)
        before = set(one.message_files())
        both = ("--expunged", "0", "--deleted", "0")
        dry = self.expire(one, *both, "--dry-run")
        # Only that store has mailboxes under delayed delete.
        self.assertEqual("DELETED.user." in dry, "uuid" in name)
        none = "0 expunged messages (0 octets), 0 deleted mailboxes (0 files, 0 octets) removed\n"
        self.assertEqual(self.expire(one, "--expunged", "36500", "--deleted", "36500"), none)
        self.assertEqual(set(one.message_files()), before)
        self.assertEqual(self.expire(one, *both), dry.replace("to be removed", "removed"))
        self.assertEqual(before - set(one.message_files()), theirs)
        self.assertGreater(len(theirs), 2)
        self.assertEqual(self.expire(one, *both), none)
        # What is served is what it was.
        self.compare(one, taken.answers(name))
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.nothing_to_mend(peer)
        self.assertNotIn("DELETED", peer.tool("ctl_mboxlist", "-d"))
        self.assertNotIn("UID:", peer.tool("unexpunge", "-l", "user.alice"))

    def test_as_cyr_expire_by_name(self):
        self.check_expiry("cyrus-3.6-legacydirs")

    def test_as_cyr_expire_by_id(self):
        self.check_expiry("cyrus-3.6-uuid")

    def unexpunge(self, one, *options, **more):
        options = ("unexpunge", "cyrus", "--imapd-conf", one.imapd_conf, *options)
        done = one.tool(*options, **more)
        return done.stdout.decode()

    def test_as_unexpunge(self):
        """Listed and brought back as Debian's does, by the server that serves the store."""
        one = self.store("cyrus-3.6-uuid")
        peer = self.cyrus(one)
        listed = {}
        for name, here in (("user.alice", "INBOX"), ("user.alice.Work", "Work")):
            text = peer.tool("unexpunge", "-l", name)
            found = re.findall(r"UID: (\d+)\n\tSize: (\d+)\n.*?\n.*?\n.*?\n\tFrom: (.*)\n\tTo  : (.*)"
                               r"\n\tCc  : (.*)\n\tBcc : (.*)\n\tSubj: (.*)\n", text)
            listed.update({(here, int(uid)): tuple(rest) for uid, *rest in found})
        self.assertTrue(listed)
        (mailbox, uid), facts = sorted(listed.items())[0]
        name = {"INBOX": "user.alice", "Work": "user.alice.Work"}[mailbox]
        octets = (pathlib.Path(peer.tool("mbpath", name).strip()) / f"{uid}.").read_bytes()
        # What theirs does, on a copy.
        kept = proc.new_dir("kept") / "store"
        shutil.copytree(one.root, kept, symlinks=True)
        theirs = peer.tool("unexpunge", "-u", "-d", "-v", "-f", "Back", name, str(uid))
        new_uid = int(re.search(rf": {uid} => (\d+)", theirs)[1])
        shutil.rmtree(one.root)
        shutil.copytree(kept, one.root, symlinks=True)

        self.serve_taken(one)
        told = json.loads(self.unexpunge(one, "--user", "alice", "--json"))
        mine = {(m["mailbox"], m["uid"]): (str(m["size"]), m["from"], m["to"], m["cc"], m["bcc"],
                                           m["subject"]) for m in told["kept"]}
        self.assertEqual({key: value for key, value in mine.items() if key[0] in ("INBOX", "Work")},
                         listed)
        deleted = self.unexpunge(one, "--deleted-mailboxes")
        self.assertIn("DELETED.user.", deleted)
        back = ("--user", "alice", "--mailbox", mailbox, "--uid", str(uid), "--flag", "Back",
                "--clear-deleted")
        self.assertEqual(self.unexpunge(one, *back),
                         f"{mailbox}: {uid} => {new_uid}\nrestored 1 expunged messages\n")
        with one.imap("alice") as client:
            client.select(mailbox)
            self.assertEqual(client.bodies()[new_uid], octets)
            flags = client.ok(f"UID FETCH {new_uid} (FLAGS)")
            self.assertIn("Back", str(flags))
            self.assertNotIn("Deleted", str(flags))
        # It is brought back once.
        self.assertNotIn(f"UID: {uid}\n\tMbox: {mailbox}\n", self.unexpunge(one, "--user", "alice"))
        again = one.tool("unexpunge", "cyrus", "--imapd-conf", one.imapd_conf, *back, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn(f"nothing is kept of UID {uid}".encode(), again.stderr)
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.nothing_to_mend(peer)
        self.assertNotIn(f"UID: {uid}\n", peer.tool("unexpunge", "-l", name))

    def test_unexpunge_cut_off_before_an_old_file_went(self):
        """What came back already is known by the note of the run that was cut off, and not brought twice."""
        one = self.store("cyrus-3.6-uuid")
        self.serve_taken(one)
        kept = json.loads(self.unexpunge(one, "--user", "alice", "--mailbox", "INBOX", "--json"))["kept"]
        self.assertEqual(len(kept), 1)
        notes = lambda: list(one.state.glob("unexpunge-cyrus.*"))
        back = ("--user", "alice", "--mailbox", "INBOX", "--all")
        # An import that fails leaves the note, and nothing else.
        before = self.tree(one)
        one.tool("quota", "set", "alice", "--storage", "1")
        failed = one.tool("unexpunge", "cyrus", "--imapd-conf", one.imapd_conf, *back, check=False)
        self.assertEqual(failed.returncode, 1, failed.stderr)
        self.assertEqual(len(notes()), 1)
        path, note = notes()[0], notes()[0].read_bytes()
        one.tool("quota", "set", "alice")
        told = self.unexpunge(one, *back)
        self.assertIn("restored 1 expunged messages", told)
        self.assertEqual(notes(), [])
        with one.imap() as client:
            came = client.select("INBOX")["exists"]
        # As if it had been killed behind the import.
        gone = [name for name in before if re.search(r"/[0-9]+\.$", name) and not (one.root / name).exists()]
        self.assertEqual(len(gone), 1)
        files = (gone[0], str(pathlib.PurePath(gone[0]).with_name("cyrus.index")))
        put_back = lambda: [(one.root / name).write_bytes(before[name]) for name in files]
        put_back()
        path.write_bytes(note)
        self.assertEqual(self.unexpunge(one, *back), told)
        self.assertFalse((one.root / gone[0]).exists())
        self.assertEqual(notes(), [])
        with one.imap() as client:
            self.assertEqual(client.select("INBOX")["exists"], came)
        # Without it, it is as if it had been kept anew.
        put_back()
        self.assertNotEqual(self.unexpunge(one, *back), told)
        self.assertEqual(one.stop(), 0)

    def test_files_that_are_gone_or_others(self):
        """An expunged message's file that somebody removed is no finding; one that is another message
        stays."""
        one = self.store("cyrus-3.6-uuid")
        peer = self.cyrus(one)
        one.take_over()
        before = set(one.message_files())
        dry = json.loads(self.expire(one, "--expunged", "0", "--dry-run", "--json"))
        listed = [(mailbox["mailbox"], uid) for mailbox in dry["removed"] for uid in mailbox["uids"]]
        self.assertGreater(len(listed), 1)
        (gone, gone_uid), (other, other_uid) = listed[0], listed[-1]
        place = lambda name, uid: pathlib.Path(peer.tool("mbpath", name).strip()) / f"{uid}."
        place(gone, gone_uid).unlink()
        place(other, other_uid).write_bytes(LETTER)
        told = one.tool("expire", "cyrus", "--imapd-conf", one.imapd_conf, "--expunged", "0", check=False)
        self.assertEqual(told.returncode, 1)
        self.assertIn(b"stays: it is not the message", told.stderr)
        self.assertEqual(place(other, other_uid).read_bytes(), LETTER)
        self.assertEqual(len(before - set(one.message_files())), len(listed) - 1)
