"""Cursus and Debian's Courier and Dovecot in turn on one Maildir: no client notices."""

import os

from harness.alternation import Alternation
from harness.case import Case


class Takeover(Case):
    def alternate(self, old):
        if os.getuid() != 0:
            self.skipTest("peers take root")
        run = Alternation(old, seed=3)
        self.addCleanup(run.stop)
        run.run(3, changes=10)
        self.need("mbsync")
        run.nothing_is_fetched_twice()
        self.assertGreater(len(run.journal), 20)
        complaints = run.cursus.complaints()
        self.assertEqual(complaints, [])

    def test_courier(self):
        self.alternate("courier")

    def test_dovecot(self):
        self.alternate("dovecot")
