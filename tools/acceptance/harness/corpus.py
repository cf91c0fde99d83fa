"""Real mail out of packages, and generated mail that real corpora seldom have.

None of it is kept in the tree: Debian's notmuch source package brings list mail, the
crate mail-parser brings odd and malformed messages, CPython's own tests bring MIME
examples. They arrive by the ordinary package clients and stay below `target/`.
"""

import base64
import functools
import hashlib
import os
import pathlib
import random
import subprocess
import tarfile
import test.test_email

from . import proc

CACHE = proc.TARGET / "acceptance" / "corpus"
REAL_MESSAGES_MIN = 500
MAIL_PARSER_VERSION = "1.0.1"


def notmuch():
    """The corpora of Debian's notmuch source package, by apt-get source."""
    where = CACHE / "notmuch"
    if not list(where.glob("*.orig.tar.*")):
        lists = where / "lists" / "partial"
        archives = where / "cache" / "archives" / "partial"
        for path in (lists, archives):
            path.mkdir(parents=True, exist_ok=True)
        (where / "sources.list").write_text("deb-src http://deb.debian.org/debian bookworm main\n")
        # A list of its own, so that the machine's configuration stays as it is.
        options = [
            f"Dir::Etc::SourceList={where}/sources.list", "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State::Lists={where}/lists", f"Dir::Cache={where}/cache",
            "APT::Sandbox::User=root",
        ]
        flags = [part for option in options for part in ("-o", option)]
        proc.run(["apt-get", *flags, "update"], seconds=120)
        proc.run(["apt-get", *flags, "source", "--download-only", "notmuch"], cwd=where, seconds=120)
    out = []
    for archive in where.glob("*.orig.tar.*"):
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                if "/test/corpora/" in member.name and member.isfile() \
                        and not member.name.endswith("README"):
                    out.append(tar.extractfile(member).read())
    return out


def mail_parser():
    """The example messages that the crate mail-parser ships."""
    where = CACHE / "mail-parser"
    if not (where / "Cargo.lock").exists():
        (where / "src").mkdir(parents=True, exist_ok=True)
        (where / "src" / "lib.rs").touch()
        (where / "Cargo.toml").write_text(
            '[package]\nname = "corpus"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
            f'[dependencies]\nmail-parser = "={MAIL_PARSER_VERSION}"\n')
        proc.run(["cargo", "fetch", "-q"], cwd=where, seconds=180)
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    out = []
    for crate in sorted(home.glob(f"registry/src/*/mail-parser-{MAIL_PARSER_VERSION}")):
        for path in sorted(crate.glob("resources/**/*")):
            if path.suffix in (".eml", ".txt") and path.name != "header_names.txt":
                out.append(path.read_bytes())
    return out


def cpython():
    """The examples of CPython's email package."""
    data = pathlib.Path(test.test_email.__file__).parent / "data"
    return [path.read_bytes() for path in sorted(data.glob("msg_*.txt"))]


def crlf(message):
    """Line ends as SMTP carries them: every LF, with or without CR before it, is CRLF."""
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@functools.cache
def real_messages():
    """All real messages, each once, with CRLF. Notes say which source could not be had."""
    out, seen, notes = [], set(), []
    for source in (notmuch, mail_parser, cpython):
        try:
            found = source()
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            notes.append(f"{source.__name__}: {str(error).splitlines()[0]}")
            continue
        for message in found:
            message = crlf(message)
            if message.startswith(b"From "):
                message = message.split(b"\r\n", 1)[1]
            digest = hashlib.sha256(message).digest()
            if message.strip() and digest not in seen:
                seen.add(digest)
                out.append(message)
    return tuple(out), tuple(notes)


def header(subject, extra=b""):
    return (b"From: Generated <generated@example.net>\r\nTo: alice@example.org\r\n"
            b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nSubject: " + subject + b"\r\n"
            b"Message-ID: <" + hashlib.sha256(subject).hexdigest()[:16].encode()
            + b"@example.net>\r\nMIME-Version: 1.0\r\n" + extra)


def plain(subject, body=b"Hello.\r\n"):
    if isinstance(subject, str):
        subject = subject.encode()
    return header(subject, b"Content-Type: text/plain; charset=utf-8\r\n") + b"\r\n" + body


def nested_multipart(levels):
    text = header(b"%d levels of multipart" % levels)
    for level in range(levels):
        text += b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
    text += b"Content-Type: text/plain\r\n\r\nThe innermost part.\r\n"
    for level in reversed(range(levels)):
        text += b"--b%d--\r\n" % level
    return text


def nested_rfc822(levels):
    text = b""
    for level in range(levels):
        text += header(b"message %d in a message" % level, b"Content-Type: message/rfc822\r\n")
        text += b"\r\n"
    return text + plain("the innermost message")


def large_attachment(size):
    """A message whose decoded attachment has `size` bytes."""
    data = random.Random(7).randbytes(size)
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    return (header(b"a large attachment", b'Content-Type: multipart/mixed; boundary="xx"\r\n')
            + b"\r\n--xx\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n--xx\r\n"
            + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
            + b'Content-Disposition: attachment; filename="data.bin"\r\n\r\n'
            + encoded + b"--xx--\r\n")


def generated():
    """Name to message: what a store must keep byte for byte, however odd."""
    return {
        "8-bit body": header(b"acht Bit", b"Content-Type: text/plain; charset=iso-8859-1\r\n"
                             b"Content-Transfer-Encoding: 8bit\r\n")
        + b"\r\n" + bytes(range(0xA0, 0x100)) + b"\r\n",
        "UTF-8 headers": header("Grüße aus Zürich, 東京 и Москва".encode(),
                                "X-Ort: Ångström\r\n".encode())
        + b"\r\nBody.\r\n",
        "encoded words": header(b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=")
        + b"\r\nBody.\r\n",
        "nested message/rfc822": nested_rfc822(12),
        "200 levels of multipart": nested_multipart(200),
        "10 MB attachment": large_attachment(10 * 1000 * 1000),
        "NUL bytes": plain("NUL", b"before\0after\r\n\0\0\r\nend\r\n"),
        "lone CR": plain("CR", b"one\rtwo\rthree\r\nfour\r\n\rfive\r\n"),
        "CR before CRLF": plain("CRCRLF", b"one\r\r\ntwo\r\r\r\nthree\r\n\r\r\n"),
        "dots at line starts": plain("dots", b".\r\n..\r\n.hidden\r\n...\r\nend.\r\n"),
        "no body": header(b"no body at all") + b"\r\n",
        "no header": b"\r\nOnly a body, no header.\r\n",
        "header without end": b"Subject: nothing after the header\r\nX-Last: line\r\n",
        "folded header": header(b"folded\r\n over\r\n\tthree lines")
        + b"\r\nBody.\r\n",
        "900 byte lines": plain("long lines", b"".join(
            bytes([65 + n % 26]) * 900 + b"\r\n" for n in range(50))),
        "many headers": header(b"many headers", b"".join(
            b"X-Header-%d: value %d\r\n" % (n, n) for n in range(500))) + b"\r\nBody.\r\n",
        "many parts": header(b"many parts", b'Content-Type: multipart/mixed; boundary="p"\r\n')
        + b"\r\n" + b"".join(b"--p\r\n\r\npart %d\r\n" % n for n in range(400)) + b"--p--\r\n",
        "unclosed multipart": header(b"unclosed", b'Content-Type: multipart/mixed; boundary="u"\r\n')
        + b"\r\npreamble\r\n--u\r\nContent-Type: text/html\r\n\r\n<p>never closed\r\n",
        "From line in body": plain("From", b"From here on it is body.\r\n>From too.\r\n\r\nFrom x\r\n"),
        "blank lines at the end": plain("blank", b"text\r\n\r\n\r\n\r\n\r\n"),
    }


def varied(count, seed=1):
    """Small generated messages, each different; for work that needs numbers, not variety."""
    rng = random.Random(seed)
    words = "mail store index cache commit frame view flag uid thread quota".split()
    return [
        plain(f"varied {n}", b"".join(
            " ".join(rng.choices(words, k=9)).encode() + b"\r\n"
            for _ in range(rng.randrange(1, 40))))
        for n in range(count)
    ]
