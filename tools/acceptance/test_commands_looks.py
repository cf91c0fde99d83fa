"""Cyrus's programs that only look, by their names: they say of a store that was taken over what Debian's
said of it before."""

import json
import re
import unittest

from harness import proc
from harness.cyrus_case import LETTER, CyrusCase


class CyrusLooks(CyrusCase):
    def begin(self, name):
        one = self.store(name)
        self.peer = self.cyrus(one)
        proc.run([proc.BINARIES / "cursus", "commands", "install", one.dir / "bin"])
        return one

    def ours(self, one, *argv, check=True, env=None, **options):
        name, *rest = argv
        done = proc.run([one.dir / "bin" / name, "-C", one.imapd_conf, *rest], check=check,
                        env={"CURSUS_CONFIG": str(one.config), **(env or {})}, **options)
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

    def compare_examined(self, name):
        one = self.begin(name)
        dot = one.separator
        alice = dot.join(("user", "alice"))
        zone = {"TZ": "Europe/Berlin"}
        asked = [(alice,), (alice + dot + "%",), ("shared*", dot.join(("user", "bob"))), ("-q", "*"), ("-u", "2", alice),
                 ("-s", "1", alice), ("-u", "99", alice), ("no",)]
        theirs = {argv: self.peer.tool("mbexamine", *argv, env=zone) for argv in asked}
        one.take_over()
        one.add_users()
        # Theirs gives all messages the number 1; what a hand-back writes has the version of 3.6.
        # Before 3.0 an index did not have all of it.
        plain = lambda text: [re.sub(r"^\d{6}>", "", line) for part in text.split("Examining ")
                              if not re.match(r"\S*V\d\d\.\.\.", part) for line in part.split("\n")]
        for argv in asked:
            with self.subTest(argv=argv):
                self.assertEqual(plain(self.ours(one, "mbexamine", *argv, env=zone)), plain(theirs[argv]))
        self.assertGreater(theirs[alice,].count("> UID:"), 5)
        self.assertIn("CORRECT", theirs["-q", "*"])
        # All of them can be looked at, and what is ours by now is seen.
        one.start()
        with one.imap() as client:
            client.append("INBOX", LETTER, b"\\Flagged")
        told = self.ours(one, "mbexamine")
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        later = self.peer.tool("mbexamine")
        again = lambda text: sorted(re.sub(r"^\d{6}>|Date: .*|LASTUPD :\d+", "", line) for line in text.split("\n"))
        self.assertEqual(again(told), again(later))
        self.assertIn("letter@example.net", told)

    def test_mailboxes_are_examined_by_name(self):
        self.compare_examined("cyrus-3.6-legacydirs")

    def test_mailboxes_are_examined_by_id(self):
        self.compare_examined("cyrus-3.6-uuid")

    def test_options_are_listed_as_cyr_info_lists_them(self):
        for name in ("cyrus-3.6-legacydirs", "cyrus-3.6-uuid"):
            one = self.begin(name)
            one.imapd_conf.write_text(one.imapd_conf.read_text() + (
                "imap_timeout: 45\ntiemout: 3\nvtimap_x: 1\nmetapartition-default: /x\nxlist-sent: S\npopminpoll: 5\n"
                "imapidresponse: off\nmaxquoted: 7\nimap_nothing: 3\n"))
            (one.imapd_conf.parent / "cyrus.conf").write_text('SERVICES {\n imap cmd="imapd" listen="imap"\n}\n')
            of = ("-M", one.imapd_conf.parent / "cyrus.conf")
            # Theirs has the last ones in no order.
            lines = lambda text: sorted(text.splitlines())
            for argv in (("conf",), ("conf-all",), ("conf-lint",), ("-n", "imap", "conf")):
                with self.subTest(store=name, argv=argv):
                    mine = lines(self.ours(one, "cyr_info", *of, *argv))
                    self.assertEqual(mine, lines(self.peer.tool("cyr_info", *of, *argv)))
            self.assertIn("tiemout: 3", self.ours(one, "cyr_info", *of, "conf-lint"))
            # Theirs has as defaults of enumerations what is set.
            default = set(lines(self.ours(one, "cyr_info", "conf-default")))
            other = set(lines(self.peer.tool("cyr_info", "conf-default"))) ^ default
            self.assertLessEqual({line.split(":")[0] for line in other}, {"virtdomains", "delete_mode"})
        for argv, status in ((("proc",), 69), (("-s", "3.0", "conf"), 69), ((), 64), (("zork",), 64)):
            done = proc.run([one.dir / "bin/cyr_info", *argv], check=False)
            self.assertEqual(done.returncode, status)
        mine, theirs = (json.loads(text) for text in (self.ours(one, "cyr_buildinfo"), self.peer.tool("cyr_buildinfo")))
        self.assertEqual({part: sorted(of) for part, of in mine.items()}, {part: sorted(of) for part, of in theirs.items()})
        self.assertEqual(mine["component"]["sieve"], False)


if __name__ == "__main__":
    unittest.main()
