"""Every configuration of docs/mta.md, as it stands there, with the mail transports themselves.

`MTA_MESSAGES` (8) go through each: to somebody, to somebody over quota, to nobody, and while the
server is down.
"""

import base64
import os
import pathlib
import pwd
import re
import smtplib
import ssl

from harness import mta, proc
from harness.case import Case
from harness.server import PASSWORD
from harness.wire import Wire

MESSAGES = int(os.environ.get("MTA_MESSAGES", "8"))
SECONDS = 60 + MESSAGES
JO, FULL, NOBODY = "jo@example.org", "full@example.org", "nobody@example.org"


def letter(number, bytes_min=0):
    return (f"From: {JO}\r\nSubject: letter {number}\r\n\r\n".encode()
            + b"A line of text.\r\n" * (bytes_min // 17 + 1))


def numbers(bodies):
    """Which letters these are; bounces are none."""
    found = [re.search(rb"^Subject: letter (\d+)\r?$", one.split(b"\r\n\r\n")[0], re.M) for one in bodies]
    return sorted(int(match[1]) for match in found if match)


def statuses(bodies):
    """Of the bounces: recipient and status of each."""
    found = []
    for one in bodies:
        recipient = re.search(rb"^Final-Recipient: rfc822; *(\S+)\r$", one, re.M | re.I)
        status = re.search(rb"^Status: (\S+)\r$", one, re.M | re.I)
        if recipient and status:
            found.append((recipient[1].decode(), status[1].decode()))
    return sorted(set(found)), len(found)


class Mta(Case):
    seconds = 150 + 2 * MESSAGES

    def setUp(self):
        super().setUp()
        self.only_cursus()

    def site(self, more=""):
        one = mta.Documented(more)
        self.servers.append(one)
        return one.start()

    def send(self, transport, recipients, message, sender=JO):
        """By SMTP; gives refusals."""
        with smtplib.SMTP("127.0.0.1", transport.port, timeout=60) as client:
            try:
                return client.sendmail(sender, recipients, message)
            except smtplib.SMTPRecipientsRefused as error:
                return error.recipients

    def empty(self, transport):
        proc.wait_until(lambda: transport.queued() == 0, SECONDS, "the queue to be empty")

    def check(self, one, transport, *, over_quota="5.2.2", unknown="5.1.1", restart=True):
        """Sends all kinds of letters through a transport that hands over to the server."""
        good, odd = MESSAGES - MESSAGES // 4, max(1, MESSAGES // 8)
        for number in range(good):
            self.send(transport, [JO], letter(number))
        for number in range(odd):
            self.send(transport, [FULL], letter(10_000 + number, 4000))
            refused = self.send(transport, [NOBODY], letter(20_000 + number))
            self.assertEqual(bool(refused), unknown == "smtp", refused)
        self.empty(transport)
        bounces = (odd if unknown != "smtp" else 0) + (odd if over_quota else 0)
        bodies = proc.wait_until(
            lambda: (found := one.bodies()) and len(found) >= good + bounces and found,
            SECONDS, "letters and bounces")
        self.assertEqual(numbers(bodies), list(range(good)))
        wanted = ([(FULL, over_quota)] if over_quota else []) + (
            [(NOBODY, unknown)] if unknown != "smtp" else [])
        self.assertEqual(statuses(bodies), (sorted(wanted), bounces))
        self.assertEqual(len(one.bodies(FULL)), 0 if over_quota else odd)
        if not restart:
            return
        # What comes while the server is down waits in the queue.
        one.stop()
        for number in range(odd):
            self.send(transport, [JO], letter(30_000 + number))
        proc.wait_until(lambda: re.search(r"status=deferred|== " + JO, transport.log()), SECONDS,
                        "a delivery to be put off")
        # A letter that goes from one directory of the queue to another while it is counted counts twice.
        proc.wait_until(lambda: transport.queued() == odd, SECONDS, f"{odd} letters in the queue")
        one.start()

        def delivered():
            transport.flush()
            return transport.queued() == 0

        proc.wait_until(delivered, SECONDS, "the queue to be empty", 0.5)
        found = numbers(one.bodies())
        self.assertEqual(found, list(range(good)) + [30_000 + n for n in range(odd)])

    def postfix(self, case, more=""):
        self.need("postfix")
        one = self.site(more)
        return one, mta.Postfix(one, case)

    # -- Postfix -----------------------------------------------------------------

    def test_postfix_by_lmtp_over_a_unix_socket(self):
        one, transport = self.postfix("lmtp-unix")
        with transport:
            self.check(one, transport)

    def test_postfix_by_lmtp_over_tcp(self):
        one, transport = self.postfix("lmtp-tcp")
        with transport:
            self.check(one, transport)

    def test_postfix_by_a_pipe(self):
        one, transport = self.postfix("pipe")
        with transport:
            self.check(one, transport)

    def test_postfix_over_quota_for_a_while(self):
        one, transport = self.postfix("lmtp-unix", '[lmtp]\nover_quota = "temporary"\n')
        with transport:
            self.send(transport, [FULL], letter(1, 4000))
            proc.wait_until(lambda: "status=deferred" in transport.log(), SECONDS, "a delay")
            self.assertIn("452 4.2.2", transport.log())
            self.assertEqual((transport.queued(), len(one.bodies(FULL))), (1, 0))
            one.tool("quota", "set", FULL, "--storage", "1M")
            proc.wait_until(lambda: transport.flush() or transport.queued() == 0, SECONDS,
                            "the queue to be empty", 0.5)
            self.assertEqual(numbers(one.bodies(FULL)), [1])

    def test_postfix_virtual_writes_maildirs(self):
        one, transport = self.postfix("virtual")
        uid = pwd.getpwnam(mta.OWNER).pw_uid
        os.chown(one.spool, uid, -1)
        one.spool.chmod(0o755)
        with transport:
            # virtual(8) makes Maildirs, but not what is above them.
            for user in ("jo", "full"):
                home = one.spool / "example.org" / user
                home.mkdir(parents=True)
                os.chown(home, uid, -1)
            self.check(one, transport, over_quota=None, unknown="smtp", restart=False)
            # It does not need the server, but the right to write.
            one.stop()
            inbox = one.spool / "example.org/jo/Maildir"
            for part in ("tmp", "new"):
                os.chown(inbox / part, 0, 0)
                (inbox / part).chmod(0o700)
            self.send(transport, [JO], letter(50_000))
            proc.wait_until(lambda: "status=deferred" in transport.log(), SECONDS, "a delay")
            self.assertEqual(transport.queued(), 1)
            for part in ("tmp", "new"):
                os.chown(inbox / part, uid, -1)
            proc.wait_until(lambda: transport.flush() or transport.queued() == 0, SECONDS,
                            "the queue to be empty", 0.5)
            one.start()
            self.assertIn(50_000, numbers(one.bodies()))

    def test_postfix_local_writes_maildirs_of_the_systems_users(self):
        self.need("postfix")
        if proc.run(["unshare", "-m", "true"], check=False).returncode:
            self.skipTest("no right to mount")
        one = mta.Documented(case="postfix-local", users=["jo", "jane"])
        self.servers.append(one)
        one.start()
        one.spool.chmod(0o755)
        home = one.spool / "jo"
        home.mkdir()
        os.chown(home, pwd.getpwnam(mta.OWNER).pw_uid, -1)
        transport = mta.Postfix(one, "local")
        transport.start_with_user("jo", home)
        try:
            for number in range(MESSAGES):
                self.send(transport, [JO], letter(number))
            self.assertTrue(self.send(transport, ["absent@example.org"], letter(9)))
            self.empty(transport)
            self.assertEqual(numbers(one.bodies("jo")), list(range(MESSAGES)))
            # What local(8) can't write it bounces, and it keeps no mail for later: its own choice.
            for part in ("tmp", "new"):
                os.chown(home / "Maildir" / part, 0, 0)
                (home / "Maildir" / part).chmod(0o700)
            self.send(transport, [JO], letter(50_000))
            proc.wait_until(lambda: "dsn=5.2.0, status=bounced" in transport.log(), SECONDS, "a bounce")
        finally:
            transport.stop()

    def test_postfix_asks_for_logins(self):
        one, transport = self.postfix("sasl", '[lmtp]\n')
        context = ssl.create_default_context(cafile=one.certificate)
        with transport:
            def client(tls=True):
                one = smtplib.SMTP("127.0.0.1", transport.port, timeout=20, local_hostname="t")
                one.ehlo()
                if tls:
                    one.starttls(context=context)
                    one.ehlo()
                return one

            def tried(mechanism, user, password):
                with client() as smtp:
                    smtp.user, smtp.password = user, password
                    try:
                        return smtp.auth(mechanism, getattr(
                            smtp, "auth_" + mechanism.lower().replace("-", "_")))[0]
                    except smtplib.SMTPAuthenticationError as error:
                        return error.smtp_code

            with client(tls=False) as smtp:
                self.assertNotIn("auth", smtp.esmtp_features)
            for mechanism in ("PLAIN", "LOGIN"):
                self.assertEqual(tried(mechanism, JO, PASSWORD), 235)
                self.assertEqual(tried(mechanism, JO, "wrong"), 535)
            self.assertEqual(tried("PLAIN", NOBODY, "x"), 535)
            self.assertIn("sasl_username=" + JO, transport.log())
            logged = [l for l in one.log().splitlines() if 'protocol="auth"' in l]
            self.assertEqual(len([l for l in logged if "login failed" in l]), 3, logged)
            self.assertTrue(all("mechanism" in l and "127.0.0.1" in l for l in logged))
            # The server is away: the client is told to come again.
            one.stop()
            with client() as smtp:
                self.assertNotEqual(smtp.docmd("AUTH PLAIN", base64.b64encode(
                    f"\0{JO}\0{PASSWORD}".encode()).decode())[0], 235)

    def test_the_auth_socket_by_hand(self):
        one = self.site()
        with Wire(one.auth_socket) as client:
            greeting = []
            while not greeting or greeting[-1] != b"DONE":
                greeting.append(client.line())
            self.assertEqual(greeting[0], b"VERSION\t1\t2")
            self.assertIn(b"MECH\tPLAIN\tplaintext", greeting)
            self.assertFalse(any(b"PLUS" in line for line in greeting))
            client.send(b"VERSION\t1\t1\nCPID\t1\n")
            resp = lambda password: base64.b64encode(f"\0{JO}\0{password}".encode())
            client.send(b"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + resp(PASSWORD) + b"\n")
            self.assertEqual(client.line(), b"FAIL\t1\treason=use TLS first")
            # Several at one time; a wrong one holds up nobody.
            client.send(b"AUTH\t2\tPLAIN\tservice=smtp\tsecured\tresp=" + resp("x") + b"\n"
                        b"AUTH\t3\tLOGIN\tservice=smtp\tsecured\n")
            got = sorted([client.line(), client.line()])
            self.assertEqual(got[0][:7], b"CONT\t3\t")
            self.assertEqual(got[1], b"FAIL\t2\tuser=" + JO.encode())
            client.send(b"CONT\t3\t" + base64.b64encode(JO.encode()) + b"\n")
            self.assertEqual(client.line()[:7], b"CONT\t3\t")
            client.send(b"CONT\t3\t" + base64.b64encode(PASSWORD.encode()) + b"\n")
            self.assertEqual(client.line(), b"OK\t3\tuser=" + JO.encode())
            client.send(b"AUTH\t4\tGSSAPI\tservice=smtp\tsecured\n")
            self.assertEqual(client.line(), b"FAIL\t4\treason=unsupported mechanism")
            client.send(b"VERSION\t2\t0\n")
            self.assertEqual(client.rest(), b"")

    # -- Exim --------------------------------------------------------------------

    def test_exim_by_lmtp_and_its_logins(self):
        one = self.site()
        context = ssl.create_default_context(cafile=one.certificate)
        with mta.Exim(one, "cursus_lmtp") as transport:
            # Exim's reports have no closer status; the words of the server are in the text.
            self.check(one, transport, over_quota="5.0.0", unknown="5.0.0")
            bounced = b"".join(one.bodies())
            self.assertIn(b"550 5.1.1", bounced)
            self.assertIn(b"552 5.2.2", bounced)
            with smtplib.SMTP("127.0.0.1", transport.port, timeout=20) as smtp:
                smtp.starttls(context=context)
                self.assertEqual(smtp.login(JO, PASSWORD)[0], 235)
            with smtplib.SMTP("127.0.0.1", transport.port, timeout=20) as smtp:
                smtp.starttls(context=context)
                with self.assertRaises(smtplib.SMTPAuthenticationError):
                    smtp.login(JO, "wrong")

    def test_exim_by_a_pipe(self):
        one = self.site()
        with mta.Exim(one, "cursus_pipe") as transport:
            self.check(one, transport, over_quota="5.0.0", unknown="5.0.0")
            bounced = b"".join(one.bodies())
            self.assertIn(b"5.1.1 ", bounced)
            self.assertIn(b"5.2.2 ", bounced)

    def test_exim_writes_maildirs(self):
        one = self.site()
        uid = pwd.getpwnam(mta.OWNER).pw_uid
        one.spool.chmod(0o755)
        home = one.spool / "example.org" / "jo"
        home.mkdir(parents=True)
        os.chown(home, uid, -1)
        with mta.Exim(one, "cursus_maildir") as transport:
            for number in range(MESSAGES):
                self.send(transport, [JO], letter(number))
            self.empty(transport)
            self.assertEqual(numbers(one.bodies()), list(range(MESSAGES)))

    # -- programs that users run ---------------------------------------------------

    def home(self, one):
        """A home directory whose Maildir is jo's, and the environment there."""
        home = proc.new_dir("hm")
        one.deliver(letter(1), JO.split("@")[0])
        (home / "Maildir").symlink_to(one.spool / "example.org/jo/Maildir")
        return home, {"HOME": str(home), "LOGNAME": "root", "PATH": os.environ["PATH"],
                      "USER": "root", "SENDER": "someone@example.net"}

    def filtered(self, case, file, program, options):
        """Letters by maildrop or procmail with the page's file; gives a function that delivers one."""
        one = self.site()
        home, environment = self.home(one)
        rules = home / "rules"
        # Both take the home directory from the system's list of users.
        text = one.here(mta.block(case, file)).replace("$HOME", str(home))
        rules.write_text(text)
        rules.chmod(0o600)

        def deliver(number, size=0, user=JO):
            if user != JO:
                rules.write_text(text.replace(JO, user))
            done = proc.run([self.need(program), *options, rules], env=environment, check=False,
                            stdin=letter(number, size).replace(b"\r\n", b"\n"))
            return done.returncode

        return one, deliver

    def check_filtered(self, *arguments, asks):
        one, deliver = self.filtered(*arguments)
        for number in range(2, MESSAGES + 1):
            self.assertEqual(deliver(number), 0)
        proc.wait_until(lambda: numbers(one.bodies()) == list(range(1, MESSAGES + 1)), 10, "letters")
        if asks:
            self.assertEqual(deliver(100, 4000, FULL), 77)
            self.assertEqual(deliver(101, 0, NOBODY), 67)
            one.stop()
            self.assertEqual(deliver(102, 0, "jane@example.org"), 75)

    def test_maildrop_into_the_maildir(self):
        self.check_filtered("maildrop", "mailfilter", "maildrop", [], asks=False)

    def test_maildrop_by_the_server(self):
        self.check_filtered("maildrop-deliver", "mailfilter", "maildrop", [], asks=True)

    def test_procmail_into_the_maildir(self):
        self.check_filtered("procmail", "procmailrc", "procmail", ["-m"], asks=False)

    def test_procmail_by_the_server(self):
        self.check_filtered("procmail-deliver", "procmailrc", "procmail", ["-m"], asks=True)

    def test_qmail_local_runs_it(self):
        one = self.site()
        command = one.here(mta.block("qmail", "qmail")).strip().removeprefix("|")

        def run(ext, size=0):
            """As qmail-command(8) says: the message without the lines that are in the environment."""
            return mta.shell(command, stdin=letter(1, size).replace(b"\r\n", b"\n"), env={
                "PATH": os.environ["PATH"], "SENDER": "someone@example.net", "NEWSENDER": "x",
                "RECIPIENT": f"vmail-{ext}@example.org", "USER": "vmail", "HOME": str(one.dir),
                "HOST": "example.org", "LOCAL": f"vmail-{ext}", "EXT": ext,
                "DTLINE": f"Delivered-To: vmail-{ext}@example.org\n",
                "RPLINE": "Return-Path: <someone@example.net>\n",
                "UFLINE": "From someone@example.net Sat Nov 28 00:00:00 2026\n"})

        self.assertEqual(run("jo"), (0, ""))
        self.assertIn(b"Return-Path: <someone@example.net>", one.bodies()[0])
        self.assertEqual(run("nobody")[0], 100)
        self.assertEqual(run("full", 4000)[0], 100)
        one.stop()
        self.assertEqual(run("jane")[0], 111, "no Maildir yet, no server")

    def test_safecat_in_a_qmail_file(self):
        self.need("safecat")
        one = self.site()
        home, environment = self.home(one)
        command = mta.block("safecat", "qmail").strip().removeprefix("|")
        for number in range(2, 5):
            status = mta.shell(command, stdin=letter(number).replace(b"\r\n", b"\n"), env=environment)
            self.assertEqual(status[0], 0, status)
        proc.wait_until(lambda: numbers(one.bodies()) == [1, 2, 3, 4], 10, "letters")

    # -- the command by itself ---------------------------------------------------

    def deliver(self, one, *arguments, message=letter(1), env=None):
        return one.tool("deliver", *arguments, stdin=message, check=False, env=env)

    def test_options_of_cyrus_dovecot_and_courier(self):
        one = self.site()
        with one.imap(JO) as client:
            client.ok("CREATE Lists")
        for arguments in (["-m", "Lists", "-a", "anonymous", JO], ["-d", JO, "-m", "Lists"],
                          ["-r", "a@b.test", "-m", "Lists", "--", JO], ["-m", "Absent", JO],
                          ["--socket", one.lmtp_socket, JO, "jane@example.org"]):
            done = self.deliver(one, *arguments)
            self.assertEqual(done.returncode, 0, (arguments, done.stderr))
        with one.imap(JO) as client:
            client.select("Lists")
            lists = list(client.bodies().values())
        self.assertEqual((len(lists), len(one.bodies()), len(one.bodies("jane@example.org"))), (3, 2, 1))
        self.assertTrue(any(b"Return-Path: <a@b.test>" in body for body in lists))
        # Over quota: 77 and why; with -q all the same.
        done = self.deliver(one, FULL, message=letter(2, 4000))
        self.assertEqual(done.returncode, 77)
        self.assertTrue(done.stderr.startswith(b"5.2.2 "), done.stderr)
        self.assertEqual(self.deliver(one, "-q", FULL, message=letter(2, 4000)).returncode, 0)
        done = self.deliver(one, NOBODY)
        self.assertEqual(done.returncode, 67)
        self.assertTrue(done.stderr.startswith(b"5.1.1 "), done.stderr)
        # Of several the one that may work later decides; nobody to deliver to is a mistake.
        for arguments in ([], ["--bad-option", JO], ["-w", "200", JO]):
            self.assertEqual(self.deliver(one, *arguments).returncode, 75, arguments)
        self.assertEqual(self.deliver(one, "--qmail", NOBODY).returncode, 100)
        # A note at 50 %, once.
        one.tool("quota", "set", JO, "--storage", "3K")
        before = len(one.bodies())
        for _ in range(2):
            self.assertEqual(self.deliver(one, "-w", "10", JO).returncode, 0)
        notes = [body for body in one.bodies() if b"nearly full" in body]
        self.assertEqual((len(notes), len(one.bodies())), (1, before + 3))
        # -l: LMTP through it.
        talk = (b"LHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<jane@example.org>\r\nDATA\r\n"
                b"Subject: l\r\n\r\n.\r\nQUIT\r\n")
        done = self.deliver(one, "-l", message=talk)
        self.assertIn(b"\r\n250 2.", done.stdout)
        self.assertIn(b"221 ", done.stdout)
        self.assertEqual(len(one.bodies("jane@example.org")), 2)

    def test_without_a_server_it_delivers_where_a_maildir_is(self):
        one = self.site()
        self.assertEqual(self.deliver(one, JO).returncode, 0)
        one.stop()
        self.assertEqual(self.deliver(one, JO, message=b"From x@y Sat\n" + letter(2)).returncode, 0)
        self.assertEqual(self.deliver(one, NOBODY).returncode, 67)
        self.assertEqual(self.deliver(one, "jane@example.org").returncode, 75, "no Maildir yet")
        self.assertEqual(self.deliver(one, "--socket", one.dir / "absent", JO).returncode, 75)
        self.assertEqual(self.deliver(one, "--qmail", "jane@example.org").returncode, 111)
        one.start()
        bodies = one.bodies()
        self.assertEqual(numbers(bodies), [1, 2])
        self.assertTrue(any(b"Return-Path: <x@y>" in body for body in bodies))
