"""A Cyrus store on its way over or back: killed, no room left, damaged, locked, followed.

Whatever happens half-way, Cyrus's own files are whole, what is wrong is named, and a second run
finishes.
"""

import json
import os
import shutil
import subprocess
import sys
import time

from harness import proc, taken
from harness.cyrus_case import LETTER, CyrusCase

# Holds a lock as Cyrus's programs do, until its input ends.
LOCKER = ("import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
          "print('locked', flush=True); sys.stdin.read()")


class CyrusFaults(CyrusCase):
    seconds = 300

    def back_in_order(self, one, names):
        """After the hand-back Cyrus finds nothing to mend and has what was here."""
        peer = self.cyrus(one)
        self.nothing_to_mend(peer)
        peer.start()
        with peer.imap("alice") as client:
            self.assertEqual(client.select("INBOX")["exists"], self.inbox)
            for name in names:
                client.ok(f'EXAMINE "{name}"')
        peer.stop()

    def small_spool(self, one, mebibytes=8):
        """Puts the spool on a small filesystem; gives what leaves so many KiB of it."""
        copy = proc.new_dir("spool")
        shutil.copytree(one.spool, copy / "all", symlinks=True)
        done = proc.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "none", one.spool],
                        check=False)
        if done.returncode:
            self.skipTest("cannot mount a small filesystem: " + done.stderr.decode().strip())
        self.addCleanup(proc.run, ["umount", "-l", one.spool], check=False)
        proc.run(["cp", "-a", f"{copy}/all/.", one.spool])

        def leave(kibibytes):
            filler = one.spool / "filler"
            filler.unlink(missing_ok=True)
            if kibibytes is None:
                return
            stat = os.statvfs(one.spool)
            with open(filler, "wb") as out:
                out.write(b"x" * max(0, stat.f_bavail * stat.f_frsize - kibibytes * 1024))
        return leave

    def test_no_room_for_a_takeover(self):
        one = self.store("cyrus-3.6-legacydirs")
        leave = self.small_spool(one)
        before = self.cyrus_files(one)
        refused = 0
        for kibibytes in (0, 40, 160):
            leave(kibibytes)
            done = one.take_over(check=False)
            leave(None)
            self.assertEqual(self.cyrus_files(one), before, kibibytes)
            if done.returncode != 0:
                self.assertIn("no space left", done.stderr.lower())
                refused += 1
        self.assertGreater(refused, 1)
        one.take_over()
        one.tool("check")
        one.add_users()
        one.start()
        self.compare(one, taken.answers(one.name))

    def test_no_room_for_a_hand_back(self):
        one, names = self.changed_and_stopped("cyrus-3.6-uuid")
        leave = self.small_spool(one)
        before = self.cyrus_files(one)
        refused = 0
        for kibibytes in (0, 8, 24):
            leave(kibibytes)
            done = one.hand_back(check=False)
            leave(None)
            if done.returncode == 0:
                break
            refused += 1
            self.assertIn("no space left", done.stderr.lower())
            self.assertEqual(self.cyrus_files(one), before, kibibytes)
            self.assertEqual([], list(one.root.rglob("*.NEW")), "what was begun is removed")
        self.assertGreater(refused, 0)
        if done.returncode:
            one.hand_back()
        self.back_in_order(one, names)

    def test_a_hand_back_goes_on_after_kill_9(self):
        """Killed ever later: each file of Cyrus's is the one before or the one behind, whole."""
        one, names = self.changed_and_stopped("cyrus-3.6-legacydirs")
        states = [self.cyrus_files(one)]

        def look():
            states.append(self.cyrus_files(one))
            # Not those that are still being written, beside them.
            if any((one.state / f"handback-cyrus.{kind}").exists() for kind in ("moves", "retiring")):
                self.refused(one)
        self.killed_ever_later(one, "handback", 0.02, 1.15, look)
        self.assertGreater(len(states), 5)
        after = self.cyrus_files(one)
        # A cache only grows: what was written of it before a kill stays, and more comes behind it.
        whole = lambda path, data: data in (states[0].get(path), after.get(path)) or (
            path.endswith("cyrus.cache") and after.get(path, b"").startswith(data))
        for number, state in enumerate(states):
            for path, data in state.items():
                self.assertTrue(whole(path, data), f"{path} after the kill {number}")
        self.back_in_order(one, names)

    def test_a_hand_back_killed_at_its_very_end_does_not_give_an_empty_store(self):
        one = self.store("cyrus-3.6-uuid")
        before = self.cyrus_files(one)
        one.take_over()
        # Its own files are half set aside.
        (one.state / "handed-back-1").mkdir()
        (one.state / "catalog.redb").rename(one.state / "handed-back-1/catalog.redb")
        (one.state / "handback-cyrus.retiring").write_text("handed-back-1")
        self.refused(one)
        self.assertIn("all was handed back before", one.hand_back().stdout)
        self.assertEqual(self.tree(one), before)
        self.assertEqual(["catalog.redb", "log"],
                         sorted(path.name for path in (one.state / "handed-back-1").iterdir()))
        self.assertIn(" taken over", one.take_over().stdout)

    def test_a_store_whose_files_take_their_places_is_not_opened(self):
        one, names = self.changed_and_stopped("cyrus-3.6-legacydirs")
        journal = {"steps": [], "done": 0, "places": {}}
        (one.state / "handback-cyrus.moves").write_text(json.dumps(journal))
        self.refused(one)
        done = one.take_over(check=False)
        self.assertIn("`cursus handback cyrus` finishes it", done.stderr)
        one.hand_back()
        self.assertFalse((one.state / "handback-cyrus.moves").exists())
        self.back_in_order(one, names)

    def damage(self, path, how):
        whole = path.read_bytes()
        path.write_bytes(how(whole))
        return lambda: path.write_bytes(whole)

    def test_damage_is_named_and_harms_nothing_else(self):
        one = self.store("cyrus-3.6-legacydirs")
        cut = lambda data: data[:len(data) // 2]
        # A skiplist has no checksums: what it begins with tells that it is one.
        flip = lambda data: b"x" + data[1:]
        root = one.root
        seen = next(root.glob("lib/user/*/*.seen"))
        wrong = [(root / "lib/mailboxes.db", cut), (root / "lib/mailboxes.db", flip),
                 (root / "lib/annotations.db", cut), (seen, cut),
                 (root / "spool/a/user/alice/cyrus.header", cut),
                 (root / "spool/a/user/alice/Work/cyrus.index", cut)]
        for path, how in wrong:
            with self.subTest(path=path.name, how=how):
                mend = self.damage(path, how)
                before = self.cyrus_files(one)
                done = one.take_over("--dry-run", check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(path.name, done.stderr)
                self.assertEqual(self.cyrus_files(one), before)
                mend()
        # One mailbox is damaged: all others come, and it comes when it was mended.
        mend = self.damage(root / "spool/a/user/alice/Work/cyrus.index", cut)
        done = one.take_over(check=False)
        self.assertEqual(done.returncode, 1)
        mend()
        self.assertIn(" 1 mailboxes, ", one.take_over().stdout)
        # What is damaged when it goes back is made anew, and named.
        self.damage(root / "spool/a/user/alice/Work/cyrus.index", cut)
        done = one.hand_back(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Work/cyrus.index: made anew", done.stderr)
        # What it was damaged of, expunged messages among it, Cyrus does not know any more either.
        peer = self.cyrus(one)
        peer.start()
        with peer.imap("alice") as client:
            self.assertEqual(client.select("INBOX/Work")["exists"], 3)
            self.assertEqual(len(client.bodies()), 3)
        peer.stop()

    def test_damaged_annotations_are_made_anew(self):
        """Where there were none, too: Cyrus's programs would end with a failed assertion."""
        one = self.store("cyrus-3.6-uuid")
        one.take_over()
        ours = [path for path in one.spool.rglob("cyrus.annotations")
                if path.with_name("cursus.index").exists()]
        self.assertGreater(len(ours), 5)
        for path in ours:
            self.damage(path, lambda data: data[:len(data) // 2])
        done = one.hand_back(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("cyrus.annotations: made anew"), len(ours))
        self.nothing_to_mend(self.cyrus(one))

    def test_messages_without_a_place_in_cyrus_are_not_lost(self):
        one = self.store("cyrus-3.6-uuid")
        self.serve_taken(one)
        one.deliver(LETTER, taken.SHARED_USER)
        self.assertEqual(one.stop(), 0)
        before = self.tree(one)
        done = one.hand_back(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{taken.SHARED_USER}: its INBOX has messages, and no place in Cyrus", done.stderr)
        self.assertEqual(self.tree(one), before)

    def locked(self, path):
        """A process that holds a lock."""
        child = subprocess.Popen([sys.executable, "-c", LOCKER, path], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        self.assertEqual(child.stdout.readline(), b"locked\n")

        def release():
            child.stdin.close()
            child.wait(10)
            child.stdout.close()
        self.addCleanup(release)
        return child.pid, release

    def test_locks_of_cyrus(self):
        one = self.store("cyrus-3.6-legacydirs")
        pid, release = self.locked(one.root / "lib/mailboxes.db")
        done = one.take_over(check=False)
        self.assertEqual(done.returncode, 75, done)
        with open(f"/proc/{pid}/comm") as comm:
            program = comm.read().strip()
        self.assertIn(f"mailboxes.db is locked by {program}, process {pid}: stop Cyrus", done.stderr)
        release()
        index = one.spool / "a/user/alice/Work/cyrus.index"
        pid, release = self.locked(index)
        done = one.take_over(check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"user.alice.Work: left alone: {index} is locked by", done.stderr)
        release()
        self.assertIn(" 1 mailboxes, ", one.take_over().stdout)
        before = self.cyrus_files(one)
        pid, release = self.locked(index)
        done = one.hand_back(check=False)
        self.assertIn(f"process {pid}", done.stderr)
        self.assertEqual(self.cyrus_files(one), before)
        release()
        one.hand_back()
        # Its master.
        peer = self.cyrus(one)
        peer.start()
        done = one.take_over(check=False)
        self.assertEqual(done.returncode, 75, done)
        self.assertIn(f"Cyrus's master runs: process {peer.child.pid}: stop Cyrus", done.stderr)
        self.assertIn("what it changes from here on is not seen", one.take_over("--dry-run").stderr)
        peer.stop()

    def watch(self, one):
        argv = [proc.BINARIES / "cursus", "--config", one.config, "handback", "cyrus",
                "--imapd-conf", one.imapd_conf, "--watch", "--interval", "1"]
        log = one.dir / "watch.log"
        child = proc.Child(argv, log)
        self.addCleanup(child.stop)
        return child

    def test_files_follow_while_cursus_serves(self):
        one = self.store("cyrus-3.6-legacydirs")
        self.serve_taken(one)
        stamps = lambda: {path: (path.stat().st_ino, path.stat().st_mtime_ns)
                          for path in one.spool.rglob("cyrus.index")}
        watch = self.watch(one)
        wrote = lambda n: proc.wait_until(lambda: watch.log().count(" mailboxes written") >= n, 20, watch.log())
        wrote(1)
        names = self.change(one)
        with one.imap() as client:
            self.inbox = client.select("INBOX")["exists"]
            # Cyrus's files go with their mailbox.
            client.ok("CREATE INBOX/Brief")
            client.append("INBOX/Brief", LETTER)
        brief = one.spool / "a/user/alice/Brief/cyrus.index"
        proc.wait_until(brief.exists, 20, "the new mailbox to be written")
        with one.imap() as client:
            client.ok("DELETE INBOX/Brief")
            client.ok("CREATE INBOX/Brief")
            client.append("INBOX/Brief", LETTER)
            client.ok("RENAME INBOX/Brief INBOX/Short")
            client.ok("CREATE INBOX/Brief")
        short = one.spool / "a/user/alice/Short/cyrus.index"
        proc.wait_until(short.exists, 20, "the renamed mailbox to be written")
        time.sleep(1.5)
        watch.stop()
        before = stamps()
        # What was written is known after a restart.
        watch = self.watch(one)
        one.deliver(LETTER.replace(b"letter@", b"last@"), "bob")
        proc.wait_until(lambda: stamps() != before, 20, "the delivery to be written")
        time.sleep(1.5)
        watch.stop()
        after = stamps()
        self.assertEqual([str(path) for path in after if before.get(path) != after[path]],
                         [str(one.spool / "b/user/bob/cyrus.index")])
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        final = stamps()
        # A SELECT behind the pass changes what is recent; what nobody looked at is as it was.
        many = one.spool / "a/user/alice/Lots/cyrus.index"
        self.assertEqual(final[many], after[many])
        self.back_in_order(one, names + ["INBOX/Short", "INBOX/Brief"])
