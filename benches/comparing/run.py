"""Started peers, and all that is measured of them."""
import json
import pathlib
import shlex
import subprocess
import sys
import time

from . import facts
from .workloads import BIG, FOREIGN

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
CURSUSD = PEERS.parent.parent / "target/release/cursusd"
PORTS_EACH = 2_000
# Share of the free memory that idle sessions may take.
MEMORY_SHARE = 0.6
# Sessions that tell what one costs, before all are opened.
SESSIONS_PROBE = 100


class Run:
    def __init__(self, args, root):
        self.args = args
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.peers = {}  # peer -> peer.json
        self.samples = {}  # (workload, metric) -> {unit, better, peers: {peer: [values]}}
        self.cpu = {}  # workload -> peer -> [[wall, client, server], ...]
        self.failures = []
        self.notes = []
        self.machine = facts.machine(root)

    def all(self, chosen):
        for number, peer in enumerate(self.args.peer):
            self.start(peer, self.args.port + PORTS_EACH * number)
        if any(workload.fills for workload in chosen):
            self.fill()
        if not self.args.keep:
            for workload in chosen:
                if workload.first:
                    for peer in self.peers:
                        self.ask(peer, workload, first=True)
        for turn in range(self.args.rounds):
            for workload in chosen:
                if turn == 0 or not workload.once:
                    self.turn(workload)
            self.save()

    def turn(self, workload):
        if workload.name == "disk":
            return self.disk()
        for peer in list(self.peers):
            if workload.name == "start":
                self.restart(peer)
                self.record("start", peer, {"metrics": [{
                    "name": "process start to first greeting", "unit": "ms", "better": "lower",
                    "samples": [self.peers[peer]["start_ms"]]}]})
                continue
            if workload.fresh:
                # What earlier work left in the heap would hide what sessions take.
                self.restart(peer)
            if workload.options[0] == "idle":
                self.idle(peer, workload)
            elif workload.options[0] == "open":
                self.open(peer, workload)
            else:
                # Its first sample was taken before the rounds; asked again it is a later one.
                self.ask(peer, workload, self.how(peer, workload))

    def how(self, peer, workload):
        """What is read is asked once before it counts, and of ours the same answers come from memory too."""
        if not workload.warm:
            return []
        floor = workload.protocol == "imap" and "--tls" not in workload.extra and peer.startswith("cursus")
        return ["--warm", "1"] + (["--floor"] if floor else [])

    # Starting and stopping

    def start(self, peer, port, fill=False, keep=False):
        name, _, variant = peer.partition("+")
        ours = name.startswith("cursus")
        if variant not in ("", "indexed" if ours else "unsafe"):
            raise SystemExit(f"{peer}: only +unsafe can follow a peer's name, +indexed that of cursus")
        name, _, layout = name.partition(":")
        directory = self.root / peer.replace(":", "-")
        if directory.exists() and not self.args.keep and not keep:
            subprocess.run(["rm", "-rf", directory], check=True)
        command = [PEERS / name, "start", directory, "--users", "64", "--port", str(port),
                   "--sync", "no" if fill or variant == "unsafe" else "yes"]
        if variant == "indexed":
            command += ["--index", "searched"]
        if layout:
            command += ["--layout", layout]
        if ours and self.args.binary:
            command += ["--binary", self.args.binary]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.peers[peer] = json.loads((directory / "peer.json").read_text())

    def restart(self, peer, fill=False):
        """A fresh process on the same store; `fill` is for peers that fill slowly."""
        base = self.peers[peer]["imap"] - 143
        self.end(peer)
        self.start(peer, base, fill, keep=True)

    def end(self, peer):
        name = peer.partition("+")[0].partition(":")[0]
        subprocess.run([PEERS / name, "stop", self.peers[peer]["directory"]], check=False)

    def stop(self):
        for peer, peer_facts in self.peers.items():
            self.end(peer)
            if not self.args.keep:
                subprocess.run(["rm", "-rf", peer_facts["directory"]], check=False)
        for written in self.root.glob("cursus-load-disk-*"):
            subprocess.run(["rm", "-rf", written], check=False)

    # Asking

    def fill(self):
        for peer, peer_facts in list(self.peers.items()):
            done = pathlib.Path(peer_facts["directory"]) / "filled"
            if done.exists():
                continue
            if peer_facts["name"] == "courier":
                # Its APPEND costs as much as the mailbox has messages: hours for a large one.
                self.plant(peer, BIG, ["--count", str(self.args.messages), "--size", "15000",
                                       "--unseen"])
            else:
                self.restart(peer, fill=True)
                self.call(peer, "fill", "imap",
                          ["fill", "--user", BIG, "--count", str(self.args.messages)])
                self.restart(peer)
            if peer.endswith("+indexed"):
                self.index(peer_facts["directory"])
            done.touch()

    def index(self, directory):
        """What Cursus would do behind its first search, done before there is one."""
        binary = pathlib.Path(self.args.binary) if self.args.binary else CURSUSD
        subprocess.run([binary.with_name("cursus"), "--config", f"{directory}/cursus.toml", "index",
                        "update", "--user", BIG], check=True, stdout=subprocess.DEVNULL)

    def ask(self, peer, workload, extra=(), first=False):
        port = self.peers[peer][workload.protocol]
        if not port:
            return None
        options = workload.options + workload.extra + list(extra)
        if options[0] == "lmtp":
            options += ["--imap-port", str(self.peers[peer]["imap"])]
        if options[0] == "day" and self.peers[peer]["lmtp"]:
            options += ["--lmtp-port", str(self.peers[peer]["lmtp"])]
        return self.call(peer, workload.name, workload.protocol, options, first)

    def call(self, peer, name, protocol, options, first=False):
        peer_facts = self.peers[peer]
        command = options[:1] + ["--port", str(peer_facts[protocol]), "--pid",
                                 str(peer_facts["pid"]), "--password", peer_facts["password"],
                                 "--rounds", "1"] + options[1:]
        try:
            answer = self.load(command)
        except RuntimeError as error:
            print(f"  {peer}: {name}: {error}", file=sys.stderr)
            self.failures.append(f"{peer}: {name}: {error}")
            return None
        for metric in answer["metrics"]:
            if first and not metric["name"].startswith("first"):
                metric["name"] = f"first {metric['name']}"
        self.record(name, peer, answer)
        return answer

    def idle(self, peer, workload):
        """As many sessions as were asked for, or as memory allows by what a hundred take."""
        sessions = self.args.sessions
        probe = self.load(["idle", "--port", str(self.peers[peer][workload.protocol]), "--pid",
                           str(self.peers[peer]["pid"]), "--password",
                           self.peers[peer]["password"], "--rounds", "1", "--users", "50",
                           "--settle", "1", "--sessions", str(SESSIONS_PROBE)] + workload.extra)
        each = next(metric["samples"][0] for metric in probe["metrics"]
                    if metric["name"] == "Pss of a session")
        room = facts.memory_available_kib() * MEMORY_SHARE
        fits = int(room / max(each, 1))
        if fits < sessions:
            self.notes.append(f"{peer}, {workload.name}: {fits} sessions instead of {sessions}, "
                              f"because one takes {each:.0f} KiB")
            sessions = fits
        self.restart(peer)
        self.ask(peer, workload, ["--sessions", str(sessions)])

    def open(self, peer, workload):
        """The first opening of a Maildir that nobody has seen."""
        if self.peers[peer].get("maildir"):
            self.plant(peer, FOREIGN, ["--count", str(self.args.foreign)])
            self.ask(peer, workload)

    def plant(self, peer, user, options):
        """Files of another program in a user's Maildir, while the peer is down."""
        maildir = self.peers[peer]["maildir"].replace("{user}", user)
        base = self.peers[peer]["imap"] - 143
        self.end(peer)
        subprocess.run(["rm", "-rf", maildir], check=True)
        self.load(["plant", "--directory", maildir] + options)
        owner = self.peers[peer]["owner"]
        if owner:
            subprocess.run(["chown", "-R", owner, pathlib.Path(maildir)], check=True)
        self.start(peer, base, keep=True)

    def disk(self):
        # The files stay until the run's end: many removals make the creations behind them dear.
        answer = self.load(["disk", "--directory", str(self.root), "--count", "1000", "--keep",
                            "--rounds", "1"])
        self.record("disk", "disk itself", answer)

    def load(self, command):
        print(time.strftime("%H:%M:%S"), shlex.join(command), file=sys.stderr, flush=True)
        try:
            done = subprocess.run([self.args.load, "--json"] + command, capture_output=True,
                                  text=True, timeout=1800)
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"no answer within {late.timeout} s") from late
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit status {done.returncode}")
        return json.loads(done.stdout)

    # Keeping

    def record(self, workload, peer, answer):
        for metric in answer["metrics"]:
            entry = self.samples.setdefault(
                (workload, metric["name"]),
                {"unit": metric["unit"], "better": metric["better"], "peers": {}})
            entry["peers"].setdefault(peer, []).extend(metric["samples"])
        if "wall_seconds" in answer:
            self.cpu.setdefault(workload, {}).setdefault(peer, []).append(
                [answer["wall_seconds"], answer["client_cpu_seconds"],
                 answer["server_cpu_seconds"]])

    def results(self):
        return {
            "machine": self.machine,
            "arguments": vars(self.args),
            "peers": self.peers,
            "failures": self.failures,
            "notes": self.notes,
            "samples": [{"workload": workload, "metric": metric, **entry}
                        for (workload, metric), entry in self.samples.items()],
            "cpu_seconds_wall_client_server": self.cpu,
        }

    def save(self):
        pathlib.Path(self.args.out).write_text(json.dumps(self.results(), indent=1))
