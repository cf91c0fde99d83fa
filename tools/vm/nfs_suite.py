"""Runs in the guest, started by tools/vm/nfs: an NFS server and two mail hosts that mount its export.

Each host has a network namespace (and so an NFS client of its own), a host name, a mount and a
`cursusd` with its state on a disk of its own. Clients reach them by unix sockets. A third writer, on
the file server itself, plays other programs.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "acceptance"))
from harness.wire import Imap, Lmtp  # noqa: E402

EXPORT = pathlib.Path("/tmp/export")
PROGRAMS = pathlib.Path("/tmp/programs")
# SHA-512 crypt of PASSWORD with few rounds: logins are not what is tested.
PASSWORD = "pw"
HASH = ("{SHA512-CRYPT}$6$rounds=1000$powercut$"
        "g3j7DSMf.vmCntXCAfv540SI5l5ARvhoqSjix4Z5tIiQRS5tlKQp5E.obQFwPW2kn9RCC5JtfGTmLqkTpHKOw.")
USERS = ("ann", "bob")
# More than the time stamps of files are apart, at the kernel's lowest HZ.
TICK_SECONDS = 0.05
# Changes by others on a network filesystem are polled for each second.
FOREIGN_SECONDS_MAX = 15
START_SECONDS_MAX = 60

# name, mount options, partition settings, layout
CASES = (
    ("v4.2-ofd-maildir", "vers=4.2", "", "maildir"),
    ("v4.2-ofd-cyrus", "vers=4.2", "", "cyrus"),
    ("v3-ofd-maildir", "vers=3", "", "maildir"),
    ("v3-nolock-dot-maildir", "vers=3,nolock", 'locks = "dot"', "maildir"),
    ("v3-nolock-dot-cyrus", "vers=3,nolock", 'locks = "dot"', "cyrus"),
)


def run(*argv, **options):
    done = subprocess.run([str(one) for one in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def wait_until(check, seconds, what):
    end = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.1)
    return value


def serve_export():
    """The kernel's NFS server over ext4."""
    EXPORT.mkdir()
    run("mkfs.ext4", "-q", "/dev/disk0")
    run("mount", "/dev/disk0", EXPORT)
    nfs = pathlib.Path("/var/lib/nfs")
    for name in ("sm", "sm.bak", "v4recovery", "rpc_pipefs", "nfsdcltrack"):
        (nfs / name).mkdir(exist_ok=True)
    for name in ("etab", "rmtab", "state"):
        (nfs / name).touch()
    run("modprobe", "lockd", "nlm_grace_period=1")
    run("modprobe", "nfsd")
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    # Nobody had locks before: no waiting for them to be asked for again.
    for name in ("nfsv4leasetime", "nfsv4gracetime"):
        pathlib.Path("/proc/fs/nfsd", name).write_text("10")
    run("rpcbind")
    run("rpc.statd", "--no-notify")
    run("exportfs", "-o", "rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0", f"*:{EXPORT}")
    run("rpc.mountd")
    run("rpc.nfsd", "4")
    try:
        pathlib.Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")
    except OSError:
        pass


class Host:
    """A mail host: `cursusd` behind a namespace's mount of the export."""

    def __init__(self, number, case):
        self.number = number
        self.name = f"mx{number}"
        self.case, self.options, self.partition, self.layout = case
        self.dir = pathlib.Path("/tmp") / self.case / self.name
        self.dir.mkdir(parents=True)
        self.space = f"{self.name}.{self.case}"
        self.child = None
        self.holder = None

    def mount(self):
        number = self.number
        inside = f"10.77.{number}.2"
        server = f"10.77.{number}.1"
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", f"out{number}", "type", "veth", "peer", "name", "in0", "netns", self.space)
        run("ip", "addr", "add", f"{server}/24", "dev", f"out{number}")
        run("ip", "link", "set", f"out{number}", "up")
        for words in ("addr add %s/24 dev in0" % inside, "link set in0 up", "link set lo up"):
            run("ip", "-n", self.space, *words.split())
        (self.dir / "users").write_text("".join(f"{user}:{HASH}\n" for user in USERS))
        self.config = self.dir / "cursus.toml"
        self.config.write_text(f"""
state_dir = "{self.dir}/state"
[[partition]]
name = "default"
path = "/mnt/mail"
layout = "{self.layout}"
{self.partition}
[store]
log_bytes_max = 16777216
checkpoint_seconds = 1
[server]
cores = 1
drain_seconds_max = 1
[[listener]]
protocol = "imap"
address = "unix:{self.dir}/imap"
tls = "none"
plain_login = "loopback"
[[listener]]
protocol = "lmtp"
address = "unix:{self.dir}/lmtp"
tls = "none"
[auth]
users_file = "{self.dir}/users"
""")
        # One shell holds the host's namespaces; its children come and go.
        setup = f"hostname {self.name}; mkdir -p /mnt/mail; mount -t tmpfs tmp /run; "
        if self.options.startswith("vers=3") and "nolock" not in self.options:
            setup += "rpcbind && rpc.statd --no-notify && "
        # The export is the root of what NFSv4 shows.
        path = "/" if self.options.startswith("vers=4") else EXPORT
        setup += (f"mount -t nfs -o {self.options},proto=tcp,hard {server}:{path} /mnt/mail"
                  " && echo mounted && exec sleep 100000")
        self.holder = subprocess.Popen(
            ["ip", "netns", "exec", self.space, "unshare", "--uts", "sh", "-c", setup],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.holder.stdout.readline()
        if line != "mounted\n":
            raise AssertionError(f"{self.name} can't mount: {line}{self.holder.stdout.read()}")

    def enter(self, *argv):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-u", "-n", *map(str, argv)]

    def start(self):
        log = open(self.dir / "log", "ab")
        self.child = subprocess.Popen(
            self.enter(PROGRAMS / "cursusd", "--config", self.config),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, NO_COLOR="1"))

        def ready():
            if self.child.poll() is not None:
                raise AssertionError(f"{self.name}: cursusd ended at start:\n{self.log()[-2000:]}")
            try:
                Imap(self.dir / "imap", seconds=START_SECONDS_MAX).close()
                return True
            except OSError:
                return False

        wait_until(ready, START_SECONDS_MAX, f"{self.name} to greet")

    def log(self):
        return (self.dir / "log").read_text("utf-8", "replace")

    def stop(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        status = self.child.wait(60)
        if how == signal.SIGTERM and status != 0:
            raise AssertionError(f"{self.name}: stopped with {status}:\n{self.log()[-2000:]}")
        self.child = None

    def check(self):
        run(*self.enter(PROGRAMS / "cursus", "--config", self.config, "check"))

    def imap(self, user):
        return Imap(self.dir / "imap", seconds=60).login(user, PASSWORD)

    def deliver(self, user, message):
        with Lmtp(self.dir / "lmtp", seconds=60) as client:
            [(code, lines)] = client.deliver([f"{user}@example.org"], message)
        return code, b" ".join(lines).decode()

    def end(self):
        if self.child:
            self.child.kill()
            self.child.wait()
        if self.holder:
            self.leave()
        subprocess.run(["ip", "link", "del", f"out{self.number}"], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", self.space], stderr=subprocess.DEVNULL)

    def leave(self):
        subprocess.run(self.enter("umount", "-f", "-l", "/mnt/mail"), stderr=subprocess.DEVNULL)
        # In the host's mount namespace /run has what it started besides.
        for name in ("rpc.statd.pid", "rpcbind.pid"):
            found = subprocess.run(self.enter("cat", f"/run/{name}"), capture_output=True, text=True)
            if found.returncode == 0 and found.stdout.strip():
                os.kill(int(found.stdout), signal.SIGTERM)
        self.holder.kill()
        self.holder.wait()


def message(number, size=300):
    line = f"line of message {number}\r\n"
    return (f"From: a@example.net\r\nSubject: number {number}\r\nMessage-ID: <{number}@case>\r\n\r\n"
            + line * (size // len(line))).encode()


def flags(client, uids="1:*"):
    found = {}
    for line in client.ok(f"UID FETCH {uids} (UID FLAGS)"):
        if uid := re.search(rb"UID (\d+)", line):
            words = re.search(rb"FLAGS \(([^)]*)\)", line)[1].split()
            found[int(uid[1])] = frozenset(words) - {b"\\Recent"}
    return found


def contents(host, user, mailbox="INBOX"):
    """What a client sees: UIDVALIDITY, and for each UID bytes and flags."""
    with host.imap(user) as client:
        validity = client.select(mailbox)["uidvalidity"]
        bodies, kept = client.bodies(), flags(client)
        return validity, {uid: (body, kept.get(uid)) for uid, body in bodies.items()}


def equal(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r:.600}, expected {expected!r:.600}")


def ordinary_day(host, user):
    """Deliver, append, fetch, store, copy, move, expunge; what is left is handed back."""
    for number in range(8):
        code, said = host.deliver(user, message(number, 300 if number % 3 else 40_000))
        equal(code, 250, f"{host.name}: delivery answered {said}")
    with host.imap(user) as client:
        client.ok("CREATE kept")
        _, appended = client.append("INBOX", message(8), flags=rb"\Flagged")
        equal(client.select()["exists"], 9, "messages")
        bodies = client.bodies()
        for number, uid in enumerate(sorted(bodies)):
            expected = message(number, 300 if number % 3 or number == 8 else 40_000)
            equal(bodies[uid][-len(expected):], expected, f"message {number}")
        client.ok(r"UID STORE 1:3 +FLAGS (\Seen work)")
        client.ok(r"UID STORE 4 FLAGS (\Answered)")
        client.ok("UID COPY 1,2 kept")
        client.ok("UID MOVE 3 kept")
        client.ok(r"UID STORE 5 +FLAGS.SILENT (\Deleted)")
        client.ok("UID EXPUNGE 5")
        client.ok("RENAME kept archive")
        expected = {1: {b"\\Seen", b"work"}, 2: {b"\\Seen", b"work"}, 4: {b"\\Answered"}, 6: set(),
                    7: set(), 8: set(), appended: {b"\\Flagged"}}
        equal(flags(client), expected, "flags")
        equal(client.select("archive")["exists"], 3, "messages in archive")


def refused(host, user, holder):
    """The same user elsewhere: refused, naming the host and process that have the mail."""
    client = Imap(host.dir / "imap", seconds=60)
    answer = client.command(f"LOGIN {user} {PASSWORD}")[-1]
    if b" OK" in answer[:10]:
        answer = client.command("SELECT INBOX")[-1]
    client.close()
    expected = rb"NO \[INUSE\] .*host %s, pid %d, since \d{4}-\d\d-\d\dT" % (
        holder.name.encode(), holder.child.pid)
    if not re.search(expected, answer):
        raise AssertionError(f"{host.name} answers {user} with {answer!r}; {holder.name} has the mail")
    code, said = host.deliver(user, message(99))
    equal(code, 450, f"{host.name}: delivery for {user} answered {said}")
    if holder.name not in host.log():
        raise AssertionError(f"{host.name}'s log doesn't name the holder")


def foreign_writer(host, user):
    """Another program delivers, flags and removes, on the file server."""
    [inbox] = [path for path in EXPORT.rglob("cur")
               if user in path.parts and not path.parent.name.startswith(".")]
    inbox = inbox.parent
    owner = inbox.stat()
    with host.imap(user) as client:
        before = client.select()["exists"]

        def arrives(number):
            temporary = inbox / "tmp" / f"{int(time.time())}.M{number}.fileserver"
            temporary.write_bytes(message(number).replace(b"\r\n", b"\n"))
            os.chown(temporary, owner.st_uid, owner.st_gid)
            temporary.rename(inbox / "new" / temporary.name)
            return temporary.name

        def sees(check, what):
            """Waits for it; then until a further change has another time: a client of v3 keeps its
            listing of a directory whose change falls into the same tick of the server's clock."""
            wait_until(lambda: client.ok("NOOP") and check(), FOREIGN_SECONDS_MAX, what)
            time.sleep(TICK_SECONDS)

        names = [arrives(number) for number in (100, 101, 102)]
        sees(lambda: len(client.uid_search()) == before + 3, "foreign deliveries to show")
        uids = client.uid_search()[-3:]
        bodies = client.bodies(f"{uids[0]}:*")
        equal({body for body in bodies.values()}, {message(n) for n in (100, 101, 102)}, "foreign mail")
        [path] = [path for path in inbox.rglob(names[0] + "*")]
        path.rename(inbox / "cur" / (names[0] + ":2,S"))
        sees(lambda: b"\\Seen" in flags(client)[uids[0]], "a foreign flag to show")
        [path] = [path for path in inbox.rglob(names[1] + "*")]
        path.unlink()
        sees(lambda: len(client.uid_search()) == before + 2, "a foreign removal to show")


def try_case(case):
    hosts = []
    try:
        for number in (1, 2):
            hosts.append(Host(number, case))
            hosts[-1].mount()
        first, second = hosts
        for host in hosts:
            host.start()
        ordinary_day(first, "ann")
        ordinary_day(second, "bob")
        refused(second, "ann", first)
        refused(first, "bob", second)
        if first.layout == "maildir":
            foreign_writer(first, "ann")
            foreign_writer(second, "bob")
        kept = {user: [contents(host, user, box) for box in ("INBOX", "archive")]
                for host, user in zip(hosts, USERS)}

        def same(host, user):
            for place, box in enumerate(("INBOX", "archive")):
                equal(contents(host, user, box), kept[user][place], f"{user}'s {box} on {host.name}")

        first.stop()
        same(second, "bob")
        first.start()
        same(first, "ann")
        # A crash leaves the lock behind; the same host takes it up again.
        code, said = first.deliver("ann", message(200))
        equal(code, 250, f"delivery answered {said}")
        kept["ann"][0] = contents(first, "ann")
        first.stop(signal.SIGKILL)
        first.start()
        same(first, "ann")
        refused(second, "ann", first)
        # After a clean stop the mail is the other's to serve. Its store takes the files for what
        # they are, not the first one's index: the same mail, and a UIDVALIDITY that says so.
        first.stop()
        validity, taken = contents(second, "ann")
        known_validity, known = kept["ann"][0]
        equal(sorted(body for body, _ in taken.values()), sorted(body for body, _ in known.values()),
              "ann's mail on the other host")
        if validity <= known_validity and taken.keys() != known.keys():
            raise AssertionError(f"UIDVALIDITY {known_validity} became {validity} for other UIDs")
        same(second, "bob")
        second.stop()
        for host in hosts:
            host.check()
            for line in host.log().splitlines():
                if "panicked at" in line or "a defect of the server" in line:
                    raise AssertionError(f"{host.name}: {line}")
    except BaseException:
        for host in hosts:
            if (host.dir / "log").exists():
                print(f"-- log of {host.name}, last lines\n" + "\n".join(host.log().splitlines()[-8:]))
        raise
    finally:
        for host in reversed(hosts):
            host.end()


def main():
    wanted = [case for case in CASES if sys.argv[1] in case[0]]
    serve_export()
    failed = 0
    for case in wanted:
        began = time.monotonic()
        try:
            try_case(case)
            print(f"ok {case[0]} in {time.monotonic() - began:.1f} s", flush=True)
        except (AssertionError, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED {case[0]}: {type(error).__name__}: {error}", flush=True)
        for path in EXPORT.iterdir():
            if path.name != "lost+found":
                run("rm", "-rf", path)
    print(json.dumps({"passed": len(wanted) - failed, "failed": failed}))
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
