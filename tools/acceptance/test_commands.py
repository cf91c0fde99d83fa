"""`cursus` called by the names of Cyrus's programs says what they say of the same store, and Debian's
daily script runs with it as it is."""

import gzip
import json
import pathlib
import re
import shutil
import unittest

from harness import proc, taken
from harness.cyrus_case import LETTER, CyrusCase

CRON = pathlib.Path("/etc/cron.daily/cyrus-imapd")
# The namespaces in which Debian's paths are ours, and no Cyrus of another test runs from them.
APART = """
set -e
mount -t proc none /proc
for pair in "$@"; do mount --bind "${pair#*=}" "${pair%%=*}"; done
exec /etc/cron.daily/cyrus-imapd
"""


class CyrusCommands(CyrusCase):
    def links(self, one):
        """A directory of all links; the store's configuration is where they look for it."""
        directory = one.dir / "lib/cyrus/bin"
        told = proc.run([proc.BINARIES / "cursus", "commands", "install", directory]).stdout.decode()
        self.assertIn(" links made in ", told)
        self.assertTrue((directory.parent / "cyrus-hardwired-config.txt").exists())
        return directory

    def ours(self, one, *argv, env=None, **options):
        name, *rest = argv
        program = one.dir / "lib/cyrus/bin" / name
        done = proc.run([program, "-C", one.imapd_conf, *rest],
                        env={"CURSUS_CONFIG": str(one.config), **(env or {})}, **options)
        return done.stdout.decode() + done.stderr.decode()

    def plain(self, text):
        """Without what is counted otherwise: octets of annotations; mailboxes that were left alone, as
        alice has one by id."""
        return re.sub(r" *\d+ +(X-[A-Z-]+|[A-Z]+ user\.alice$)", r"\1", text, flags=re.MULTILINE)

    def purged(self, text):
        """What `ipurge -n` says of messages and sums; dates have other forms."""
        return re.findall(r"^(UID.*|\tSize.*|(?:Total|Deleted|Remaining) .*)$", text, re.MULTILINE)

    def plain_json(self, text):
        return {root: {what: about for what, about in of.items() if not what.startswith("X-")}
                for root, of in json.loads(text).items() if root != "user.alice"}

    def compare_with_debians(self, name):
        one = self.store(name)
        peer = self.cyrus(one)
        self.links(one)
        asked = [("ctl_mboxlist", "-d"), ("ctl_mboxlist", "-d", "-p", "default"), ("ctl_mboxlist", "-dy")]
        dot = one.separator
        alice = dot.join(("user", "alice"))
        asked += [("mbpath", alice, alice + dot + "Work"), ("mbpath", "-u", "alice", "bob"), ("mbpath", "-q", "no")]
        asked += [("quota",), ("quota", alice), ("quota", "-u", "alice"), ("quota", "-q", "nobody")]
        theirs = {argv: peer.tool(*argv) if argv[-1] != "no" else "" for argv in asked}
        old = [("ipurge", "-n", "-f", *how, alice + dot + "W%", alice) for how in (
            ("-d", "1", "-X"), ("-d", "1"), ("-d", "20000"), ("-k", "1"), ("-b", "500", "-i", "-s"), ("-m", "1", "-o"))]
        old.append(("ipurge", "-n", "-b", "1"))
        purged = {argv: self.purged(peer.tool(*argv)) for argv in old}
        one.take_over()
        one.add_users()
        for argv in old:
            with self.subTest(argv=argv):
                self.assertEqual(self.purged(self.ours(one, *argv)), purged[argv])
        self.assertIn("UID: 1", purged[old[0]])
        for argv in asked:
            with self.subTest(argv=argv):
                got = self.ours(one, *argv, check=argv[-1] != "no")
                self.assertEqual(self.plain(got), self.plain(theirs[argv]))
        with self.subTest("JSON"):
            self.assertEqual(self.plain_json(self.ours(one, "quota", "-J")),
                             self.plain_json(peer.tool("quota", "-J")))
        # A name that is not there.
        done = proc.run([one.dir / "lib/cyrus/bin/mbpath", "-C", one.imapd_conf, "no"], check=False,
                        env={"CURSUS_CONFIG": str(one.config)})
        self.assertEqual((done.returncode, done.stderr), (65, b"Invalid mailbox name: 'no'\n"))
        # With changes of ours, and served: what Cyrus has after the way back.
        one.start()
        with one.imap() as client:
            client.ok(f"CREATE INBOX{dot}New")
            client.append("INBOX" + dot + "New", LETTER)
            client.ok(f"RENAME INBOX{dot}Work INBOX{dot}Job")
        argv = ("ctl_mboxlist", "-d")
        served = self.ours(one, *argv)
        self.assertIn("New", served)
        named = self.ours(one, "reconstruct", "-n", "-r", alice).splitlines()
        self.assertIn(alice + dot + "New", named)
        self.assertEqual([line for line in named if " " in line.strip()], [])
        for line in (("ctl_cyrusdb", "-c"), ("ctl_cyrusdb", "-r"), ("cyr_expire", "-E", "3"), ("tls_prune",),
                     ("chk_cyrus",), ("squatter", "-r", alice), ("cyr_expire", "-X", "1000", "-D", "1000")):
            self.assertEqual(self.ours(one, *line), "", line)
        self.assertIn("Deleted messages  \t\t 1\n", self.ours(one, "ipurge", "-f", "-b", "1", f"{alice}{dot}New"))
        proc.run([one.dir / "lib/cyrus/bin/deliver", "-C", one.imapd_conf, "-m", "New", "alice"],
                 stdin=LETTER, env={"CURSUS_CONFIG": str(one.config)})
        with one.imap() as client:
            self.assertEqual(client.select("INBOX" + dot + "New")["exists"], 1)
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        dump = lambda text: {box: {key: value for key, value in about.items() if key != "mtime"}
                             for box, about in json.loads(text).items()}
        self.assertEqual(dump(served), dump(peer.tool(*argv)))

    def test_directories_by_name(self):
        self.compare_with_debians("cyrus-3.6-legacydirs")

    def test_directories_by_id(self):
        self.compare_with_debians("cyrus-3.6-uuid")

    def compare_unexpunge(self, name):
        one = self.store(name)
        peer = self.cyrus(one)
        self.links(one)
        dot = one.separator
        alice = dot.join(("user", "alice"))
        zone = {"TZ": "America/New_York"}
        boxes = [alice, alice + dot + "Work", *(alice + dot + f"V{n:02}" for n in range(6, 18)), "user" + dot + "no"]
        listed = [("-l", box) for box in boxes] + [("-l", alice, "5"), ("-l", alice, "4", "99")]
        back = [("-u", "-v", alice, "4", "5", "99"), ("-a", "-v", alice), ("-t", "1", alice + dot + "Work"),
                ("-u", alice + dot + "no", "1")]
        if "legacy" in name:
            back[0] = ("-t", "520w", "-vd", "-f", "Back", alice)
        theirs = {argv: peer.tool("unexpunge", *argv, env=zone) for argv in listed}
        kept = proc.new_dir("kept") / "store"
        shutil.copytree(one.root, kept, symlinks=True)
        theirs |= {argv: peer.tool("unexpunge", *argv, env=zone, check=False) for argv in back}
        shutil.rmtree(one.root)
        shutil.copytree(kept, one.root, symlinks=True)
        one.take_over()
        one.add_users()
        for argv in listed + back:
            with self.subTest(argv=argv):
                got = self.ours(one, "unexpunge", *argv, env=zone, check=False)
                self.assertEqual(got, theirs[argv])
        self.assertIn("UID: 5\n", theirs["-l", alice])
        self.assertIn("restored 1 expunged", theirs[back[0]])
        self.assertIn("Failed to open", theirs[back[3]])
        for argv, status in ((("-a", alice + dot + "no"), 20), (("-a", "-f", "\\Seen", alice), 70), (("-la", alice), 64)):
            done = proc.run([one.dir / "lib/cyrus/bin/unexpunge", "-C", one.imapd_conf, *argv], check=False,
                            env={"CURSUS_CONFIG": str(one.config)})
            self.assertEqual(done.returncode, status, argv)

    def test_unexpunge_by_name(self):
        self.compare_unexpunge("cyrus-3.6-legacydirs")

    def test_unexpunge_by_id(self):
        self.compare_unexpunge("cyrus-3.6-uuid")

    def removed(self, one, remove):
        """What is removed of message files; the store is as before then."""
        before = set(one.message_files())
        kept = proc.new_dir("kept") / "store"
        shutil.copytree(one.root, kept, symlinks=True)
        remove()
        after = set(one.message_files())
        shutil.rmtree(one.root)
        shutil.copytree(kept, one.root, symlinks=True)
        return before - after

    def test_cyr_expire_of_a_user_or_a_prefix(self):
        one = self.store("cyrus-3.6-uuid")
        peer = self.cyrus(one)
        self.links(one)
        every = ("-E", "1", "-X", "0", "-D", "0", "-A", "0")
        of = [("-u", "alice"), ("-u", "bob"), ("-p", "user.alice"), ("-p", "user.a"), ("-p", "user.alice.Many"), ()]
        theirs = {which: self.removed(one, lambda: peer.tool("cyr_expire", *every, *which)) for which in of}
        one.take_over()
        for which in of:
            with self.subTest(of=which):
                mine = self.removed(one, lambda: self.ours(one, "cyr_expire", *every, *which))
                self.assertEqual(mine, theirs[which])
        # They are not all alike.
        self.assertGreater(len({frozenset(files) for files in theirs.values()}), 3)
        one.imapd_conf.write_text(one.imapd_conf.read_text() + "archive_enabled: yes\n")
        done = proc.run([one.dir / "lib/cyrus/bin/cyr_expire", "-C", one.imapd_conf, "-A", "7"], check=False,
                        env={"CURSUS_CONFIG": str(one.config)})
        self.assertEqual(done.returncode, 69, done.stderr)

    def test_a_list_of_mailboxes_is_undumped(self):
        """What a list has and the store has not is there again, with its rights; what the store has more stays."""
        one = self.store("cyrus-3.6-uuid")
        peer = self.cyrus(one)
        self.links(one)
        dumped = peer.tool("ctl_mboxlist", "-d")
        one.take_over()
        one.add_users()
        state = lambda: {name: [box.get(key) for key in ("uidvalidity", "mbtype", "acl")]
                         for name, box in json.loads(self.ours(one, "ctl_mboxlist", "-d")).items()
                         if not name.startswith("DELETED")}
        undump = lambda: self.ours(one, "ctl_mboxlist", "-u", stdin=dumped)
        before = state()
        told = undump()
        self.assertEqual(state(), before)
        self.assertTrue(all(": left out: it " in line for line in told.splitlines()), told)
        one.start()
        with one.imap() as client:
            client.ok("CREATE INBOX.More")
            client.ok("DELETE INBOX.Work")
            client.ok("DELETE INBOX.Sent")
            client.ok("SETACL INBOX bob lrs")
            client.ok("SETACL INBOX.Many alice lrsa")
            undump()
            self.assertEqual(client.select("INBOX.Work")["exists"], 0)
        self.assertEqual(one.stop(), 0)
        after = state()
        self.assertEqual(set(after) - set(before), {"user.alice.More"})
        # Directories by id are ours from here on, and Cyrus's types say so.
        kind = lambda boxes: {name: [about[0], about[2]] for name, about in boxes.items() if "More" not in name}
        self.maxDiff = None
        self.assertEqual(kind(after), kind(before))
        for text, status in (("{", 65), ('{"user.nobody": {"mbtype": "e"}}', 1)):
            done = proc.run([one.dir / "lib/cyrus/bin/ctl_mboxlist", "-C", one.imapd_conf, "-u"], check=False,
                            env={"CURSUS_CONFIG": str(one.config)}, stdin=text)
            self.assertEqual(done.returncode, status, done.stderr)
    def test_as_cyr_deny(self):
        """One file for both, whoever writes it."""
        one = self.store("cyrus-3.6-legacydirs")
        peer = self.cyrus(one)
        self.links(one)
        config = one.config.read_text().replace("[auth]\n", f'[auth]\ndeny_file = "{one.root}/lib/user_deny.db"\n')
        one.config.write_text(config)
        self.assertIn("deny_file", config)
        peer.tool("cyr_deny", "-s", "imap*,!imaps", "-m", "not here", "alice")
        peer.tool("cyr_deny", "bob")
        listed = peer.tool("cyr_deny", "-l")
        self.assertIn("imap*,!imaps", listed)
        self.assertEqual(self.ours(one, "cyr_deny", "-l"), listed)
        self.assertNotIn("deny list", one.take_over().stderr)
        one.add_users()
        one.start()
        for user, told in ("alice", "not here"), ("bob", "Access to this service has been blocked"):
            with self.assertRaisesRegex(AssertionError, told):
                one.imap(user)
        self.assertEqual(self.ours(one, "cyr_deny", "-a", "bob"), "")
        self.assertEqual(self.ours(one, "cyr_deny", "-s", "pop3", "-m", "", "alice"), "")
        with one.imap("alice"), one.imap("bob"):
            pass
        self.assertEqual(self.ours(one, "cyr_deny", "-l"), peer.tool("cyr_deny", "-l"))
        done = self.ours(one, "cyr_deny", "-l", "alice", check=False)
        self.assertIn("expected [-s SERVICES]", done)

    def test_debians_daily_script_runs_as_it_is(self):
        one = self.store("cyrus-3.6-uuid")
        self.cyrus(one)
        if not CRON.exists():
            self.skipTest("cyrus-common is not installed")
        if proc.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode:
            self.skipTest("mount namespaces are refused")
        self.links(one)
        backups = one.dir / "backups"
        backups.mkdir()
        default = one.dir / "default"
        default.write_text("CHKCYRUS=1\n")
        one.take_over()
        proc.run(["chown", "-R", "cyrus:mail", one.dir])
        binds = [f"/usr/lib/cyrus={one.dir / 'lib/cyrus'}", f"/var/backups={backups}",
                 f"/etc/imapd.conf={one.imapd_conf}", f"/etc/default/cyrus-imapd={default}"]
        for _ in range(2):
            done = proc.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c", APART, "sh", *binds],
                            env={"CURSUS_CONFIG": str(one.config)})
            self.assertEqual(done.stdout + done.stderr, b"")
        names = sorted(path.name for path in backups.iterdir())
        self.assertEqual(names, ["cyrus-mboxlist.txt.gz", "cyrus-mboxlist.txt.gz.bak"])
        listed = json.loads(gzip.decompress((backups / names[0]).read_bytes()))
        self.assertIn("user.alice", listed)
        # Run by root they leave nothing that the store's user could not write.
        self.ours(one, "quota")
        owners = {path.owner() for path in (one.dir / "state").rglob("*")}
        self.assertEqual(owners, {"cyrus"})
        self.assertEqual(listed["user.alice"]["acl"]["alice"], "lrswipkxtecdan")


if __name__ == "__main__":
    unittest.main()
