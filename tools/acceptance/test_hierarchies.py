"""Stores of Debian's Cyrus 3.6 in the forms that the fixtures have not, by one imapd.conf for both servers: hashing by
whole names, partitions, metapartitions, hierarchies, domains; and indexes of the versions that Debian's does not write.
"""

import re
import unittest

from harness import later_index, taken
from harness.cyrus_case import LETTER, CyrusCase

ALL_META = "header index cache expunge squat annotations lock dav archivecache"
FORMS = {
    "by_whole_names": (
        "unixhierarchysep: no\naltnamespace: no\nhashimapspool: yes\nfulldirhash: yes\nmailbox_legacy_dirs: yes\n"
        "partition-default: @ROOT@/spool\npartition-fast: @ROOT@/fast\n"
        "metapartition-fast: @ROOT@/meta\nmetapartition_files: header index cache\n"),
    "of_domains": (
        "unixhierarchysep: no\naltnamespace: no\nhashimapspool: yes\nvirtdomains: userid\n"
        "defaultdomain: internal.test\nmailbox_legacy_dirs: yes\n"
        "partition-default: @ROOT@/spool\npartition-fast: @ROOT@/fast\n"),
    "by_id_in_metapartitions": (
        "unixhierarchysep: yes\naltnamespace: yes\nhashimapspool: no\n"
        "partition-default: @ROOT@/spool\npartition-fast: @ROOT@/fast\n"
        f"metapartition-default: @ROOT@/meta\nmetapartition_files: {ALL_META}\n"),
}


class Hierarchies(CyrusCase):
    seconds = 120

    def store(self, form):
        self.only_cursus()
        users = ["alice", "bob", "carol"] + ["dave@example.com"] * ("virtdomains" in FORMS[form])
        one = taken.OwnStore(FORMS[form], users)
        self.servers.append(one)
        return one

    def fill(self, peer, one):
        """What Cyrus serves, made by its own server: mailboxes on both partitions, below each other, with rights,
        quotas, subscriptions, keywords, what was expunged; of others; shared. Gives names by user."""
        dot = one.separator
        alternate = "altnamespace: yes" in one.options
        of = lambda user, *levels: dot.join(("user", user.split("@")[0]) + levels) + "".join(f"@{d}" for d in user.split("@")[1:])
        own = lambda *levels: dot.join((() if alternate else ("INBOX",)) + levels)
        seen_by_bob = dot.join(("Other Users" if alternate else "user", "alice", "Work"))
        shared = dot.join((("Shared Folders",) if alternate else ()) + ("shared",))
        names = {}
        with peer.imap("cyrus") as admin:
            for user in one.users:
                admin.ok(f'CREATE "{of(user)}"')
                admin.ok(f'SETQUOTA "{of(user)}" (STORAGE 5000)')
                admin.ok(f'CREATE "{of(user, "Fast")}" fast')
                admin.ok(f'CREATE "{of(user, "Fast", "Below")}"')
            admin.ok("CREATE shared")
            admin.ok("SETACL shared alice lrswip")
            admin.ok("SETACL shared bob lrs")
        for user in one.users:
            with peer.imap(user) as client:
                for levels in (("Work",), ("Work", "Projects"), ("Entw&APw-rfe",), ("user",)):
                    client.ok(f'CREATE "{own(*levels)}"')
                for name in ("INBOX", own("Work"), own("Work", "Projects"), own("Fast"), own("Fast", "Below")):
                    for n in range(4):
                        flags = (b"", b"\\Seen", b"\\Flagged NewWord", b"\\Answered other")[n]
                        client.append(name, LETTER.replace(b"letter@", b"%d.%d@" % (hash(name) & 0xffff, n)), flags)
                client.select("INBOX")
                client.ok("UID STORE 2 +FLAGS (\\Deleted)")
                client.ok("UID EXPUNGE 2")
                client.ok(f'SUBSCRIBE "{own("Fast")}"')
                client.ok('SETMETADATA "INBOX" (/private/comment "of one\'s own")')
                names[user] = [taken.words(line)[-1] for line in taken.text_of(client.ok('LIST "" "*"'))[:-1]]
        with peer.imap("alice") as client:
            client.ok(f'SETACL "{own("Work")}" bob lrsw')
            client.ok(f'SUBSCRIBE "{shared}"')
            client.append(shared, LETTER)
            names["alice"].append(shared)
        with peer.imap("bob") as client:
            client.select(seen_by_bob)
            client.ok("UID STORE 1 +FLAGS (\\Seen)")
        names["bob"] += [seen_by_bob, shared]
        return {user: sorted(set(told)) for user, told in names.items()}

    def states(self, one, names, _=None):
        return {user: taken.alike(taken.ask(one, user, wanted), user) for user, wanted in names.items()}

    def same(self, mine, theirs, when):
        for user in theirs:
            self.assertEqual(mine[user]["lsub"], theirs[user]["lsub"], f"{when}, {user}")
            for name, box in theirs[user]["mailboxes"].items():
                with self.subTest(when=when, user=user, mailbox=name):
                    self.assertEqual(mine[user]["mailboxes"][name], box)

    def there_and_back(self, form):
        one = self.store(form)
        peer = self.cyrus(one)
        peer.start()
        names = self.fill(peer, one)
        theirs = self.states(peer, names)
        self.assertGreater(sum(len(box["messages"]) for told in theirs.values() for box in told["mailboxes"].values()
                               if "messages" in box), 60)
        peer.stop()
        for root in ("spool", "fast"):
            self.assertTrue(list((one.root / root).rglob("1.")), f"no message on {root}")
        self.assertEqual("metapartition" in one.options, bool(list((one.root / "meta").rglob("cyrus.index"))))
        done = one.take_over()
        self.assertIn(" taken over", done.stdout)
        one.start()
        self.same(self.states(one, names), theirs, "taken over")
        for user in one.users:
            self.changes(one, user, names[user])
        mine = self.states(one, names)
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.nothing_to_mend(peer)
        peer.start()
        theirs = self.states(peer, names)
        self.same(mine, theirs, "handed back")
        peer.stop()
        return one

    def changes(self, one, user, names):
        """By Cursus: letters, flags, an expunge, a mailbox made and one renamed."""
        work = next(name for name in names if name.endswith("Work") and "alice" not in name)
        dot = one.separator
        with one.imap(user) as client:
            client.append(work, LETTER, b"\\Flagged $Label1")
            client.select(work)
            client.ok("UID STORE 1 +FLAGS (\\Deleted other)")
            client.ok("UID EXPUNGE 1")
            client.ok(f'CREATE "{work}{dot}New"')
            client.append(f"{work}{dot}New", LETTER)
            below = next(name for name in names if name.endswith("Below"))
            client.ok(f'RENAME "{below}" "{below}2"')
            names[names.index(below)] = f"{below}2"
            names.append(f"{work}{dot}New")


class LaterIndexes(CyrusCase):
    """Indexes of releases after Debian's, derived from the fixture's: a whole store of each version."""

    def check(self, minor, told=None):
        one = CyrusCase.store(self, "cyrus-3.6-uuid")
        peer, met = self.cyrus(one), 0
        for path in one.root.rglob("cyrus.index"):
            # What is left alone stays in its version, which 3.6 would not read.
            if re.search(rb"#sieve|DELETED", (path.parent / "cyrus.header").read_bytes()):
                continue
            before = path.read_bytes()
            after = later_index.converted(before, minor, told)
            path.write_bytes(after)
            met += before != after
        self.assertGreater(met, 10)
        self.serve_taken(one)
        answers = taken.answers(one.name)
        self.compare(one, answers)
        self.assertEqual(one.stop(), 0)
        one.hand_back()
        self.nothing_to_mend(peer)

    def test_version_18(self):
        self.check(18)

    def test_version_19(self):
        self.check(19)

    def test_version_20(self):
        self.check(20)

    def test_version_20_that_says_19(self):
        self.check(20, told=19)


def test_of(form):
    return lambda self: self.there_and_back(form)


for form in FORMS:
    setattr(Hierarchies, f"test_{form}", test_of(form))


if __name__ == "__main__":
    unittest.main()
