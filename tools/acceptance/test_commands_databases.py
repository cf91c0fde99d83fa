"""`cyr_dbtool` and `cvt_cyrusdb` by these names read what Debian's write, and the other way round."""

import unittest

from harness import proc
from harness.cyrus_case import CyrusCase

FORMS = ("flat", "skiplist", "twoskip")


class CyrusDatabases(CyrusCase):
    def setUp(self):
        super().setUp()
        self.one = self.store("cyrus-3.6-legacydirs")
        self.peer = self.cyrus(self.one)
        self.bin = self.one.dir / "bin"
        proc.run([proc.BINARIES / "cursus", "commands", "install", self.bin])
        self.files = self.one.root / "databases"
        self.files.mkdir()
        self.peer.own()

    def ours(self, *argv, check=True, **options):
        name, *rest = argv
        # No store is needed, and no configuration.
        done = proc.run([self.bin / name, *rest], check=check, env={"CURSUS_CONFIG": "/nonexistent"}, **options)
        return done.stdout.decode() + (f"{done.returncode}" if not check else "")

    def theirs(self, *argv, **options):
        return self.peer.tool(*argv, **options)

    def test_files_are_read_converted_and_changed_alike(self):
        lib = self.one.root / "lib"
        known = [(lib / "mailboxes.db", "skiplist"), (lib / "annotations.db", "skiplist"),
                 (lib / "user/a/alice.sub", "flat"), (lib / "user/a/alice.seen", "flat")]
        for path, form in known:
            shown = self.theirs("cyr_dbtool", path, form, "show")
            self.assertGreater(shown.count("\n"), 1, path)
            self.assertEqual(self.ours("cyr_dbtool", path, form, "show"), shown)
            # A NUL ends an argument.
            key = shown.splitlines()[-1].partition("\t")[0].partition("\0")[0]
            for action in (("get", key), ("show", key[:-1]), ("get", "nothing"), ("consistent",)):
                with self.subTest(path=path.name, action=action):
                    self.assertEqual(self.ours("cyr_dbtool", path, form, *action),
                                     self.theirs("cyr_dbtool", path, form, *action))
            for to in FORMS:
                with self.subTest(path=path.name, to=to):
                    self.convert(path, form, to, shown)

    def convert(self, path, form, to, shown):
        by_us, by_them = (self.files / f"{path.name}.{to}.{who}" for who in ("us", "them"))
        told = self.ours("cvt_cyrusdb", path, form, by_us, to)
        self.assertEqual(told, self.theirs("cvt_cyrusdb", path, form, by_them, to).replace(
            str(by_them), str(by_us)))
        self.assertEqual(self.ours("cyr_dbtool", by_them, to, "show"), self.theirs("cyr_dbtool", by_them, to, "show"))
        if "flat" in (form, to):
            # Of bytes that are escaped there the order is another one.
            shown, theirs = sorted(shown.splitlines()), self.theirs("cyr_dbtool", by_us, to, "show").splitlines()
            self.assertEqual(sorted(theirs), shown)
            shown = "\n".join(shown)
        else:
            self.assertEqual(self.theirs("cyr_dbtool", by_us, to, "show"), shown)
        self.assertEqual((by_us.owner(), by_us.stat().st_mode & 0o777), ("cyrus", 0o600))
        # The same changes to both.
        first = shown.splitlines()[-1].partition("\t")[0].partition("\0")[0]
        for action, stdin in ((("set", "zz key", "a value"), ""), (("delete", first), ""), (("delete", "nothing"), ""),
                              (("set",), "one\t1\ntwo\t2 2\nthree\t\na.b\t\na-b\t\na b\t\na\t\n"), (("delete",), "two\nzz key\n"),
                              (("set", "one", "other"), ""), (("repack",), "")):
            self.assertEqual(self.ours("cyr_dbtool", by_us, to, *action, stdin=stdin), "")
            # Theirs ends by an assertion of its own where it is to repack a skiplist.
            if action != ("repack",):
                self.theirs("cyr_dbtool", by_them, to, *action, stdin=stdin)
        self.assertEqual(self.theirs("cyr_dbtool", by_us, to, "consistent"), "Yes, consistent\n")
        self.assertEqual(self.theirs("cyr_dbtool", by_us, to, "show"), self.theirs("cyr_dbtool", by_them, to, "show"))
        self.assertEqual(self.ours("cyr_dbtool", by_us, to, "get", stdin="one\nthree\n"), "other\n\n")
        # And Cyrus goes on with what we wrote.
        self.theirs("cyr_dbtool", by_us, to, "set", "one", "theirs")
        self.assertEqual(self.ours("cyr_dbtool", by_us, to, "get", "one"), "theirs\n")

    def test_new_files_and_mistakes(self):
        new = self.files / "new"
        for argv, stdin in ((("-n", new, "twoskip", "set", "k", "v"), ""), (("-n", new, "twoskip", "set"), "a\tb\n")):
            self.ours("cyr_dbtool", *argv, stdin=stdin)
        self.assertEqual(self.theirs("cyr_dbtool", new, "twoskip", "show"), "a\tb\nk\tv\n")
        self.ours("cyr_dbtool", "-c", new, "skiplist", "repack")
        self.assertEqual(self.theirs("cyr_dbtool", new, "skiplist", "show"), "a\tb\nk\tv\n")
        sub = self.one.root / "lib/user/a/alice.sub"
        both = [(sub, "twoskip", "show"), (self.files / "none", "flat", "show"), (sub, "berkeley", "show"),
                ("relative", "flat", "show")]
        for argv in both:
            with self.subTest(argv=argv):
                mine = self.ours("cyr_dbtool", *argv, check=False)
                self.assertEqual(mine, self.stdout_and_status("cyr_dbtool", *argv))
                self.assertNotEqual(mine[-1], "0")
        before = sub.read_bytes()
        for argv in ((sub, "flat", "dump"), (sub, "flat", "damage"), ("-M", sub, "flat", "show")):
            self.assertEqual(self.ours("cyr_dbtool", *argv, check=False), "69")
        self.assertEqual(self.ours("cvt_cyrusdb", sub, "flat", new, "flat", check=False)[-1], "1")
        self.assertEqual(sub.read_bytes(), before)

    def test_commands_in_a_batch(self):
        script = ('SET "a b" {5+}\r\n1 "\\x\nSET a.b ""\nSET a-b NIL\nSHOW\nBEGIN\nSET c {3+}\r\n\r\n\t\nGET c\nCOMMIT\n'
                  'BEGIN\nDELETE a.b\nSHOW a\nABORT\nSHOW "a"\nDELETE nothing\nGET nothing\nSET d 4\n')
        for form in FORMS:
            with self.subTest(form=form):
                mine, theirs = (self.files / f"{form}.{who}" for who in ("us", "them"))
                told = self.ours("cyr_dbtool", "-n", mine, form, "batch", stdin=script)
                self.assertEqual(told, self.theirs("cyr_dbtool", "-n", theirs, form, "batch", stdin=script))
                self.assertIn('"a b" {5}', told)
                for path in (mine, theirs):
                    self.assertEqual(self.theirs("cyr_dbtool", path, form, "show"), self.ours("cyr_dbtool", mine, form, "show"))
                wrong = self.ours("cyr_dbtool", mine, form, "batch", stdin="SET e 5\nBEGIN\nSET f 6\nFOO\nSET g 7\n", check=False)
                self.assertEqual(wrong, "1")
                self.assertEqual(self.ours("cyr_dbtool", mine, form, "get", stdin="e\nf\ng\n"), "5\n\n\n")

    def stdout_and_status(self, name, *argv):
        done = proc.run(["setpriv", "--reuid", "cyrus", "--regid", "mail", "--clear-groups",
                         f"/usr/lib/cyrus/bin/{name}", "-C", self.one.imapd_conf, *argv], check=False)
        return done.stdout.decode() + f"{done.returncode}"

    def test_a_file_that_cyrus_has_locked_is_not_written(self):
        path = self.files / "held"
        self.ours("cyr_dbtool", "-n", path, "flat", "set", "a", "b")
        script = ("import fcntl,os,sys,time\nf=os.open(sys.argv[1],os.O_RDWR)\nfcntl.lockf(f,fcntl.LOCK_EX)\n"
                  "print('held',flush=True)\ntime.sleep(60)")
        holder = proc.Child(["python3", "-c", script, path], self.files / "holder.log")
        self.addCleanup(holder.stop)
        proc.wait_until(lambda: "held" in (self.files / "holder.log").read_text(), 10, "the lock")
        self.assertEqual(self.ours("cyr_dbtool", path, "flat", "set", "a", "c", check=False), "75")
        self.assertEqual(self.ours("cyr_dbtool", path, "flat", "get", "a"), "b\n")


if __name__ == "__main__":
    unittest.main()
