"""Transcripts: scripts of sessions with the answers that are expected, read from text files.

    words: CONDSTORE                 what a server must announce; `|` between words: one of them
    rfc: 7162
    peers: dovecot cyrus             who announces it; the test fails when that is not so
    keep: recent                     what the normal form leaves out else
    with: trash                      on servers that move expunged messages to the trash; limit: on
                                     one with a message limit of 3

    literal one                      bytes that commands and answers call {one}; each line ends in
    |Subject: x                      CRLF, `\\xE9` is an octet; {one-} is without the last CRLF
    |

    C: APPEND `Work/dev` {one}       a command of alice; ~{one} is a literal8; a mailbox in
    S: OK [APPENDUID $uv 1]          backquotes is called as the server calls it
    ~ courier no-appenduid           this peer answers otherwise; differences.toml says why
    bob C: LIST "" %                 a session has its user's name: alice, alice2, bob, admin; pop is
    bob S: OK                        alice by POP3, smap by SMAP1; new1 has nobody logged in
    ! cyrus no-such-command          not sent to this peer, likewise
    C+: IDLE                         begins a command, and waits for `+`
    W: * 2 EXISTS                    waits for that
    C-: DONE                         goes on with it, to its end
    ? m1 < m2                        of numbers that were told

Without S: a command has to succeed, and what it tells is not compared. `$name` in an answer is
whatever stands there, and from then on that; `$*` is anything.
"""

import pathlib
import re
from dataclasses import dataclass, field

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "transcripts"
LINE = re.compile(r"(?:(?P<session>[a-z]+\d*) )?(?P<mark>C|C\+|C-|S|W):(?: (?P<text>.*))?$")
COMPARISON = re.compile(r"\? (\w+) (<|=|!=) (\w+)$")


@dataclass
class Step:
    """One command, wait or comparison, and what is expected of it."""

    at: int
    session: str
    mark: str
    text: str
    expected: list = field(default_factory=list)
    # Peer to the name of the difference; and of what is not sent to it.
    differs: dict = field(default_factory=dict)
    unsent: dict = field(default_factory=dict)


@dataclass
class Transcript:
    name: str
    heads: dict
    literals: dict
    steps: list

    @property
    def words(self):
        """Each a set of which one must be announced."""
        return [one.split("|") for one in self.heads["words"].split()]

    @property
    def peers(self):
        return self.heads.get("peers", "").split()

    def announced(self, offered):
        return all(any(word in offered for word in one) for one in self.words)

    def differences(self):
        """(name, peer) of all that is marked."""
        for step in self.steps:
            for marked in (step.differs, step.unsent):
                yield from ((name, peer) for peer, name in marked.items())


def octets(text):
    """The text's octets in UTF-8, where `\\xE9` is the octet itself."""
    parts = re.split(r"\\x([0-9A-F]{2})", text)
    return b"".join(bytes([int(one, 16)]) if at % 2 else one.encode() for at, one in enumerate(parts))


def answer(text):
    """An expected line's octets: `\\r`, `\\n` and `\\xE9` stand for octets within strings."""
    def string(found):
        return re.sub(r"\\(\\|\"|r|n)", lambda one: {"r": "\r", "n": "\n"}.get(one[1], one[0]), found[0])

    return octets(re.sub(r'"(?:[^"\\]|\\.)*"', string, text))


def read(path):
    """The transcript in a file; what cannot be read is an error with its line."""
    heads, literals, steps, literal = {}, {}, [], None
    for at, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        def wrong(what):
            raise ValueError(f"{path.name}:{at}: {what}: {line}")

        if line.startswith("|"):
            if literal is None:
                wrong("a line of no literal")
            literals[literal] += octets(line[1:]) + b"\r\n"
        elif not line.strip() or line.startswith("#"):
            continue
        elif found := re.match(r"literal ([a-z]\w*)$", line):
            literal = found[1]
            literals[literal] = b""
        elif found := re.match(r"([a-z]+):(?: (.*))?$", line):
            heads[found[1]] = found[2] or ""
        elif found := LINE.match(line):
            session, mark, text = found["session"] or "alice", found["mark"], found["text"] or ""
            if mark != "S":
                steps.append(Step(at, session, mark, text))
            elif not steps or steps[-1].session != session:
                wrong("an answer to no command of this session")
            else:
                steps[-1].expected.append(text)
        elif COMPARISON.match(line):
            steps.append(Step(at, "", "?", line))
        elif found := re.match(r"([~!]) (.+) ([a-z0-9-]+)$", line):
            marked = steps[-1].differs if found[1] == "~" else steps[-1].unsent
            marked.update({peer: found[3] for peer in found[2].split()})
        else:
            wrong("expected a head, a literal, a step or a mark")
    if not {"words", "rfc"} <= heads.keys() or not steps:
        raise ValueError(f"{path.name}: expected the heads words and rfc, and steps")
    return Transcript(path.stem, heads, literals, steps)


def all_transcripts():
    return [read(path) for path in sorted(FOLDER.glob("*.imap"))]
