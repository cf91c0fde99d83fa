"""The same store where io_uring is refused: by the configuration, and by the kernel."""

import pathlib
import re
import sys

from harness import corpus, proc, server
from harness.case import both_layouts
from harness.wire import parse_body

REFUSE = [sys.executable, pathlib.Path(server.__file__).parent / "refuse_ring.py"]


@both_layouts(globals())
class RingRefused:
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def smoke(self, one):
        """One pass over what clients do, a clean restart in the middle."""
        messages = corpus.varied(20)
        for message in messages[:10]:
            one.deliver(message)
        told = one.fill(messages[10:])
        self.assertEqual([uid for _, uid in told], list(range(11, 21)))
        self.assertEqual(one.stop(), 0)
        one.start()
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 20)
            bodies = client.bodies()
            for uid, message in enumerate(messages, 1):
                self.assertTrue(bodies[uid].endswith(message))
            client.ok('CREATE "Old"')
            client.ok("UID MOVE 1:5 Old")
            client.ok("UID COPY 6 Old")
            client.ok(r"UID STORE 7 +FLAGS.SILENT (\Deleted)")
            client.ok("EXPUNGE")
            self.assertEqual(len(client.uid_search("ALL")), 14)
            self.assertEqual(client.uid_search('SUBJECT "varied 12"'), [13])
            self.assertEqual(client.select("Old")["exists"], 6)
        with one.pop3() as client:
            self.assertTrue(client.retrieve(14).endswith(messages[19]))
            client.ok("DELE 1")
            client.ok("QUIT")
        self.assertEqual(one.stop(), 0)
        one.start()
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 13)

    def told(self, one):
        """The log's one line about the way in use."""
        return [l for l in one.log().splitlines() if re.search(r"io_uring|blocking", l)]

    def test_by_configuration(self):
        one = self.serve(io="blocking")
        self.smoke(one)
        self.assertTrue(any("blocking" in l for l in self.told(one)), one.log()[-2000:])

    def test_by_the_kernel(self):
        one = self.serve(io="auto", launcher=REFUSE)
        self.smoke(one)
        self.assertTrue(any(re.search(r"refuse|not permitted|unavailable|EPERM", l)
                            for l in self.told(one)), one.log()[-2000:])

    def test_a_ring_that_is_demanded_and_refused_is_no_start(self):
        one = server.make(self.layout, io="uring", launcher=REFUSE)
        one.add_users()
        done = proc.run([*REFUSE, proc.BINARIES / "cursusd", "--config", one.config],
                        check=False, seconds=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex((done.stdout + done.stderr).decode(), "io_uring")

    def test_the_ring_where_it_works(self):
        one = self.serve(io="auto")
        self.smoke(one)
