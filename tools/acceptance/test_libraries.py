"""Programs and libraries that people write mail software with: they read, change, sync, idle."""

import asyncio
import json
import mailbox
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

from harness import corpus, proc
from harness.case import Case, both_layouts
from harness.server import PASSWORD
from test_clients import Terminal, flags_of

CLIENTS = proc.ROOT / "tools" / "acceptance" / "clients"
# Where tools/test unpacks the source packages of Python libraries.
SOURCES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", proc.ROOT / "target")) / "python-sources"
CYRUS_BIN = "/usr/lib/cyrus/bin"


def subjects(client, mailbox="INBOX"):
    """Subjects of a mailbox, as the test's own client sees them."""
    client.select(mailbox)
    found = [re.search(rb"Subject: ([^\r]*)", body) for body in client.bodies().values()]
    return [one[1].decode() for one in found]


@both_layouts(globals())
class ImapFlow:
    """npm's imapflow: COMPRESS, QRESYNC, OBJECTID, UTF8=ACCEPT, MOVE, IDLE."""

    def step(self, name):
        line = self.node.stdout.readline()
        if not line:
            self.node.wait(10)
            self.fail(f"no {name}: {self.node.stderr.read()[-3000:]}")
        told = json.loads(line)
        self.assertEqual(told["step"], name)
        return told

    def go_on(self):
        self.node.stdin.write("\n")
        self.node.stdin.flush()

    def test_a_session_and_what_it_missed(self):
        node = self.need("node")
        package = proc.TARGET / "npm" / "node_modules" / "imapflow"
        if not package.is_dir():
            self.skipTest("npm's imapflow is not installed")
        one = self.serve()
        self.node = subprocess.Popen(
            [node, CLIENTS / "imapflow.cjs", package, str(one.ports["imap"]), "alice", PASSWORD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end)

        connected = self.step("connected")
        self.assertTrue(connected["compressed"])
        self.assertLessEqual({"QRESYNC", "CONDSTORE", "UTF8=ACCEPT"}, set(connected["enabled"]))
        made = self.step("made")
        self.assertTrue(made["created"]["created"])
        self.assertRegex(made["created"]["mailboxId"], r"^[A-Za-z0-9_-]+$")
        self.assertIn(["INBOX", 3, "\\Inbox"], made["listed"])
        self.assertIn(["Größe", 0, None], made["listed"])
        opened = self.step("opened")
        self.assertRegex(opened["mailboxId"], r"^[A-Za-z0-9_-]+$")
        self.assertGreater(int(opened["highestModseq"]), 0)

        messages = self.step("fetched")["messages"]
        self.assertEqual([m["subject"] for m in messages], ["one", "grüße", "three"])
        self.assertEqual(len({m["emailId"] for m in messages}), 3)
        self.assertTrue(all(m["threadId"] and m["type"] == "text/plain" for m in messages))
        self.assertEqual({m["date"] for m in messages}, {"2001-02-03T04:05:06.000Z"})
        self.assertEqual([m["size"] for m in messages], [len(m["source"]) for m in messages])
        found = self.step("found")
        self.assertEqual((found["subject"], found["either"], found["none"]), ([2], [1, 3], []))
        changed = self.step("changed")
        self.assertTrue(changed["flagged"])
        self.assertEqual(changed["copied"]["uidMap"], {"1": 1})
        self.assertEqual(changed["moved"]["uidMap"], {"2": 2})
        self.assertEqual(changed["downloaded"], messages[0]["source"])
        self.assertTrue(self.step("quota")["quota"])

        # What comes together is told together: the client is to idle first, and to hear of each.
        self.step("idling")
        time.sleep(0.3)
        one.deliver(corpus.plain("four"))
        time.sleep(0.2)
        with one.imap() as client:
            client.select()
            client.ok(r"UID STORE 3 +FLAGS (\Answered)")
            client.ok(r"UID STORE 1 +FLAGS.SILENT (\Deleted)")
            client.ok("UID EXPUNGE 1")
        time.sleep(0.2)
        self.go_on()
        heard = self.step("heard")["heard"]
        self.assertTrue(any(e["event"] == "exists" and e["count"] == 3 for e in heard), heard)
        self.assertTrue(any(e["event"] == "flags" and "\\Answered" in e["flags"] for e in heard), heard)
        self.assertTrue(any(e["event"] == "expunge" and e.get("uid") == 1 for e in heard), heard)

        self.step("away")
        with one.imap() as client:
            client.select()
            client.ok(r"UID STORE 3 +FLAGS (\Deleted)")
            client.ok("UID EXPUNGE 3")
            client.ok(r"UID STORE 4 +FLAGS ($Forwarded)")
            client.append("INBOX", corpus.plain("five"))
        self.go_on()
        back = self.step("back")
        self.assertTrue(back["qresync"])
        gone = [e for e in back["news"] if e["event"] == "expunge"]
        # It is told both by SELECT and by FETCH; of removals it keeps no MODSEQ, so 1 may come again.
        self.assertTrue(all(e["vanished"] for e in gone), back["news"])
        self.assertIn({e["uid"] for e in gone}, ({3}, {1, 3}), back["news"])
        self.assertEqual([m["uid"] for m in back["changed"]], [4, 5])
        self.assertIn("$Forwarded", back["changed"][0]["flags"])
        self.assertEqual(self.step("status")["status"]["messages"], 0)
        self.step("done")
        self.assertEqual(self.node.wait(10), 0)

    def end(self):
        self.node.kill()
        self.node.wait(10)
        for pipe in (self.node.stdin, self.node.stdout, self.node.stderr):
            pipe.close()


@both_layouts(globals())
class AioImapLib:
    """Python's aioimaplib: IDLE beside deliveries."""

    def test_idle_search_fetch_and_move(self):
        try:
            import aioimaplib
        except ImportError:
            self.skipTest("Python's aioimaplib is not installed")
        one = self.serve()
        one.fill(corpus.varied(3))
        asyncio.run(self.session(aioimaplib, one))
        with one.imap() as client:
            self.assertEqual(subjects(client, "Kept"), ["varied 1"])
            self.assertEqual(subjects(client), ["varied 0", "varied 2", "while it idles", "by aio"])

    async def session(self, aioimaplib, one):
        client = aioimaplib.IMAP4(host="127.0.0.1", port=one.ports["imap"], timeout=20)
        await client.wait_hello_from_server()
        self.assertEqual((await client.login("alice", PASSWORD)).result, "OK")
        self.assertEqual((await client.create("Kept")).result, "OK")
        self.assertEqual((await client.select("INBOX")).result, "OK")
        result, found = (await client.uid_search('SUBJECT "varied 1"'))[:2]
        self.assertEqual((result, found[0]), ("OK", b"2"))
        fetched = await client.uid("fetch", "2", "(UID FLAGS BODY.PEEK[HEADER])")
        self.assertIn(b"Subject: varied 1", b"".join(map(bytes, fetched.lines)))
        self.assertTrue(client.has_capability("MOVE") and client.has_capability("IDLE"))
        self.assertEqual((await client.uid("move", "2", "Kept")).result, "OK")

        idle = await client.idle_start(timeout=20)
        began = time.monotonic()
        await asyncio.to_thread(one.deliver, corpus.plain("while it idles"))
        heard = []
        while not any(line.endswith(b"EXISTS") for line in heard):
            heard += await client.wait_server_push(10)
        self.assertLess(time.monotonic() - began, 2, heard)
        client.idle_done()
        await asyncio.wait_for(idle, 10)
        self.assertEqual((await client.append(corpus.plain("by aio"), "INBOX")).result, "OK")
        self.assertEqual((await client.logout()).result, "OK")


@both_layouts(globals())
class ImapTools:
    """Python's imap-tools."""

    def test_folders_messages_flags_and_idle(self):
        try:
            import imap_tools
        except ImportError:
            self.skipTest("Python's imap-tools is not installed")
        one = self.serve()
        box = imap_tools.MailBoxUnencrypted("127.0.0.1", one.ports["imap"], timeout=20)
        with box.login("alice", PASSWORD) as client:
            client.folder.create("Gruß")
            client.folder.create("Gruß/unten")
            self.assertTrue(client.folder.exists("Gruß/unten"))
            self.assertEqual({f.name for f in client.folder.list()}, {"INBOX", "Gruß", "Gruß/unten"})
            for message in corpus.varied(5):
                client.append(message, "INBOX", dt=None, flag_set=[imap_tools.MailMessageFlags.SEEN])
            fetched = list(client.fetch(imap_tools.AND(subject="varied"), mark_seen=False, bulk=True))
            self.assertEqual([m.subject for m in fetched], [f"varied {n}" for n in range(5)])
            self.assertTrue(all("\\Seen" in m.flags for m in fetched))
            uids = client.uids(imap_tools.OR(subject=["varied 1", "varied 3"]))
            self.assertEqual(uids, ["2", "4"])
            self.assertEqual(client.uids("ALL", sort="REVERSE SUBJECT"), ["5", "4", "3", "2", "1"])
            client.flag(uids, imap_tools.MailMessageFlags.FLAGGED, True)
            self.assertEqual(client.uids(imap_tools.AND(flagged=True)), uids)
            client.move(uids, "Gruß")
            client.copy("1", "Gruß/unten")
            client.delete("3")
            self.assertEqual(client.folder.status("INBOX")["MESSAGES"], 2)
            threading.Timer(0.2, one.deliver, [corpus.plain("while it idles")]).start()
            heard = client.idle.wait(timeout=10)
            self.assertTrue(any(line.endswith(b"EXISTS") for line in heard), heard)
            client.folder.set("Gruß")
            self.assertEqual([m.subject for m in client.fetch()], ["varied 1", "varied 3"])
            client.folder.rename("Gruß/unten", "Gruß/oben")
            client.folder.delete("Gruß/oben")


class ImapClientSuite(Case):
    """imapclient's own suite for live servers."""

    # What fails for reasons that are not the server's.
    ALLOWED = {
        "test_move",  # without UID: imaplib has no such command
        "test_getacl",  # reads its own configuration as what it is not
        "test_subscriptions",  # wants no subscription to a name that isn't there, which RFC 3501 has
        "test_small_connection_timeout_fail", "test_small_read_timeout_fail",  # too near, too fast
        "test_getacl",  # takes the suite's own configuration for a dictionary, and fails before it compares
        "test_fetch",  # wants no UID beside MODSEQ, which RFC 7162 demands; compares time zones as objects
    }

    def test_live(self):
        try:
            import imapclient.livetest
        except ImportError:
            self.skipTest("Python's imapclient is not installed")
        one = self.serve()
        config = one.dir / "live.ini"
        config.write_text(f"[DEFAULT]\nhost = 127.0.0.1\nport = {one.ports['imap']}\n"
                          f"username = alice\npassword = {PASSWORD}\nssl = False\n")
        done = proc.run([sys.executable, "-m", imapclient.livetest.__name__, config],
                        seconds=100, check=False)
        said = done.stderr.decode()
        self.assertGreaterEqual(int(re.search(r"Ran (\d+) tests", said)[1]), 50, said[-2000:])
        failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", said, re.MULTILINE))
        self.assertLessEqual(failed, self.ALLOWED, said[-6000:])


class ImapToolsSuite(Case):
    """imap-tools' own tests, as far as they talk to a server, from its source package."""

    MODULES = ("test_mailbox", "test_folders", "test_idle")
    # The other tests of its module read messages that the source package leaves out.
    TESTS = ("test_message.MessageTest.test_live",)

    def test_live(self):
        found = sorted(SOURCES.glob("imap_tools-*/tests"))
        if not found:
            self.skipTest(f"no source package of imap-tools in {SOURCES}")
        one = self.serve()
        tests = one.dir / "suite" / "tests"
        shutil.copytree(found[-1], tests)
        shutil.copy(CLIENTS / "imap_tools_site.py", tests / "utils.py")
        (tests / "__init__.py").touch()
        env = {**os.environ, "CURSUS_PORT": str(one.ports["imap"]), "CURSUS_USER": "alice",
               "CURSUS_PASSWORD": PASSWORD}
        names = [f"tests.{name}" for name in self.MODULES + self.TESTS]
        done = proc.run([sys.executable, "-m", "unittest", *names], seconds=60, check=False,
                        cwd=tests.parent, env=env)
        said = done.stderr.decode()
        self.assertGreaterEqual(int(re.search(r"Ran (\d+) test", said)[1]), 10, said[-2000:])
        self.assertEqual(done.returncode, 0, said[-6000:])


@both_layouts(globals())
class PerlLibraries:
    def perl(self, script, module):
        perl = self.need("perl")
        if proc.run([perl, f"-M{module}", "-e", "1"], check=False).returncode:
            self.skipTest(f"Perl's {module} is not installed")
        one = self.serve()
        done = proc.run([perl, CLIENTS / script, one.ports["imap"], "alice", PASSWORD], seconds=40)
        self.assertEqual(done.stdout, b"done\n", done.stderr[-2000:])

    def test_mail_imapclient(self):
        self.perl("imapclient.pl", "Mail::IMAPClient")

    def test_mail_imaptalk(self):
        self.perl("imaptalk.pl", "Mail::IMAPTalk")


@both_layouts(globals())
class ImapFilter:
    def test_messages_are_filtered(self):
        program = self.need("imapfilter")
        one = self.serve()
        one.fill(corpus.varied(8))
        home = proc.new_dir("if")
        config = home / "config.lua"
        config.write_text(f"""
options.timeout = 20
options.starttls = false
options.certificates = false
options.create = true
options.expunge = true
account = IMAP {{
    server = '127.0.0.1', port = {one.ports["imap"]}, username = 'alice', password = '{PASSWORD}',
}}
account:create_mailbox('Lists/filtered')
all, unseen = account.INBOX:check_status()
assert(all == 8, 'status')
some = account.INBOX:contain_subject('varied 2') + account.INBOX:contain_subject('varied 5')
assert(#some == 2, 'search')
some:mark_flagged()
some:move_messages(account['Lists/filtered'])
matched = account.INBOX:select_all():match_subject('varied [67]$')
assert(#matched == 2, 'match')
matched:copy_messages(account['Made'])
old = account.INBOX:contain_subject('varied 0') * account.INBOX:is_unseen()
old:delete_messages()
boxes, folders = account:list_all()
table.sort(boxes)
print(table.concat(boxes, ' '))
""")
        done = proc.run([program, "-c", config], seconds=40,
                        env={"HOME": str(home), "IMAPFILTER_HOME": str(home)})
        self.assertIn(b"INBOX", done.stdout)
        with one.imap() as client:
            self.assertEqual(subjects(client, "Lists/filtered"), ["varied 2", "varied 5"])
            self.assertIn(rb"\Flagged", flags_of(client, "Lists/filtered")[1])
            self.assertEqual(subjects(client, "Made"), ["varied 6", "varied 7"])
            self.assertEqual(subjects(client), [f"varied {n}" for n in (1, 3, 4, 6, 7)])


@both_layouts(globals())
class OfflineImap:
    def sync(self, config):
        return proc.run([self.need("offlineimap"), "-c", config, "-o", "-1", "-u", "basic"],
                        seconds=60, env={"HOME": str(config.parent)})

    def local(self, home, folder="INBOX"):
        return {m["Subject"]: set(m.get_flags())
                for m in mailbox.Maildir(home / "mail" / folder, create=False)}

    def test_two_ways(self):
        self.need("offlineimap")
        one = self.serve()
        one.fill(corpus.varied(6))
        with one.imap() as client:
            client.ok('CREATE "Lists/dev"')
            client.append("Lists/dev", corpus.plain("below"), rb"\Seen")
        home = proc.new_dir("oi")
        config = home / "rc"
        config.write_text(f"""
[general]
accounts = one
metadata = {home}/meta
[Account one]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {home}/mail
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {one.ports["imaps"]}
ssl = yes
sslcacertfile = {one.certificate}
remoteuser = alice
remotepass = {PASSWORD}
""")
        self.sync(config)
        self.assertEqual(set(self.local(home)), {f"varied {n}" for n in range(6)})
        self.assertEqual(self.local(home, "Lists.dev"), {"below": {"S"}})
        near = mailbox.Maildir(home / "mail" / "INBOX", create=False)
        near.add(corpus.plain("written here").replace(b"\r\n", b"\n"))
        for key, message in near.items():
            if message["Subject"] == "varied 3":
                message.set_flags("FS")
                message.set_subdir("cur")
                near[key] = message
            elif message["Subject"] == "varied 4":
                near.discard(key)
        with one.imap() as client:
            client.select()
            client.ok(r"STORE 1 +FLAGS.SILENT (\Answered)")
            client.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
            client.ok("EXPUNGE")
            client.append("INBOX", corpus.plain("written there"))
        self.sync(config)
        here = self.local(home)
        with one.imap() as client:
            flags = dict(zip(subjects(client), flags_of(client).values()))
        self.assertEqual(set(flags), set(here))
        self.assertEqual(set(here), {"varied 0", "varied 2", "varied 3", "varied 5", "written here",
                                     "written there"})
        self.assertIn("R", here["varied 0"])
        self.assertEqual(flags["varied 3"] - {rb"\Recent"}, {rb"\Seen", rb"\Flagged"})


@both_layouts(globals())
class ImTest:
    """Cyrus's imtest logs in by each mechanism and hands on what it is told."""

    def imtest(self, one, *options, script=b". NOOP\r\n. LOGOUT\r\n"):
        program = proc.find_program(f"{CYRUS_BIN}/imtest")
        if not program:
            self.skipTest("Cyrus's imtest is not installed")
        return proc.run([program, "-a", "alice", "-u", "alice", "-w", PASSWORD,
                         "-p", one.ports["imap"], *options, "127.0.0.1"],
                        stdin=script, seconds=20, check=False).stdout

    def test_logins_starttls_and_compression(self):
        one = self.serve()
        for options in (["-m", "login"], ["-m", "PLAIN"], ["-m", "PLAIN", "-t", ""],
                        ["-m", "PLAIN", "-q"]):
            said = self.imtest(one, *options)
            self.assertIn(b"Authenticated.", said, (options, said[-2000:]))
            self.assertIn(b". OK", said, (options, said[-2000:]))


@both_layouts(globals())
class MuttCatchesUp:
    """Mutt and NeoMutt with a header cache ask by QRESYNC for what they missed."""

    def mutt(self, one, program, home, keys):
        (home / "rc").write_text(f"""
set folder = "imap://alice@127.0.0.1:{one.ports["imap"]}/"
set spoolfile = "+INBOX"
set imap_user = "alice"
set imap_pass = "{PASSWORD}"
set imap_qresync = yes
set header_cache = "{home}/cache"
set ssl_force_tls = no
set ssl_starttls = no
set quit = yes
set move = no
set confirmappend = no
set wait_key = no
set sort = mailbox-order
push "{keys}"
""")
        log = ["-l", str(home / "debug")] if "neomutt" in program else []
        terminal = Terminal(
            [program, "-n", "-F", str(home / "rc"), "-d", "3", *log],
            {"TERM": "xterm", "HOME": str(home), "LINES": "40", "COLUMNS": "120"}, home / "screen")
        self.assertEqual(terminal.finish(30), 0, (home / "screen").read_bytes()[-2000:])
        return "".join(path.read_text("utf-8", "replace")
                       for path in home.glob("*debug0"))

    def catch_up(self, name):
        program = self.need(name)
        one = self.serve()
        one.fill(corpus.varied(6))
        home = proc.new_dir("mq")
        (home / "cache").mkdir()
        with one.imap() as client:
            client.ok("CREATE All")
            client.ok("CREATE Flagged")
        self.mutt(one, program, home, "<first-entry><quit>")
        with one.imap() as client:
            client.select()
            client.ok(r"STORE 1 +FLAGS.SILENT (\Flagged)")
            client.ok(r"STORE 3 +FLAGS.SILENT (\Deleted)")
            client.ok("EXPUNGE")
            client.append("INBOX", corpus.plain("new"))
        log = self.mutt(one, program, home,
                        "<tag-pattern>~A<enter><tag-prefix><copy-message>=All<enter>"
                        "<untag-pattern>~A<enter><tag-pattern>~F<enter>"
                        "<tag-prefix><copy-message>=Flagged<enter><quit>")
        self.assertRegex(log, r"UID FETCH \S+ \(FLAGS\) \(CHANGEDSINCE \d+ VANISHED\)")
        with one.imap() as client:
            self.assertEqual(subjects(client, "Flagged"), ["varied 0"])
            self.assertEqual(subjects(client, "All"),
                             ["varied 0", "varied 1", "varied 3", "varied 4", "varied 5", "new"])

    def test_mutt(self):
        self.catch_up("mutt")

    def test_neomutt(self):
        self.catch_up("neomutt")


class Screen(Terminal):
    """A program in a pseudo terminal, to which somebody types."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = b""

    def wait_for(self, pattern, seconds=15):
        """Reads until the screen has shown that since the last wait."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], 0.1)
            if ready:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    ready = None
            if ready is None or time.monotonic() > end:
                raise AssertionError(f"no {pattern} on the screen: {self.seen[-3000:]!r}")
        self.seen = self.seen[found.end():]

    def type(self, text):
        os.write(self.fd, text.encode())


@both_layouts(globals())
class Alpine:
    """Alpine at a screen: reads, flags, saves, deletes."""

    def test_reads_flags_saves_and_expunges(self):
        program = self.need("alpine")
        one = self.serve()
        one.fill(corpus.varied(6))
        with one.imap() as client:
            client.ok("CREATE Kept")
        home = proc.new_dir("al")
        at = f"{{127.0.0.1:{one.ports['imap']}/notls/user=alice}}"
        (home / "pinerc").write_text(f"""
inbox-path={at}INBOX
folder-collections=Mail {at}[]
feature-list=enable-flag-cmd,expunge-without-confirm,expunge-without-confirm-everywhere,
    quit-without-confirm,enable-jump-shortcut
sort-key=Arrival
last-version-used=9.99z
user-domain=example.org
personal-name=Alice
""")
        screen = Screen(
            [program, "-p", str(home / "pinerc"), "-i"],
            {"TERM": "xterm", "HOME": str(home), "LINES": "40", "COLUMNS": "100"}, home / "screen")
        try:
            self.type_all(screen)
            self.assertEqual(screen.finish(20), 0)
        except BaseException:
            os.kill(screen.pid, signal.SIGKILL)
            raise
        with one.imap() as client:
            self.assertEqual(subjects(client, "Kept"), ["varied 3"])
            self.assertEqual(subjects(client), [f"varied {n}" for n in (0, 2, 4, 5)])
            flags = flags_of(client)
            self.assertIn(rb"\Seen", flags[1])
            self.assertIn(rb"\Flagged", flags[6])

    def type_all(self, screen):
        screen.wait_for(rb"PASSWORD")
        screen.type(PASSWORD + "\r")
        # It reads what is typed once a question stands whole.
        screen.wait_for(rb"(?s)Preserve password.*\[Yes\].* No")
        screen.type("n")
        screen.wait_for(rb"varied 5")
        screen.type("1\r\r")
        screen.wait_for(rb"varied 0")
        screen.type("i")
        screen.wait_for(rb"varied 3")
        screen.type("4\rs\x15Kept\r")
        screen.wait_for(rb"copied|DONE\]")
        screen.type("2\rd6\r**")
        screen.wait_for(rb"Flagged message 6")
        screen.type("x")
        screen.wait_for(rb"[Ee]xpunged")
        screen.type("q")
