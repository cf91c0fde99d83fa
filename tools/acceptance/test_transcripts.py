"""One script a capability, replayed on Cursus and on Debian's Dovecot, Cyrus and Courier.

What the originals answer otherwise is named in the scripts, with reasons in differences.toml, and
shown by docs/protocols.md. All servers last for all scripts, and replay one at the same time.
"""

import concurrent.futures
import time

from harness import oracle, peers, proc, server, transcript
from harness.case import Case

SCRIPTS = transcript.all_transcripts()
USERS = 2 * len(SCRIPTS)


def begin_within_a_second():
    """Courier's POP3 has messages in the order of their names, as texts, in which microseconds have no
    leading zeros: of two that come about a tenth of a second after a full one the later may be the first."""
    part = time.time() % 1
    time.sleep(0 if 0.1 <= part < 0.8 else (1.1 - part) % 1)


class Stage:
    """The running servers by name, with what they announce; why there is no other."""

    def __init__(self):
        makers = {f"cursus {layout}": (lambda layout=layout: peers.CursusSite(layout, USERS))
                  for layout in server.LAYOUTS}
        makers |= {kind.name: (lambda kind=kind: kind(USERS)) for kind in peers.PEERS}
        makers |= {
            "cursus trash": lambda: peers.CursusSite("maildir", USERS, "trash"),
            "cursus limit": lambda: peers.CursusSite("maildir", USERS, "limit"),
            "courier trash": lambda: peers.Courier(USERS, "trash"),
        }
        made = {name: make() for name, make in makers.items()}
        self.sites, self.missing = {}, {}
        self.threads = concurrent.futures.ThreadPoolExecutor(len(made))
        starting = {name: self.threads.submit(self.started, site) for name, site in made.items()}
        failed = {}
        for name, future in starting.items():
            try:
                self.sites[name] = (made[name], future.result())
            except (AssertionError, OSError, TimeoutError) as error:
                failed[name] = error
        for name, error in failed.items():
            if name.startswith("cursus"):
                self.stop()
                raise error
            self.missing[name] = " ".join(str(error).split())[-300:]

    @staticmethod
    def started(site):
        """What a server announces, once it runs."""
        site.start()
        return oracle.offered(site)

    def replay(self, number):
        """Faults by server."""
        begin_within_a_second()
        futures = {
            name: self.threads.submit(oracle.faults, SCRIPTS[number], site, number, announced)
            for name, (site, announced) in self.sites.items()
            if site.variant == SCRIPTS[number].heads.get("with", "")}
        return {name: future.result() for name, future in futures.items()}

    def stop(self):
        list(self.threads.map(lambda one: one[0].stop(), self.sites.values()))
        self.threads.shutdown()


STAGE = None


def setUpModule():
    global STAGE
    if server.ORACLE == "cursus":
        STAGE = Stage()


def tearDownModule():
    if STAGE:
        STAGE.stop()


class Transcripts(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def replay(self, number):
        for name, faults in STAGE.replay(number).items():
            with self.subTest(server=name):
                self.assertEqual(faults, [], "\n" + "\n".join(faults))
        for site, _ in STAGE.sites.values():
            if isinstance(site, server.Server):
                self.assertEqual(site.complaints(), [])

    def peer(self, name):
        if name in STAGE.missing:
            self.skipTest(f"{name} cannot be had: {STAGE.missing[name]}")
        self.assertIn(name, STAGE.sites)

    def test_the_document_shows_every_difference(self):
        document = (proc.ROOT / "docs" / "protocols.md").read_text("utf-8")
        shown = oracle.HEAD + document.partition(oracle.HEAD)[2]
        self.assertEqual(shown, oracle.section(SCRIPTS), "made by tools/acceptance/replay.py --table")

    def test_every_difference_has_a_reason_and_every_reason_a_difference(self):
        named = {name for script in SCRIPTS for name, _ in script.differences()}
        self.assertEqual(named, set(oracle.reasons()))

    def test_what_is_marked_is_a_peer_of_the_script(self):
        for script in SCRIPTS:
            self.assertLessEqual({peer for _, peer in script.differences()}, set(script.peers),
                                 script.name)


for kind in peers.PEERS:
    setattr(Transcripts, f"test_peer_{kind.name}",
            lambda self, name=kind.name: self.peer(name))
for number, script in enumerate(SCRIPTS):
    setattr(Transcripts, f"test_{script.name.replace('-', '_')}",
            lambda self, number=number: self.replay(number))
