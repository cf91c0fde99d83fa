"""What tests of Cyrus's stores need: the store, Debian's server on it, changes, comparisons."""

import re
import subprocess

from . import manifest, proc, taken
from .case import Case

STORES = {"cyrus-3.6-legacydirs": "/", "cyrus-3.6-uuid": "."}
LETTER = (b"From: =?utf-8?q?J=C3=B6rg?= <j@example.net>\r\nTo: Alice <alice@internal.test>\r\n"
          b"Date: Thu, 02 Jul 2026 10:00:00 +0200\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= \"x\"\r\n"
          b"Message-ID: <letter@example.net>\r\nMIME-Version: 1.0\r\n"
          b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
          b"Content-Transfer-Encoding: quoted-printable\r\n\r\nsch=C3=B6n\r\n--b\r\n"
          b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n")


class CyrusCase(Case):
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

    def compare_columns(self, one, answers):
        """What `compare` has not: rights of one's own, ENVELOPE, BODYSTRUCTURE, what of a quota is used, keywords,
        comments, NAMESPACE; all access lists, as administrators are told them."""
        met = 0
        for wanted in answers["imap"]:
            user = wanted["user"]
            with one.imap(user) as client:
                if user != "cyrus":
                    self.assertEqual([line.decode() for line in client.ok("NAMESPACE")[:-1]], wanted["namespace"])
                for name, box in wanted["mailboxes"].items():
                    if name.startswith("DELETED") or name.endswith("#sieve"):
                        continue
                    with self.subTest(columns=name, user=user):
                        have, want = manifest.mailbox(client, name), manifest.told_mailbox(box)
                        if user == "cyrus":
                            self.assertEqual(have.get("acl"), want.get("acl"))
                        else:
                            met += self.compare_column(client, name, box, have, want)
        self.assertGreater(met, 70)

    def compare_column(self, client, name, box, have, want):
        for key in ("myrights", "words"):
            self.assertEqual(have[key], want[key], key)
        # Octets are rounded up here, down there.
        used = lambda quota, more: {what: pair[0] + (more and what == "STORAGE") for what, pair in quota.items()}
        self.assertIn(used(have["quota"], 0), (used(want["quota"], 0), used(want["quota"], 1)))
        for uid, message in want["messages"].items():
            for key in ("envelope_tree", "bodystructure_tree", "octets"):
                self.assertEqual(have["messages"][uid][key], message[key], f"UID {uid}")
        told = manifest.plain(manifest.tree("".join(box["metadata"]).encode()))[-1]
        told = dict(zip(told[::2], told[1::2]))
        for entry in ("/private/comment", "/shared/comment", "/private/specialuse"):
            [line, _] = client.ok(f'GETMETADATA "{name}" {entry}')
            self.assertEqual(manifest.plain(manifest.tree(line))[-1], [entry, told[entry]])
        return len(want["messages"])

    def cyrus(self, one):
        peer = taken.CyrusServer(one)
        peer.need(self)
        self.addCleanup(peer.stop)
        return peer

    def nothing_to_mend(self, peer):
        """`reconstruct -n` names mailboxes and says no word more; `quota -f` corrects nothing. Gives the names."""
        told = peer.tool("reconstruct", "-n").splitlines()
        more = [line for line in told if " " in line.strip()]
        self.assertEqual(more, [])
        self.assertGreater(len(told), 10)
        before = self.quota_files(peer)
        peer.tool("quota", "-f")
        self.assertEqual(self.quota_files(peer), before)
        return told

    def quota_files(self, peer):
        # What `quota -f` writes has its own MODSEQ.
        return {str(path): re.sub(rb" MODSEQ \d+", b"", path.read_bytes())
                for path in (peer.root / "lib").rglob("quota/*/*")}

    def tree(self, one):
        """All of Cyrus's files."""
        return {str(path.relative_to(one.root)): path.read_bytes()
                for path in sorted(one.root.rglob("*")) if path.is_file()}

    def cyrus_files(self, one):
        """What is Cyrus's, without rewrites that were cut off, and all messages that it knows."""
        return {path: data for path, data in self.tree(one).items()
                if "cursus." not in path and not path.endswith(".NEW")}

    def change(self, one):
        """Changes of every kind, by Cursus; gives the names that alice has then."""
        dot = one.separator
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

    def changed_and_stopped(self, name):
        """A store that was taken over and changed, to be handed back: what alice has in it."""
        one = self.store(name)
        self.serve_taken(one)
        names = self.change(one)
        with one.imap() as client:
            self.inbox = client.select("INBOX")["exists"]
        self.assertEqual(one.stop(), 0)
        return one, names

    def serve_taken(self, one):
        one.take_over()
        one.add_users()
        one.start()

    def states(self, one, names, dot):
        others = dot.join(("user", "alice", "Work"))
        asked = {"alice": names + ["shared"], "bob": ["INBOX", others, "shared"], "carol": ["INBOX", others]}
        return {user: taken.alike(taken.ask(one, user, wanted), user) for user, wanted in asked.items()}

    def killed_ever_later(self, one, verb, pause, factor, each=lambda: None):
        """Runs `cursus takeover` or `handback` until it is not killed any more; `each` is called
        after each kill. Gives how many there were."""
        argv = [proc.BINARIES / "cursus", "--config", one.config, verb, "cyrus",
                "--imapd-conf", one.imapd_conf]
        killed = 0
        while True:
            child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                _, told = child.communicate(timeout=pause)
                self.assertEqual(child.returncode, 0, told)
                return killed
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
            each()
            killed += 1
            pause *= factor

    def refused(self, one, reason="`cursus handback cyrus` finishes it"):
        """Nobody opens a store that a command has to be finished of, nor makes anything there."""
        before = self.tree(one), sorted(one.state.rglob("*"))
        for argv in (["cursus", "--config", one.config, "check"], ["cursusd", "--config", one.config]):
            done = proc.run([proc.BINARIES / argv[0], *argv[1:]], check=False)
            self.assertNotEqual(done.returncode, 0, argv)
            self.assertIn(reason, done.stderr.decode(), argv)
        self.assertEqual((self.tree(one), sorted(one.state.rglob("*"))), before)
