"""Roundcube with its acl plugin and quota display, used in a headless Chromium."""

import json

from harness import corpus, proc, roundcube
from harness.case import both_layouts
from harness.server import PASSWORD
from test_clients import flags_of
from test_libraries import CLIENTS, subjects

HTML = corpus.header(
    "Grüße".encode(), b'Content-Type: multipart/mixed; boundary="m"\r\n') + """
--m
Content-Type: multipart/alternative; boundary="a"

--a
Content-Type: text/plain; charset=utf-8

In plain words.
--a
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>In <b>bold wörds</b>.</p>
--a--
--m
Content-Type: application/pdf
Content-Disposition: attachment; filename*0*=utf-8''%C3%9Cber; filename*1=sicht.pdf
Content-Transfer-Encoding: base64

AAECAwQ=
--m--
""".replace("\n", "\r\n").encode()


@both_layouts(globals())
class Roundcube:
    """Roundcube with its acl plugin and quota display, used in a headless Chromium."""

    def test_reads_sorts_and_shares(self):
        self.only_cursus()
        node, chromium = self.need("node", "chromium")
        core = proc.TARGET / "npm" / "node_modules" / "playwright-core"
        if not core.is_dir():
            self.skipTest("npm's playwright-core is not installed")
        if lacking := roundcube.missing():
            self.skipTest(f"{lacking} is not installed")
        one = self.serve(extra="[store]\nquota_bytes = 16384\n")
        one.fill([HTML, corpus.plain("plain one", b"Only text.\r\n"), corpus.plain("flag me"),
                  corpus.plain("move me")])
        with one.imap() as client:
            client.ok("CREATE Work")
            client.ok("SUBSCRIBE Work")
        site = roundcube.Roundcube(one.ports["imap"])
        self.addCleanup(site.stop)
        shots = proc.TARGET / "test-logs"
        shots.mkdir(parents=True, exist_ok=True)
        done = proc.run([node, CLIENTS / "roundcube.cjs", core, chromium, site.url, PASSWORD, shots],
                        seconds=100, check=False)
        told = {step.pop("step"): step for step in map(json.loads, done.stdout.splitlines())}
        self.assertIn("done", told, f"{told}\n{done.stderr.decode()[-2500:]}\n{site.errors()[-2500:]}")

        self.assertEqual(told["listed"]["subjects"], ["move me", "flag me", "plain one", "Grüße"])
        self.assertRegex(told["listed"]["quota"], r"^[1-9]\d?%")
        self.assertEqual(told["html"]["bold"], "bold wörds")
        self.assertIn("Übersicht.pdf", "".join(told["html"]["attachments"]))
        self.assertIn("Only text.", told["text"]["text"])
        self.assertEqual(told["found"]["subjects"], ["plain one"])
        self.assertEqual(told["trashed"]["subjects"], ["plain one"])
        self.assertIn("bob", told["shared"]["users"])
        self.assertEqual(told["seen"]["subjects"], ["move me"])
        self.assertIn("Other Users/alice/Work", told["seen"]["folders"])
        self.assertEqual(site.errors(), "")
        with one.imap() as client:
            self.assertEqual(subjects(client), ["Grüße", "flag me"])
            flags = list(flags_of(client).values())
            self.assertIn(rb"\Seen", flags[0])
            self.assertIn(rb"\Flagged", flags[1])
            self.assertEqual(subjects(client, "Work"), ["move me"])
            self.assertEqual(subjects(client, "Trash"), ["plain one"])
            self.assertIn(b"bob lrs", b"".join(client.ok("GETACL Work")))
