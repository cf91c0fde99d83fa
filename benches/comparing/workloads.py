"""Everything that can be asked of a server, in the order in which it is."""
from dataclasses import dataclass, field, replace

BIG = "user64"  # The account whose INBOX is the large mailbox.
FOREIGN = "user63"  # The account whose Maildir another program has filled.


@dataclass
class Workload:
    """One call of cursus-load."""
    name: str
    options: list
    protocol: str = "imap"  # The port of peer.json to ask.
    fills: bool = False     # Wants the large mailbox.
    first: bool = False     # Its first answer may fill a cache: asked once before the rounds.
    once: bool = False      # Heavy and steady: one round is enough.
    fresh: bool = False     # Wants a process that has done nothing yet.
    # Asked once more in each turn, and not counted: a virtual machine's host takes memory back that was not
    # touched while others had their turns, and giving it again would be measured instead of the peer.
    warm: bool = False
    extra: list = field(default_factory=list)


def known(args):
    deliveries = str(args.deliveries)
    few = str(max(args.deliveries // 4, 50))
    big = ["--user", BIG]

    def lmtp(connections):
        count = few if connections == 1 else deliveries
        return Workload(f"lmtp {connections}", ["lmtp", "--connections", str(connections), "--users",
                                                "32", "--count", count], "lmtp")

    def append(connections):
        count = few if connections == 1 else deliveries
        return Workload(f"append {connections}",
                        ["append", "--connections", str(connections), "--users", str(connections),
                         "--mailbox", "INBOX", "--count", count])

    def reads(name, options, protocol="imap", first=False):
        return Workload(name, options + big, protocol, fills=True, warm=True, first=first)

    body = [] if args.search_body else ["--no-body"]
    return [
        *(lmtp(n) for n in (1, 8, 16, 64)),
        append(1),
        append(8),
        reads("select", ["select"]),
        reads("fetch-flags", ["fetch-flags"]),
        reads("fetch-envelope", ["fetch-envelope"], first=True),
        reads("fetch-headers", ["fetch-headers"], first=True),
        reads("bodies", ["bodies"]),
        reads("store-one", ["store-one", "--count", "1000"]),
        reads("store-all", ["store-all"]),
        reads("search", ["search"] + body, first=True),
        Workload("login", ["login", "--users", "10", "--count", str(args.logins)]),
        reads("pop3-drain", ["pop3-drain"], "pop3"),
        Workload("day", ["day", "--users", "50"]),
        Workload("idle", ["idle", "--users", "50"], once=True, fresh=True),
        Workload("open", ["open", "--user", FOREIGN, "--count", str(args.foreign)],
                 once=True, fresh=True),
        Workload("start", [], once=True),
    ]


def chosen(args):
    """The workloads of this run; raises ValueError for a name that does not exist."""
    everything = known(args)
    variants = []
    for workload in everything:
        if args.tls != "only" or workload.protocol == "lmtp" or not workload.options:
            variants.append(workload)
        if args.tls != "no" and workload.protocol != "lmtp" and workload.options:
            variants.append(replace(workload, name=workload.name + " tls", first=False,
                                    protocol=workload.protocol + "s",
                                    extra=["--tls", "implicit"]))
    delayed = [replace(w, name=w.name + " delayed-ack", extra=w.extra + ["--delayed-ack"], first=False)
               for w in variants if w.options and not w.once]
    if args.ack == "delayed":
        variants = delayed + [w for w in variants if w.once]
    elif args.ack == "both":
        variants += delayed
    if not args.only:
        return variants + [Workload("disk", [])]
    names = args.only.split(",")
    found = [w for w in variants if w.name in names or w.name.split(" tls")[0] in names
             or w.name.split(" delayed-ack")[0] in names]
    missing = [name for name in names if name != "disk"
               and not any(w.name == name or w.name.startswith(name + " ") for w in found)]
    if missing:
        raise ValueError(f"unknown workload {', '.join(missing)}; known: "
                         f"{', '.join(w.name for w in variants)}, disk")
    return found + ([Workload("disk", [])] if "disk" in names else [])
