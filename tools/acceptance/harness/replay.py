"""Replays a transcript on a server, and says at which steps the answers are others.

`Outcome.same` is about this server alone; whether a difference was expected is the caller's
affair.
"""

import contextlib
import re
import time
import zlib
from dataclasses import dataclass

from . import transcript
from .normal import OPTIONAL, Normaliser, renamed
from .peers import PASSWORD
from .wire import Closed, Imap, Pop3, Wire, quote

VARIABLE = re.compile(r"\$([a-z]\w*|\*)")
LITERAL = re.compile(r"(~?)\{([a-z]\w*)(-?)\}")
TOLD_BESIDES = re.compile(r"OK( \[(MAILBOXID|HIGHESTMODSEQ|NOMODSEQ) .*\])?")
WAIT_SECONDS = 3
ANSWER_SECONDS = 10


@dataclass
class Outcome:
    step: transcript.Step
    same: bool
    expected: list
    answered: list

    def shown(self):
        head = f"line {self.step.at}: {self.step.session} {self.step.mark}: {self.step.text}"
        return "\n".join([head, *(f"  expected {one}" for one in self.expected),
                          *(f"  answered {one}" for one in self.answered)])


class Unbound(Exception):
    """A step needs what was never told."""


def pattern(line, bound):
    """A regular expression for an expected line; names that are not bound yet are groups."""
    out, at, seen = "", 0, set()
    for found in VARIABLE.finditer(line):
        out += re.escape(line[at:found.start()])
        at = found.end()
        name = found[1]
        if name == "*":
            out += ".*"
        elif name in bound:
            out += re.escape(bound[name])
        elif name in seen:
            out += f"(?P={name})"
        else:
            seen.add(name)
            quoted = line[found.start() - 1:found.start()] == line[at:at + 1] == '"'
            out += rf'(?P<{name}>[^"]*)' if quoted else rf'(?P<{name}>[^\s()"\[\]]+)'
    return re.compile(out + re.escape(line[at:]), re.DOTALL)


def compare(expected, answered, bound):
    """Pairs lines off; binds names. Gives what is left of both."""
    answered, missing = list(answered), []
    for line in expected:
        # More than is asked for may be told with an OK.
        regex = pattern(line, bound) if line != "OK" else TOLD_BESIDES
        for at, told in enumerate(answered):
            if found := regex.fullmatch(told):
                bound.update(found.groupdict())
                del answered[at]
                break
        else:
            missing.append(line)
    asked = {kind(line) for line in expected}
    return missing, [line for line in answered if kind(line) is None or kind(line) in asked]


def without_uids(wanted, answered):
    """A server may tell a message's UID when nobody asked."""
    if any(re.search(r"FETCH \(.*\bUID ", line) for line in wanted):
        return answered
    return [re.sub(r"^(\* \d+ FETCH \(.*?) ?\bUID \d+\)$", r"\1)", line) for line in answered]


def kind(line):
    """What of responses may come at any time; None of what is always compared."""
    found = OPTIONAL.match(line)
    return re.sub(r"\d+", "n", found[0]) if found else None


class ImapSession(Imap):
    """A session that knows synchronising literals and COMPRESS."""

    inflate = deflate = None

    def send(self, data):
        if self.deflate:
            data = self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        super().send(data)

    def fill(self):
        if not self.inflate:
            return super().fill()
        plain, self.buffer = self.buffer, bytearray()
        super().fill()
        self.buffer = plain + self.inflate.decompress(bytes(self.buffer))
        return None

    def compressed(self):
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.inflate = zlib.decompressobj(-15)

    def parts(self, parts, whole=True):
        """Sends a command; each part but the last ends with a literal's announcement. Gives the
        tag and the responses, up to the tagged one, or to `+` where it is not `whole`."""
        self.serial += 1
        tag = b"a%d" % self.serial
        seen = []
        self.send(tag + b" " + parts[0] + b"\r\n")
        for part in parts[1:]:
            if not self.until_go_on(tag, seen):
                return tag, seen
            self.send(part + b"\r\n")
        if whole:
            seen += self.until(tag)
        else:
            self.until_go_on(tag, seen)
        return tag, seen

    def until_go_on(self, tag, seen):
        while True:
            one = self.response()
            if one.startswith(b"+"):
                return True
            seen.append(one)
            if one.startswith(tag + b" "):
                return False


class SmapSession(Wire):
    """SMAP1, which begins as IMAP and has no tags."""

    def __init__(self, address, **options):
        super().__init__(address, **options)
        self.line()

    def login(self, user, password):
        self.command(f"\\SMAP1 LOGIN {user} {quote(password).decode()}\r")

    def command(self, text):
        """The lines of an answer, the last one without its text."""
        self.send(text.encode() + b"\n")
        lines = []
        while True:
            line = self.line().decode("utf-8", "backslashreplace")
            if line.startswith(("+OK", "-ERR")):
                return [*lines, line.split()[0]]
            flags = re.compile(r"(?<=FLAGS=)[A-Z,]+")
            lines.append(flags.sub(lambda found: ",".join(sorted(found[0].split(","))), line))


def wait_for_six_digits():
    """Courier orders messages by names that have the microseconds without leading zeros: those of
    one second are in order where these have six digits."""
    time.sleep(max(0, 0.101 - time.time() % 1))


class Replay:
    """One transcript on one server, as the users `alice` and `bob` are called there."""

    def __init__(self, script, site, alice, bob):
        self.script, self.site = script, site
        self.users = {"alice": alice, "bob": bob, "admin": site.admin}
        self.sessions, self.running = {}, {}
        self.bound = {name: name for name in self.users}
        words = [(there, here) for here, there in self.users.items() if there]
        recent = "recent" in script.heads.get("keep", "")
        self.theirs = Normaliser(site.ours, words, recent)
        self.expected = Normaliser(recent=recent, in_turn=False)

    def run(self):
        """An outcome for each step that was sent."""
        with contextlib.ExitStack() as stack:
            self.stack = stack
            for step in self.script.steps:
                if self.site.name in step.unsent:
                    continue
                try:
                    yield self.step(step)
                except (Closed, TimeoutError, AssertionError) as error:
                    self.forget(step.session)
                    yield self.broken(step, error)
                except Unbound as error:
                    yield self.broken(step, error)

    def broken(self, step, error):
        return Outcome(step, False, step.expected, [f"({type(error).__name__}: {error})"])

    def forget(self, session):
        self.running.pop(session, None)
        if session in self.sessions:
            self.sessions.pop(session).close()

    def session(self, name):
        if name not in self.sessions:
            kind = name.rstrip("0123456789")
            speaks = {"pop": Pop3, "smap": SmapSession}.get(kind, ImapSession)
            at = ("127.0.0.1", self.site.ports["pop3" if speaks is Pop3 else "imap"])
            made = speaks(at, seconds=ANSWER_SECONDS)
            self.stack.callback(made.close)
            if kind != "new":
                made.login(self.users["alice" if kind in ("pop", "smap") else kind], PASSWORD)
            self.sessions[name] = made
        return self.sessions[name]

    def step(self, step):
        if step.mark == "?":
            return self.comparison(step)
        session = self.session(step.session)
        if step.mark == "W":
            return self.wait(step, session)
        if isinstance(session, Pop3):
            return self.pop(step, session)
        if isinstance(session, SmapSession):
            answered = session.command(step.text)
            return Outcome(step, *self.judged(step.expected or ["+OK"],
                                              answered if step.expected else answered[-1:]))
        parts = self.command(step.text)
        if self.site.name == "courier" and step.text.startswith("APPEND"):
            wait_for_six_digits()
        if step.mark == "C-":
            tag = self.running.pop(step.session)
            session.send(parts[0] + b"\r\n")
            seen = session.until(tag)
        else:
            tag, seen = session.parts(parts, whole=step.mark == "C")
            if step.mark == "C+":
                self.running[step.session] = tag
        answered = self.theirs.lines(seen, tag)
        if step.text.upper() == "COMPRESS DEFLATE" and answered[-1:] == ["OK"]:
            session.compressed()
        if step.text.upper() == "CAPABILITY":
            return self.announces(step, seen)
        if not step.expected:
            wanted = ["OK"] if step.mark != "C+" else []
            answered = [line.split(" [")[0] for line in answered if re.match("OK|NO|BAD", line)]
        else:
            wanted = self.expected_lines(step)
        return Outcome(step, *self.judged(wanted, answered))

    def judged(self, wanted, answered):
        missing, left = compare(wanted, without_uids(wanted, answered), self.bound)
        return not missing and not left, missing, left

    def announces(self, step, seen):
        """Each expected word must be there; servers offer others besides."""
        words = {word.decode() for line in seen if line.startswith(b"* CAPABILITY")
                 for word in line.split()[2:]}
        missing = [word for word in " ".join(step.expected).split() if word not in words]
        return Outcome(step, not missing, missing, [])

    def comparison(self, step):
        one, how, other = transcript.COMPARISON.match(step.text).groups()
        for name in (one, other):
            if name not in self.bound:
                raise Unbound(name)
        one, other = self.bound[one], self.bound[other]
        good = {"<": lambda: int(one) < int(other), "=": lambda: one == other,
                "!=": lambda: one != other}[how]()
        return Outcome(step, good, [], [] if good else [f"{one} and {other}"])

    def wait(self, step, session):
        [wanted] = self.lines_of([step.text])
        end, seen = time.monotonic() + WAIT_SECONDS, []
        while time.monotonic() < end:
            session.socket.settimeout(max(0.05, end - time.monotonic()))
            try:
                told = self.theirs.lines([session.response()])
            except TimeoutError:
                break
            finally:
                session.socket.settimeout(ANSWER_SECONDS)
            for line in told:
                if found := pattern(wanted, self.bound).fullmatch(line):
                    self.bound.update(found.groupdict())
                    return Outcome(step, True, [], [])
            seen += told
        return Outcome(step, False, [wanted], seen)

    # -- what is sent ------------------------------------------------------------

    def value(self, name):
        if name in self.users:
            return self.users[name] or ""
        if name not in self.bound:
            raise Unbound(name)
        value = self.bound[name]
        for here, there in self.users.items():
            # As it was told, before users were called as in the transcript.
            value = renamed(value, here, there) if there else value
        return value

    def command(self, text):
        """The command in parts that end with a literal's announcement."""
        text = VARIABLE.sub(lambda found: found[0] if found[1] == "*" else self.value(found[1]), text)
        text = re.sub(r"`([^`]*)`",
                      lambda found: quote(self.site.theirs(found[1])).decode(), text)
        parts, at = [b""], 0
        for found in LITERAL.finditer(text):
            data = self.literal(found)
            parts[-1] += text[at:found.start()].encode() + found[1].encode() + b"{%d}" % len(data)
            parts.append(data)
            at = found.end()
        parts[-1] += text[at:].encode()
        return parts

    def literal(self, found):
        data = self.script.literals[found[2]]
        return data.removesuffix(b"\r\n") if found[3] else data

    # -- what is expected ---------------------------------------------------------

    def expected_lines(self, step):
        return self.lines_of(step.expected)

    def lines_of(self, lines):
        raw = []
        for line in lines:
            made, at = b"", 0
            for found in LITERAL.finditer(line):
                data = self.literal(found)
                made += transcript.answer(line[at:found.start()]) + b"{%d}\r\n" % len(data) + data
                at = found.end()
            made += transcript.answer(line[at:])
            raw.append(b"tag " + made if re.match(rb"(OK|NO|BAD)\b", made) else made)
        return self.expected.lines(raw, b"tag")

    # -- POP3 ----------------------------------------------------------------------

    def pop(self, step, session):
        text = VARIABLE.sub(lambda found: self.value(found[1]), step.text)
        word, *arguments = text.upper().split() or [""]
        status = session.command(text)
        answered = [pop_status(status, word, arguments)]
        if status.startswith(b"+OK") and (
                word in ("CAPA", "RETR", "TOP") or word in ("LIST", "UIDL") and not arguments):
            while (line := session.line()) != b".":
                answered.append(line.removeprefix(b".").decode("utf-8", "backslashreplace"))
        wanted = []
        for line in step.expected or ["+OK"]:
            if found := LITERAL.fullmatch(line):
                data = self.literal(found).decode("utf-8", "backslashreplace")
                wanted += data.removesuffix("\r\n").split("\r\n")
            else:
                wanted.append(line)
        if word == "CAPA":
            missing = [one for one in wanted if one not in answered]
            return Outcome(step, not missing, missing, answered if missing else [])
        if not step.expected:
            answered = answered[:1]
        return Outcome(step, *self.judged(wanted, answered))


def pop_status(line, word, arguments):
    """+OK with what numbers mean, -ERR with the response code."""
    words = line.decode("utf-8", "backslashreplace").split()
    if words[0] == "-ERR":
        code = words[1:2] if words[1:2] and words[1].startswith("[") else []
        return " ".join(["-ERR", *code])
    if word in ("STAT", "LAST") or word in ("LIST", "UIDL") and arguments:
        return " ".join(words[: 2 if word == "LAST" else 3])
    return "+OK"
