"""What an operator does: start, check, reload, drain, look inside, import, activate."""

import hashlib
import os
import pathlib
import re
import signal
import socket
import ssl
import sys
import time

from harness import corpus, proc, server
from harness.case import Case, both_layouts
from harness.server import PASSWORD
from harness.wire import Imap, Lmtp, Wire, dot_stuff

EXIT_CONFIG = 78


def served_certificate(address):
    """The fingerprint of what the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(address, timeout=10) as plain:
        with context.wrap_socket(plain) as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


class Signals(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def test_sigterm_lets_a_delivery_finish_and_says_goodbye(self):
        one = self.serve()
        idle = one.imap()
        idle.select()
        idle.send(b"i IDLE\r\n")
        idle.line()
        busy = one.lmtp()
        busy.command(b"MAIL FROM:<a@example.net>")
        busy.command(b"RCPT TO:<alice@example.org>")
        self.assertEqual(busy.command(b"DATA")[0], 354)
        message = corpus.plain("half sent", b"line\r\n" * 100)
        busy.send(dot_stuff(message)[:300])
        child = one.child
        child.signal(signal.SIGTERM)
        time.sleep(0.3)
        self.assertTrue(child.alive(), "the server left a delivery behind")
        with self.assertRaises((ConnectionError, TimeoutError), msg="it still accepts"):
            late = one.imap(None, seconds=2)
            if late.greeting.startswith(b"* BYE"):
                raise ConnectionError
        busy.send(dot_stuff(message)[300:] + b".\r\n")
        self.assertEqual(busy.reply()[0], 250)
        self.assertIn(b"* BYE", idle.rest())
        busy.close()
        self.assertEqual(child.wait(25), 0)
        one.child = None
        one.start()
        with one.imap() as client:
            client.select()
            [body] = client.bodies().values()
            self.assertTrue(body.endswith(message))

    def test_sighup_brings_a_new_certificate(self):
        one = self.serve()
        old = served_certificate(one.at("imaps"))
        session = Imap(one.at("imaps"), tls=True).login("alice", PASSWORD)
        other_cert, other_key = server.certificate(one.dir, "other")
        os.replace(other_cert, one.certificate)
        os.replace(other_key, one.key)
        one.child.signal(signal.SIGHUP)
        proc.wait_until(lambda: served_certificate(one.at("imaps")) != old, 5, "the new certificate")
        self.assertNotEqual(served_certificate(one.at("pop3s")), old)
        session.ok("NOOP")

        new = served_certificate(one.at("imaps"))
        one.certificate.write_text("no certificate\n")
        before = len(one.log())
        one.child.signal(signal.SIGHUP)
        proc.wait_until(lambda: re.search(r"(?i)certificate|reload", one.log()[before:]), 5,
                        "a line about the bad certificate")
        self.assertEqual(served_certificate(one.at("imaps")), new)
        session.ok("NOOP")

    def test_sighup_with_a_bad_file_keeps_the_old_settings(self):
        one = self.serve()
        one.config.write_text(one.config_text() + "[nonsense]\nkey = 1\n")
        before = len(one.log())
        one.child.signal(signal.SIGHUP)
        proc.wait_until(lambda: "nonsense" in one.log()[before:], 5, "a line that names the key")
        with one.imap() as client:
            client.ok("NOOP")

    def test_a_second_server_on_the_same_store_is_refused(self):
        one = self.serve()
        other = server.make()
        other.config.write_text(other.config_text().replace(str(other.state), str(one.state)))
        done = proc.run([proc.BINARIES / "cursusd", "--config", other.config], check=False, seconds=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex((done.stdout + done.stderr).decode(), r"(?i)lock|in use|another server")
        with one.imap() as client:
            client.ok("NOOP")


class CheckConfig(Case):
    def check(self, config):
        return proc.run([proc.BINARIES / "cursusd", "--check-config", "--config", config],
                        check=False, seconds=20)

    def test_good_and_bad_files(self):
        self.only_cursus()
        one = server.make()
        good = one.config_text()
        self.assertEqual(self.check(one.config).returncode, 0)
        self.assertFalse(list(one.state.iterdir()), "a check made files")
        bad = {
            "unknown key": (good.replace("[server]", "[server]\ncolour = 3"), "colour"),
            "unknown section": (good + "[nonsense]\na = 1\n", "nonsense"),
            "wrong type": (good.replace("cores = 2", 'cores = "two"'), "cores"),
            "unknown layout": (good.replace('layout = "maildir"', 'layout = "mbox"'), "mbox"),
            "unknown protocol": (good.replace('"pop3"', '"uucp"'), "uucp"),
            "no partition": (re.sub(r"\[\[partition\]\]\n(\w+ = .*\n)+", "", good), "partition"),
            "partition that isn't there": (good.replace('default_partition = "default"',
                                                        'default_partition = "fast"'), "fast"),
            "key without certificate": (re.sub(r"certificate = .*\n", "", good), "certificate"),
            "certificate that isn't there": (good.replace(str(one.certificate), "/nowhere/c.pem"),
                                             "/nowhere/c.pem"),
            "negative limit": (good + "\n", None),
            "no TOML": (good + "\n= = =\n", "TOML|line|expected"),
            "bad address": (good.replace("127.0.0.1:%d" % one.ports["imap"], "nowhere"), "nowhere"),
        }
        del bad["negative limit"]
        wrong = []
        for name, (text, named) in bad.items():
            path = one.dir / "bad.toml"
            path.write_text(text)
            done = self.check(path)
            said = (done.stdout + done.stderr).decode("utf-8", "replace")
            if done.returncode != EXIT_CONFIG or not re.search(named, said) or "panicked" in said:
                wrong.append(f"{name}: exit {done.returncode}, said {said[:400]!r}")
        self.assertEqual(wrong, [])
        missing = self.check(one.dir / "none.toml")
        self.assertNotEqual(missing.returncode, 0)


class Activation(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def test_sockets_from_a_parent(self):
        one = server.make()
        self.servers.append(one)
        listening = {}
        text = one.config_text()
        for name in ("imap", "lmtp"):
            sock = socket.socket()
            sock.bind(one.at(name))
            sock.listen(16)
            listening[name] = sock
            text = text.replace('"127.0.0.1:%d"' % one.ports[name], f'"systemd:{name}"')
        one.config.write_text(text)
        # The connection is made before there is a server.
        early = socket.create_connection(one.at("imap"), timeout=20)
        names = ",".join(f"{name}={sock.fileno()}" for name, sock in listening.items())
        one.launcher = [sys.executable, pathlib.Path(server.__file__).parent / "activate.py", names]
        one.start(pass_fds=[s.fileno() for s in listening.values()])
        for sock in listening.values():
            sock.close()
        self.assertTrue(early.recv(200).startswith(b"* OK"))
        early.close()
        one.deliver(corpus.plain("activated"))
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 1)

    def test_notifications(self):
        one = server.make()
        self.servers.append(one)
        path = one.dir / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(path))
            heard.settimeout(10)

            def until(wanted):
                told = []
                while wanted not in b"\n".join(told).split(b"\n"):
                    told.append(heard.recv(4096))
                return told

            one.start(env={"NOTIFY_SOCKET": str(path)})
            until(b"READY=1")
            one.child.signal(signal.SIGHUP)
            until(b"RELOADING=1")
            until(b"READY=1")
            one.child.signal(signal.SIGTERM)
            until(b"STOPPING=1")
            self.assertEqual(one.child.wait(20), 0)
            one.child = None


@both_layouts(globals())
class Tools:
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def test_status_and_lists_on_line_and_off_line(self):
        one = self.serve()
        one.fill(corpus.varied(3))
        with one.imap() as client:
            client.ok('CREATE "Lists/dev"')
        for on_line in (True, False):
            if not on_line:
                self.assertEqual(one.stop(), 0)
            with self.subTest(on_line=on_line):
                self.assertTrue(one.tool("status").stdout.strip())
                listed = one.tool("mailbox", "list", "alice").stdout.decode()
                self.assertIn("INBOX", listed)
                self.assertIn("Lists/dev", listed)
                users = one.tool("user", "list").stdout.decode()
                self.assertIn("alice", users)
                self.assertIn("bob", users)
                self.assertNotIn("$argon2", users)

    def test_import_on_line_and_off_line(self):
        one = self.serve()
        messages = corpus.varied(4)
        paths = []
        for number, message in enumerate(messages):
            path = one.dir / f"import{number}.eml"
            path.write_bytes(message if number % 2 else message.replace(b"\r\n", b"\n"))
            paths.append(path)
        watcher = one.imap()
        watcher.select()
        one.tool("message", "import", "--user", "alice", *paths[:2])
        self.assertIn(b"* 2 EXISTS", watcher.ok("NOOP"))
        watcher.close()
        one.stop()
        one.tool("message", "import", "--user", "alice", *paths[2:])
        one.start()
        with one.imap() as client:
            client.select()
            self.assertEqual(list(client.bodies().values()), messages)

    def test_a_running_server_locks_its_store(self):
        """Off-line work beside a server would corrupt; the tool goes through the server instead."""
        one = self.serve()
        one.fill(corpus.varied(1))
        self.assertIn("INBOX", one.tool("mailbox", "list", "alice").stdout.decode())
        one.kill()
        self.assertIn("INBOX", one.tool("mailbox", "list", "alice").stdout.decode())
        one.start()
        with one.imap() as client:
            self.assertEqual(client.select()["exists"], 1)

    def test_users_are_added_changed_and_removed_while_it_runs(self):
        one = self.serve()
        one.tool("user", "add", "carol", stdin="first secret\n")
        Imap(one.at("imap")).login("carol", "first secret").close()
        one.deliver(corpus.plain("for carol"), "carol")
        one.tool("user", "passwd", "carol", stdin="second secret\n")
        with Imap(one.at("imap")) as client:
            self.assertIn(b" NO", client.command("LOGIN carol {12+}\r\nfirst secret")[-1])
        with Imap(one.at("imap")).login("carol", "second secret") as client:
            self.assertEqual(client.select()["exists"], 1)
        one.tool("user", "remove", "carol")
        with Imap(one.at("imap")) as client:
            self.assertIn(b" NO", client.command("LOGIN carol {13+}\r\nsecond secret")[-1])
        with one.lmtp() as client:
            [(code, _)] = client.deliver(["carol@example.org"], corpus.plain("too late"))
            self.assertEqual(code, 550)
        secrets = one.log() + (one.state / "users").read_text()
        for word in ("first secret", "second secret", PASSWORD):
            self.assertNotIn(word, secrets)

    def test_plain_logins_are_refused_unless_allowed(self):
        one = server.make(self.layout)
        one.config.write_text(one.config_text().replace('"loopback"', '"never"'))
        self.servers.append(one)
        one.start()
        with Imap(one.at("imap")) as client:
            capability = client.command("CAPABILITY")[0]
            self.assertIn(b"LOGINDISABLED", capability)
            self.assertNotIn(b"AUTH=PLAIN", capability)
            self.assertIn(b" NO", client.command(f'LOGIN alice "{PASSWORD}"')[-1])
            client.ok("STARTTLS")
            client.wrap_tls()
            self.assertNotIn(b"LOGINDISABLED", client.command("CAPABILITY")[0])
            client.login("alice", PASSWORD)


class FirstRun(Case):
    PORTS = (10143, 10993, 10110, 10995, 10024)
    seconds = 200

    def test_the_first_command_of_the_readme(self):
        """`cargo run --release` prints addresses, a user and a curl line that shows mail."""
        self.only_cursus()
        for port in self.PORTS:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    self.skipTest(f"something else listens on port {port}")
        readme = (proc.ROOT / "README.md").read_text()
        self.assertIn("cargo run --release", readme)
        self.assertIn("tools/test", readme)
        home = proc.new_dir("first")
        log = home / "log"
        # From a directory of its own, so that `./var` is a new one; the build is the tree's.
        child = proc.Child(["cargo", "run", "--release", "--manifest-path", proc.ROOT / "Cargo.toml"],
                           log, cwd=home)
        try:
            def curl_line():
                if not child.alive():
                    raise AssertionError("it ended:\n" + child.log()[-3000:])
                found = re.search(r"^\s*(?:\$ )?(curl .*)$", child.log(), re.MULTILINE)
                return found and found[1]

            line = proc.wait_until(curl_line, 150, "a curl line", step=0.2)
            began = child.log()
            self.assertTrue((home / "var").is_dir())
            self.assertIn("10143", began)

            def shown():
                done = proc.run(["sh", "-c", line], check=False, cwd=home, seconds=20)
                return done if done.returncode == 0 else None

            done = proc.wait_until(shown, 10, "curl to work", step=0.3)
            self.assertRegex(done.stdout.decode("utf-8", "replace"), r"(?m)^Subject: .")
        finally:
            # cargo passes no signals on to what it runs.
            for pid in children_of(child.pid):
                os.kill(pid, signal.SIGTERM)
            try:
                child.wait(20)
            except Exception:  # noqa: BLE001 - the kill below is the answer
                pass
            child.stop()
        self.assertIn(child.process.returncode, (0, -signal.SIGTERM, 143))


def children_of(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in text.read_text().split()] if text.exists() else []
