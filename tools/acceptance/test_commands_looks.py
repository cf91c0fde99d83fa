"""Cyrus's programs that only look, by their names: they say of a store that was taken over what Debian's
said of it before."""

import re
import unittest

from harness import proc
from harness.cyrus_case import CyrusCase


class CyrusLooks(CyrusCase):
    def begin(self, name):
        one = self.store(name)
        self.peer = self.cyrus(one)
        proc.run([proc.BINARIES / "cursus", "commands", "install", one.dir / "bin"])
        return one

    def ours(self, one, *argv, check=True, **options):
        name, *rest = argv
        done = proc.run([one.dir / "bin" / name, "-C", one.imapd_conf, *rest], check=check,
                        env={"CURSUS_CONFIG": str(one.config)}, **options)
        return done.stdout.decode() + done.stderr.decode()

    def compare_lists(self, name):
        one = self.begin(name)
        dot = one.separator
        alice = dot.join(("user", "alice"))
        path = self.peer.tool("mbpath", alice).strip()
        asked = [("cyr_ls", *how, alice) for how in ((), ("-7",), ("-1",), ("-R",), ("-i",), ("-iR7",), ("-m",), ("-l",))]
        asked += [("cyr_ls", alice + dot + "Work"), ("cyr_ls", "shared")]
        # Whose directories have names Cyrus knows in its own where they are asked for by path.
        if "uuid" in name:
            asked += [("cyr_ls", "-p", path), ("cyr_ls", path)]
        asked.append(("cyr_df", "-m"))
        theirs = {argv: self.peer.tool(*argv) for argv in asked}
        pwd = self.peer.tool("cyr_pwd", cwd=path)
        nowhere = self.peer.tool("cyr_pwd", cwd="/")
        room = self.peer.tool("cyr_df")
        one.take_over()
        # Takeover writes into directories.
        plain = lambda text: re.sub(r" +\d+ [A-Z][a-z]{2} \d\d +(\d+:\d\d|\d{4}) ", " ", text)
        for argv in asked:
            with self.subTest(argv=argv):
                self.assertEqual(plain(self.ours(one, *argv)), plain(theirs[argv]))
        if "uuid" in name:
            self.assertEqual(self.ours(one, "cyr_pwd", cwd=path), pwd)
        self.assertEqual(self.ours(one, "cyr_pwd", cwd="/"), nowhere)
        # Theirs says (null).
        self.assertEqual(self.ours(one, "cyr_ls", "no"), "Invalid mailbox name: 'no'\n")
        # What is used may change meanwhile.
        blur = lambda text: re.sub(r"\d{3} +(\d+)\d{3} +(\d+)\d{3} +\d+%", "", text)
        self.assertEqual(blur(self.ours(one, "cyr_df")).split(), blur(room).split())
        self.assertIn(str(one.spool), room)
        self.assertIn("Entwürfe", theirs["cyr_ls", alice])

    def test_lists_by_name(self):
        self.compare_lists("cyrus-3.6-legacydirs")

    def test_lists_by_id(self):
        self.compare_lists("cyrus-3.6-uuid")


if __name__ == "__main__":
    unittest.main()
