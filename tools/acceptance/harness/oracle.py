"""What a replay must come to, and what docs/protocols.md says of it.

Cursus answers as the transcript has it. A peer does so too, but at the steps that are marked
with the name of a difference, where it must not: a difference that is over has to leave the list.
"""

import tomllib

from . import transcript
from .peers import PASSWORD
from .replay import Replay
from .wire import Imap, Pop3

HEAD = "## Beside other servers"
INTRODUCTION = """\
The scripts in `tools/acceptance/transcripts` are replayed on Cursus in both layouts and on Debian's
Dovecot 2.3, Cyrus 3.6 and Courier 5.0, as far as those announce what a script is about, by the
acceptance suite (`test_transcripts.py`). Where a peer answers otherwise, the script says so, under
one of the names below; the suite fails when another difference shows or one of these no longer does.
This section is made by `tools/acceptance/replay.py --table`."""


def reasons():
    """Name of a difference to `what` and `why`."""
    return tomllib.loads((transcript.FOLDER / "differences.toml").read_text("utf-8"))


def offered(site):
    """The words that a server announces before and after a login, and by POP3 as POP3:WORD."""
    with Imap(("127.0.0.1", site.ports["imap"]), seconds=20) as client:
        told = client.command("CAPABILITY")
        client.login("user1", PASSWORD)
        told += client.command("CAPABILITY")
    words = {word.decode() for line in told if line.startswith(b"* CAPABILITY ")
             for word in line.split()[2:]}
    with Pop3(("127.0.0.1", site.ports["pop3"]), seconds=20) as client:
        words |= {f"POP3:{line.split()[0].decode()}" for line in client.lines("CAPA")}
    # A number or list behind `=` is the server's own affair.
    return words | {word.split("=")[0] for word in words}


def faults(script, site, number, announced, show_marked=False):
    """What is wrong with this server's replay, as texts; none where all is as it is written."""
    peer = site.name != "cursus"
    has = script.announced(announced)
    if not has or peer and site.name not in script.peers:
        if has:
            return [f"{site.name} announces {script.heads['words']}, and is not among the peers"]
        if not peer or site.name in script.peers:
            return [f"{site.name} does not announce {script.heads['words']}"]
        return []
    out = []
    alice, bob = f"user{2 * number + 1}", f"user{2 * number + 2}"
    for outcome in Replay(script, site, alice, bob).run():
        marked = outcome.step.differs.get(site.name)
        if outcome.same and marked:
            out.append(f"{outcome.shown()}\n  as expected, though {marked} is said of it")
        elif not outcome.same and not marked:
            out.append(outcome.shown())
        elif show_marked and not outcome.same:
            out.append(f"({marked}) {outcome.shown()}")
    return out


def section(scripts):
    """The section of docs/protocols.md: what is compared with whom, and every difference."""
    out = [HEAD, "", INTRODUCTION, "", "| script | words | RFC | compared with |", "|---|---|---|---|"]
    where = {}
    for script in scripts:
        words = " ".join(f"`{word}`" for word in script.heads["words"].replace("|", " ").split())
        out.append(f"| `{script.name}` | {words} | {script.heads['rfc']} | "
                   f"{', '.join(peer.capitalize() for peer in script.peers) or '-'} |")
        for name, peer in script.differences():
            peers, files = where.setdefault(name, (set(), set()))
            peers.add(peer.capitalize())
            files.add(script.name)
    out += ["", "| difference | whose | in | what they do | why Cursus does not |",
            "|---|---|---|---|---|"]
    for name, reason in sorted(reasons().items()):
        peers, files = where.get(name, ((), ()))
        scripts_of = ", ".join(f"`{one}`" for one in sorted(files))
        out.append(f"| `{name}` | {', '.join(sorted(peers))} | {scripts_of} | {reason['what']} "
                   f"| {reason['why']} |")
    return "\n".join(out) + "\n"
