"""Maildirs that Courier and Dovecot wrote, served as these servers served them: every user, every mailbox, every
column of what they answered (engine/foreign/tests/fixtures). What may be told otherwise is named in
`Manifest.same`, with its reason.
"""

import os
import re
import tarfile
import unittest

from harness import manifest, proc, taken
from harness.case import Case
from harness.server import Cursus
from harness.wire import Imap, Pop3


class Fixture(Cursus):
    """cursusd on the tree of a fixture."""

    def __init__(self, name, extra=""):
        self.name = name
        super().__init__("maildir", ("alice", "bob"), extra=extra)

    def write_config(self):
        with tarfile.open(taken.FIXTURES / f"{self.name}.tar.gz") as packed:
            packed.extractall(self.dir, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
        self.root = self.dir / self.name
        super().write_config()


class CourierFixture(Fixture):
    """By Courier's own files: accounts and their passwords, the shared index, where Maildirs are. Ports alone are
    the test's."""

    def __init__(self):
        super().__init__("courier-1.0")
        self.added = True

    def write_config(self):
        super().write_config()
        self.etc = self.root / "etc-courier"
        for path in (self.etc / "userdb", self.etc / "shared" / "index", self.etc / "imapd"):
            text = path.read_text().replace("@ROOT@", str(self.root))
            path.write_text(text.replace("/etc/courier/", f"{self.etc}/"))
        os.chmod(self.etc / "userdb", 0o600)

    def config_text(self):
        text = re.sub(r"default_partition = .*\n\[\[partition\]\]\n(.*\n){3}", "", super().config_text())
        return text.replace('protocol = "imap"\n', 'protocol = "imap"\nnames = "courier"\n')

    def start(self, **_):
        argv = [proc.BINARIES / "cursusd", "--config", self.config, "--courier", self.etc]
        self.child = proc.Child(argv, self.log_path)
        self.wait_ready()
        return self


class DovecotFixture(Fixture):
    def __init__(self):
        super().__init__("dovecot-2.3", '[store]\nhand_back = ["dovecot"]\n[pop3]\nuidl = "dovecot"\n')

    def config_text(self):
        text = super().config_text().replace(str(self.spool), str(self.root))
        text = text.replace('layout = "maildir"\n',
                            'layout = "maildir"\nuser_path = "{user}/Maildir"\nfolder_names = "utf7"\n')
        return text.replace('protocol = "imap"\n', 'protocol = "imap"\nseparator = "."\n')

    def add_users(self):
        self.tool("user", "add", "--bulk", stdin="".join(f"{user}:pw-{user}\n" for user in self.users))
        self.added = True


class Manifest(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()
        # Where ENVELOPE or BODYSTRUCTURE of one server is its own, another's of the same octets.
        self.elsewhere = {}
        for name in ("cyrus-3.6-uuid", "dovecot-2.3"):
            for user in taken.answers(name)["imap"]:
                for mailbox in user["mailboxes"].values():
                    for message in manifest.told_messages(mailbox).values():
                        self.elsewhere.setdefault(message["sha256"], message)

    def check(self, one, here=lambda name: name, twice=True):
        """Compares all that the old server answered: users, mailboxes, messages, POP3. A second time by what
        a stop left."""
        self.servers.append(one)
        for turn in ("taken over", "again")[:1 + twice]:
            one.start()
            answers, met = taken.answers(one.name), 0
            for wanted in answers["imap"]:
                met += self.check_user(one, turn, wanted, here)
            self.assertGreater(met, 15)
            for user, told in answers["pop3"].items():
                with Pop3(one.at("pop3")) as client:
                    client.login(user, f"pw-{user}")
                    for command in ("LIST", "UIDL"):
                        self.assertEqual([line.decode() for line in client.lines(command)],
                                         told[command.lower()], f"{command} of {user}, {turn}")
            self.assertEqual(one.stop(), 0)

    def check_user(self, one, turn, wanted, here):
        user, met = wanted["user"], 0
        with Imap(one.at("imap")) as client:
            client.login(user, f"pw-{user}")
            # What is used is told before any mailbox was looked at.
            if turn == "taken over":
                self.check_usage(client, user, wanted)
            lines = [line for more in ("*", "#shared.*") for line in client.ok(f'LSUB "" "{more}"')[:-1]]
            subscribed = {manifest.plain(manifest.tree(line))[-1] for line in lines}
            # Levels above a subscribed name are not subscribed.
            levels = {name for name, box in wanted["mailboxes"].items() if "\\Noselect" in box["attrs"]}
            self.assertEqual(subscribed, {here(name) for name in set(wanted["lsub"]) - levels}, user)
            listed = {manifest.plain(manifest.tree(line))[-1]
                      for more in ("*", "#shared.*") for line in client.ok(f'LIST "" "{more}"')[:-1]}
            self.assertEqual(listed, {here(name) for name in wanted["mailboxes"]}, user)
            for name, box in wanted["mailboxes"].items():
                with self.subTest(turn=turn, user=user, mailbox=name):
                    told, have = manifest.told_mailbox(box), manifest.mailbox(client, here(name))
                    if name.startswith("shared.") and "status" in told:
                        self.without_seen(told), self.without_seen(have)
                    self.same(one, user, have, told)
                    met += len(told.get("messages", ()))
        return met

    def without_seen(self, box):
        """Dovecot has readers' \\Seen in index files of its own, which are not read: docs/takeover.md."""
        del box["status"]["UNSEEN"]
        for message in box["messages"].values():
            message["flags"] = [flag for flag in message["flags"] if flag != "\\Seen"]

    def check_usage(self, client, user, wanted):
        told = manifest.told_mailbox(wanted["mailboxes"]["INBOX"])["quota"]
        if told:
            [used] = [found for line in client.ok("GETQUOTAROOT INBOX") if (found := manifest.quota(line))]
            self.assertEqual({what: pair[0] for what, pair in used.items()},
                             {what: pair[0] for what, pair in told.items()}, user)

    def same(self, one, user, have, want):
        # Of attributes, whether it can be selected and has others below it; \Marked is a hint.
        attrs = lambda box: set(box["attrs"]) & {"\\Noselect", "\\HasChildren", "\\HasNoChildren"}
        self.assertEqual(attrs(have), attrs(want))
        if "status" not in want:
            return
        # Of Dovecot's it is known how high they can be: clients that synchronised there ask for what is above.
        highest = [int(box["status"].pop("HIGHESTMODSEQ", 0)) for box in (have, want)]
        if have["messages"]:
            self.assertGreaterEqual(*highest)
        self.assertEqual(have["status"], want["status"])
        self.assertLessEqual(want["words"], have["words"])
        self.assertEqual(self.rights(one, user, have["myrights"]), self.rights(one, user, want["myrights"]))
        if "acl" in want:
            self.assertEqual(self.list(one, user, have["acl"]), self.list(one, user, want["acl"]))
        # Limits in units of 1024 octets are rounded up there, down here. Who shares a folder sees its owner's
        # quota, and an account's limits are told also where Courier has not written them down yet.
        for what, (_, most) in want["quota"].items():
            self.assertLessEqual(abs(have["quota"][what][1] - most), 1)
        self.assertEqual(sorted(have["messages"]), sorted(want["messages"]))
        for uid, message in want["messages"].items():
            got = dict(have["messages"][uid])
            for parsed in ("envelope_tree", "bodystructure_tree"):
                mine, theirs = got.pop(parsed), message.pop(parsed)
                if mine != theirs:
                    other = self.elsewhere.get(message["sha256"], {}).get(parsed)
                    self.assertIn(mine, (other, self.only_here(message, parsed)), f"{parsed} of UID {uid}")
            self.assertEqual(got, message, f"UID {uid}")

    def only_here(self, message, parsed):
        """Of the message that Courier's fixture has alone: the name of a group, which Courier leaves out, as
        Cyrus and Dovecot tell that of one like it."""
        if parsed == "envelope_tree" and message["rfc822.size"] == 225:
            [like] = [one for one in self.elsewhere.values() if one["rfc822.size"] == 223]
            return like[parsed]
        return None

    def rights(self, one, user, letters):
        """Courier's wire has eight letters and the file eleven; whoever has all has all here, too."""
        every = set("aeiklrstwx")
        return "all" if every <= set(letters) else letters

    def list(self, one, user, acl):
        """Administrators have all rights of Courier's Maildirs, named or not."""
        out = {"owner" if who == user else who: self.rights(one, user, letters) for who, letters in acl.items()}
        if out.get("administrators") == "all":
            del out["administrators"]
        return out

    def test_courier(self):
        self.check(CourierFixture())

    def test_a_client_that_knows_dovecots_modseqs(self):
        for killed in (False, True):
            with self.subTest(killed=killed):
                self.check_synchronised(killed)

    def check_synchronised(self, killed):
        """A client synchronised before message 4 was removed, and another one changes a flag meanwhile."""
        one = DovecotFixture()
        self.servers.append(one)
        one.start()
        with Imap(one.at("imap")) as other:
            other.login("alice", "pw-alice")
            other.select("INBOX")
            other.ok("UID STORE 8 +FLAGS (meanwhile)")
        if killed:
            one.kill()
            one.start()
        with Imap(one.at("imap")) as client:
            client.login("alice", "pw-alice")
            client.ok("ENABLE QRESYNC")
            told = client.ok("SELECT INBOX (QRESYNC (1795467431 15 1:8))")
            self.assertIn(b"* VANISHED (EARLIER) 4", told)
            [flags] = [line for line in told if b"UID 8" in line]
            self.assertIn(b"meanwhile", flags)
        self.assertEqual(one.stop(), 0)

    def test_dovecot(self):
        self.check(DovecotFixture(), lambda name: re.sub(r"^shared\b", "Other Users", name))


if __name__ == "__main__":
    unittest.main()
