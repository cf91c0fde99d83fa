"""Courier's and Cyrus's configuration as Debian ships it, unedited.

The server runs in a network of its own, so that it listens where those files say. Only where the
state, the mail and the certificates are comes from a cursus.toml.
"""

import json
import re
import shutil
import unittest

from harness import proc
from harness.case import Case
from harness.server import PASSWORD, Cursus
from harness.wire import Lmtp

MESSAGE = "From: <a@example.org>\r\nSubject: as it is\r\n\r\nfrom files of others\r\n"

# The new network has loopback and an address from which nobody is local; /run is empty, as after a
# boot. Then the server in their place.
ADDRESS = "192.0.2.1"
LAUNCH = (f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && mount -t tmpfs none /run && "
          "mkdir -p /run/cyrus/socket && exec \"$@\"")


def unpacked(name, *packages):
    """The tree of Debian packages, unpacked aside once; none of them is installed."""
    tree = proc.TARGET / "peers" / f"as-shipped-{name}"
    if not (tree / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        try:
            proc.run(["apt-get", "download", *packages], cwd=tree, seconds=60)
            for package in tree.glob("*.deb"):
                proc.run(["dpkg", "-x", package, tree])
        except (AssertionError, FileNotFoundError, TimeoutError) as error:
            raise unittest.SkipTest(f"no Debian packages of {name}: {str(error)[-200:]}")
        (tree / "complete").touch()
    return tree


class Inheriting(Cursus):
    """cursusd with another server's files, in a network of its own."""

    def __init__(self, options, partitions):
        self.options, self.partitions = [str(one) for one in options], partitions
        super().__init__("maildir", ("alice",))

    def config_text(self):
        return (f'state_dir = "{self.state}"\n'
                + self.partitions.format(spool=self.spool)
                + f'[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n')

    def arguments(self):
        return ["--config", self.config, *self.options]

    def tool(self, *arguments, **options):
        return proc.run([proc.BINARIES / "cursus", *self.arguments(), *arguments], **options)

    def accepts(self):
        return re.search(r"\bready\b", self.log()) is not None

    def start(self, **_):
        argv = ["unshare", "--net", "--mount", "sh", "-c", LAUNCH, "sh",
                proc.BINARIES / "cursusd", *self.arguments()]
        self.child = proc.Child(argv, self.log_path)
        self.wait_ready()
        # A first start needs no accounts.
        self.add_users()
        return self

    def curl(self, *arguments):
        """curl within the server's network, as alice."""
        argv = ["nsenter", "--target", self.child.pid, "--net", "curl", "--silent", "--show-error",
                "--insecure", "--max-time", 20, "--user", f"alice:{PASSWORD}", *arguments]
        return proc.run(argv, seconds=30).stdout.decode()

    def remarks(self, word):
        lines = [line for line in self.log().splitlines() if "cursus::config" in line]
        return [line for line in lines if word in line]


class AsShipped(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()
        self.need("unshare", "nsenter", "ip", "curl", "apt-get", "dpkg")
        probe = proc.run(["unshare", "--net", "--mount", "true"], check=False)
        if probe.returncode != 0:
            self.skipTest("no network namespace: this takes root")

    def started(self, options, partitions):
        one = Inheriting(options, partitions)
        self.servers.append(one)
        return one.start()

    def courier(self):
        return unpacked("courier", "courier-imap", "courier-pop", "courier-authdaemon") / "etc/courier"

    def cyrus(self):
        return unpacked("cyrus", "cyrus-common") / "etc"

    def converted(self, one):
        """The same as one file of ours says the same."""
        file = one.dir / "converted.toml"
        one.tool("config", "convert", "--to", file)
        both = [one.tool("--json", "config", "show").stdout,
                proc.run([proc.BINARIES / "cursus", "--config", file, "--json", "config", "show"]).stdout]
        self.assertEqual(json.loads(both[0]), json.loads(both[1]))
        self.assertEqual(
            proc.run([proc.BINARIES / "cursusd", "--check-config", "--config", file]).returncode, 0)

    def test_courier(self):
        one = self.started(
            ["--courier", self.courier()],
            '[[partition]]\nname = "default"\npath = "{spool}"\nuser_path = "{{user}}/Maildir"\n')
        message = one.dir / "message"
        message.write_bytes(MESSAGE.encode())
        one.curl("--upload-file", message, f"imap://{ADDRESS}/INBOX")
        self.assertEqual(one.curl(f"imap://{ADDRESS}/INBOX;UID=1"), MESSAGE)
        self.assertEqual(one.curl(f"imaps://{ADDRESS}/INBOX;UID=1"), MESSAGE)
        self.assertEqual(one.curl("--ssl-reqd", f"pop3://{ADDRESS}/1"), MESSAGE)
        self.assertEqual(one.curl(f"pop3s://{ADDRESS}/1"), MESSAGE)
        self.assertIn('* NAMESPACE (("INBOX." ".")', one.curl(f"imap://{ADDRESS}/", "-X", "NAMESPACE"))
        capability = one.curl(f"imap://{ADDRESS}/", "-X", "CAPABILITY")
        self.assertIn(" IDLE ", capability)
        self.assertTrue((one.spool / "alice" / "Maildir" / "new").is_dir())
        self.assertGreater(len(one.remarks("not needed")), 30)
        self.assertEqual(one.remarks("not served"), [])
        shown = one.tool("config", "show", "--origin").stdout.decode()
        self.assertRegex(shown, r'listener\[0\]\.connections_max\t40\t.*/etc/courier/imapd:\d+\n')
        self.assertRegex(shown, rf'state_dir\t.*\t{re.escape(str(one.config))}:1\n')
        self.assertRegex(shown, r'limits\.line_bytes_max\t65536\tdefault\n')
        alone = proc.run([proc.BINARIES / "cursus", "--courier", self.courier(), "config", "show",
                          "--origin"], env={"STATE_DIRECTORY": "/var/lib/own"}).stdout.decode()
        self.assertIn('state_dir\t"/var/lib/own"\tenvironment STATE_DIRECTORY\n', alone)
        self.converted(one)

    def test_cyrus(self):
        etc = self.cyrus()
        one = self.started(
            ["--imapd-conf", etc / "imapd.conf", "--cyrus-conf", etc / "cyrus.conf"],
            '[[partition]]\nname = "default"\npath = "{spool}"\nlayout = "cyrus"\n')
        # A path of the server's own /run.
        socket = f"/proc/{one.child.pid}/root/run/cyrus/socket/lmtp"
        with Lmtp(socket) as client:
            [(code, text)] = client.deliver(["alice@example.org"], MESSAGE.encode())
            self.assertEqual(code, 250, text)
        self.assertTrue(one.curl(f"imap://{ADDRESS}/INBOX;UID=1").endswith(MESSAGE))
        self.assertTrue(one.curl(f"pop3://{ADDRESS}/1").endswith(MESSAGE))
        self.assertIn('* NAMESPACE (("INBOX." ".")', one.curl(f"imap://{ADDRESS}/", "-X", "NAMESPACE"))
        self.assertTrue(list(one.spool.glob("a/user/alice/1.")))
        missing = one.remarks("not served")
        for name in ("nntp", "http", "sieve", "notify"):
            self.assertTrue(any(f"{name} = " in line for line in missing), f"{name}: {missing}")
        self.converted(one)

    def test_what_is_not_there_yet_is_refused_by_name(self):
        etc = self.cyrus()
        file = proc.new_dir("refused") / "imapd.conf"
        text = (etc / "imapd.conf").read_text() + "ldap_uri: ldap://localhost\nsync_host: other\n"
        file.write_text(text)
        done = proc.run([proc.BINARIES / "cursusd", "--check-config", "--imapd-conf", file,
                         "--cyrus-conf", etc / "cyrus.conf"], check=False)
        self.assertEqual(done.returncode, 78)
        last = len(text.splitlines())
        told = done.stderr.decode().splitlines()
        # What else was found comes before.
        said = [line for line in told if ": not served: " not in line and ": not needed: " not in line]
        self.assertEqual((len(said), told[-2:]), (2, said), told)
        self.assertTrue(any("nntp = " in line for line in told), told)
        self.assertIn(f'{file}:{last - 1}: ldap_uri = "ldap://localhost": ', said[0])
        self.assertIn(f'{file}:{last}: sync_host = "other": ', said[1])


if __name__ == "__main__":
    unittest.main()
