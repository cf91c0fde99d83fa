"""Options of imapd.conf with a visible effect, set beside Debian's Cyrus 3.6: the same file, the same questions, equal
answers; Cyrus's own must change by each set, and by each option of it with `CYRUS_OPTIONS=all`.
"""

import copy
import os
import re
import unittest

from harness import manifest, taken
from harness.cyrus_case import LETTER, CyrusCase
from harness.server import certificate
from harness.wire import Imap, Lmtp, Pop3

ALL = os.environ.get("CYRUS_OPTIONS") == "all"
BASE = {
    "unixhierarchysep": "yes", "altnamespace": "yes", "hashimapspool": "yes", "partition-default": "@ROOT@/spool",
    "allowplaintext": "yes", "autocreate_quota": "0", "tls_server_cert": "@DIR@/both.pem",
    "tls_server_key": "@DIR@/both.pem", "specialusealways": "yes", "duplicatesuppression": "no",
}
SETS = {
    "names": {
        "unixhierarchysep": "no", "altnamespace": "no", "suppress_capabilities": "QUOTA ESEARCH", "sasl_mech_list": "LOGIN", "allowapop": "no",
        "uidl_format": "uidonly", "popexpiretime": "30d",
    },
    "prefixes": {
        "userprefix": "Others", "sharedprefix": "Common", "uidl_format": "courier", "allowanonymouslogin": "yes",
        "sasl_mech_list": "PLAIN LOGIN ANONYMOUS", "defaultacl": "anyone lr", "maxmessagesize": "66000", "popminpoll": "10m",
    },
    "new_mailboxes": {
        "autocreate_inbox_folders": "Sent | Drafts | Plain", "autocreate_subscribe_folders": "Sent | Plain",
        "xlist-sent": "Sent", "autocreate_quota": "40", "autocreate_quota_messages": "100",
        "specialuse_protect": "\\Drafts", "lmtp_catchall_mailbox": "bob",
    },
    # sasl_mech_list has no ANONYMOUS.
    "no_plain_passwords": {"allowplaintext": "no", "allowanonymouslogin": "yes", "uidl_format": "dovecot"},
    "tls_first": {"tls_required": "yes", "tls_versions": "tls1_2", "postuser": "post"},
}
MECHANISMS = {"AUTH=PLAIN", "AUTH=LOGIN", "AUTH=ANONYMOUS", "LOGINDISABLED", "STARTTLS"}
WORDS = {"QUOTA", "ESEARCH", "IDLE", "SORT", "NAMESPACE", "ACL"}


class Store(taken.OwnStore):
    def __init__(self, options):
        text = "".join(f"{name}: {value}\n" for name, value in options.items())
        super().__init__(text, ["alice", "bob", "carol"])

    def write_config(self):
        super().write_config()
        pem, key = certificate(self.dir, "imapd")
        both = self.dir / "both.pem"
        both.write_text(key.read_text() + pem.read_text())
        both.chmod(0o644)
        # The fixture's file has a few of these.
        names = {line.partition(":")[0] for line in self.options.splitlines()}
        lines, seen = [], set()
        for line in reversed(self.imapd_conf.read_text().replace("@DIR@", str(self.dir)).splitlines(True)):
            name = line.partition(":")[0]
            if name not in names or name not in seen:
                lines.append(line)
            seen.add(name)
        self.imapd_conf.write_text("".join(reversed(lines)))

    def config_text(self):
        # Whose mailboxes shared ones are, where no postuser says so.
        more = "" if "postuser" in self.options else f'[sharing]\nshared_user = "{taken.SHARED_USER}"\n'
        return f'state_dir = "{self.state}"\n{more}'


class CyrusOptions(CyrusCase):
    seconds = 240

    def probe(self, ports):
        """What clients are told, by name. The order matters: each makes what the next one meets."""
        out = {}
        at = lambda name: ("127.0.0.1", ports[name])
        with Imap(at("imap")) as client:
            told = client.command("CAPABILITY")[0].decode().split()
            out["mechanisms"] = sorted(MECHANISMS & set(told))
            plain = b" OK" in client.command("LOGIN carol pw-carol")[-1][:20]
            out["login"] = plain
        with Imap(at("imap")) as client:
            out["starttls"] = b" OK" in client.command("STARTTLS")[-1][:20]
            client.wrap_tls()
            out["tls"] = client.socket.version()
            client.login("carol", "pw-carol")
            out["words"] = sorted(WORDS & set(client.command("CAPABILITY")[0].decode().split()))
            out["namespace"] = client.ok("NAMESPACE")[0]
            out["listed"] = sorted(str(manifest.plain(manifest.tree(line))[2:]).lower() for line in self.uses(client))
            out["subscribed"] = sorted({manifest.plain(manifest.tree(line))[-1] for line in client.ok('LSUB "" "*"')[:-1]} - {"INBOX"})
            quota = client.command("GETQUOTAROOT INBOX")
            out["quota"] = [found for line in quota if (found := manifest.quota(line))]
            dot = re.search(rb'" "(.)"|"(.)"\)', out["namespace"])
            dot = (dot[1] or dot[2]).decode()
            inbox = "INBOX" + dot if b'"INBOX' in out["namespace"] else ""
            out["protected"] = [client.command(f"DELETE {inbox}{name}")[-1].split()[1] for name in ("Drafts", "Sent")]
        with Imap(at("imap")) as client:
            client.ok("STARTTLS")
            client.wrap_tls()
            client.login("cyrus", "pw-cyrus")
            client.ok("CREATE common")
            out["default acl"] = sorted(taken.words(client.ok("GETACL common")[0].decode())[3:])
            client.ok("SETACL common anyone p")
        with Lmtp(at("lmtp")) as client:
            out["size"] = [line.decode()[4:] for line in client.features if b"SIZE " in line]
            for name, to in (("delivered", "carol"), ("unknown", "nobody"), ("posted", "post+common")):
                out[name] = client.deliver([to], LETTER)[0][0]
                client.command(b"RSET")
        with Pop3(at("pop3")) as client:
            # Without TLS nobody logs in, by it neither.
            out["apop"] = b"<" in client.greeting and plain
            client.ok("STLS")
            client.wrap_tls()
            capa = client.lines("CAPA")
            out["capa"] = sorted(line for line in capa if line.startswith((b"EXPIRE", b"LOGIN-DELAY"))
                                 and line != b"LOGIN-DELAY 0")
            client.login("carol", "pw-carol")
            out["uidl"] = client.lines("UIDL")
            client.ok("QUIT")
        with Pop3(at("pop3")) as client:
            client.ok("STLS")
            client.wrap_tls()
            client.ok("USER carol")
            out["second pop3"] = client.command("PASS pw-carol")[:3]
        with Lmtp(at("lmtp")) as client:
            out["large"] = client.deliver(["carol"], LETTER + b"and more and more and more\r\n" * 2500)[0][0]
        return out

    def uses(self, client):
        return client.ok('LIST "" "*" RETURN (SPECIAL-USE)')[:-1]

    def answers(self, options):
        """Of Cyrus and of Cursus."""
        one = Store(BASE | options)
        peer = self.cyrus(one)
        peer.serve(pop3="pop3d", lmtp="lmtpd -a")
        peer.start()
        with Imap(("127.0.0.1", peer.port)) as client:
            client.ok("STARTTLS")
            client.wrap_tls()
            client.login("cyrus", "pw-cyrus")
            client.ok("CREATE user%sbob" % ("." if "unixhierarchysep: no" in one.options else "/"))
        theirs = self.probe(peer.ports)
        peer.stop()
        two = Store(BASE | options)
        self.servers.append(two)
        two.start()
        mine = self.probe(two.ports)
        self.assertEqual(two.stop(), 0)
        return theirs, mine

    def check(self, name, options, others):
        """Compares all answers; gives Cyrus's."""
        theirs, mine = self.answers(options)
        kept = copy.deepcopy(theirs)
        with self.subTest(effect=name):
            if name.endswith("without allowanonymouslogin") and "plain_passwords" in name:
                # That it has none there is what this is about.
                others = None
            self.assertNotEqual(self.plain(theirs), others and self.plain(others), "changes nothing that is asked")
        if "autocreate_quota" in options:
            # A message larger than all that there is room for: refused here, and not by Cyrus.
            self.assertEqual((theirs["large"], mine["large"]), (250, 452))
            mine["large"] = theirs["large"]
        if "maxmessagesize" not in options:
            # Ours stays, and is told.
            mine["size"] = theirs["size"]
        self.assertEqual(self.plain(mine).keys(), self.plain(theirs).keys())
        for what in theirs:
            with self.subTest(options=name, what=what):
                self.assertEqual(self.plain(mine)[what], self.plain(theirs)[what])
        return kept

    def plain(self, answers):
        """UIDVALIDITY is the time at which a mailbox was made."""
        blur = lambda line: re.sub(rb"1\d{9}", b"V", re.sub(rb"[0-9a-f]{8}$", b"V", line) if len(line) > 14 else line)
        return dict(answers, uidl=[blur(line) for line in answers["uidl"]])

    def test_options(self):
        shipped = self.check("as shipped", {}, None)
        for name, options in SETS.items():
            whole = self.check(name, options, shipped)
            for left in options if ALL else ():
                less = {option: value for option, value in options.items() if option != left}
                self.check(f"{name} without {left}", less, whole)


if __name__ == "__main__":
    unittest.main()
