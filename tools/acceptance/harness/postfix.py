"""Debian's Postfix with configuration, queue and data below the test's own directory.

Three domains lead to three LMTP servers, so that one transaction hands one queue file to
all of them: what the recording sink got is exactly what the others were given.
"""

import grp
import os
import pwd
import signal
import socketserver
import threading

from . import proc, server


class Sink(socketserver.ThreadingTCPServer):
    """An LMTP server that accepts everything and keeps the bytes, dots undone."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        self.messages = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), SinkSession)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class SinkSession(socketserver.StreamRequestHandler):
    def answer(self, text):
        self.wfile.write(text + b"\r\n")

    def handle(self):
        recipients = 0
        self.answer(b"220 sink LMTP")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"LHLO":
                self.answer(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE")
            elif verb == b"RCPT":
                recipients += 1
                self.answer(b"250 2.1.5 ok")
            elif verb == b"DATA":
                self.answer(b"354 go on")
                message = self.data()
                with self.server.lock:
                    self.server.messages.append(message)
                for _ in range(recipients):
                    self.answer(b"250 2.0.0 kept")
                recipients = 0
            elif verb == b"QUIT":
                self.answer(b"221 bye")
                return
            else:
                recipients = 0 if verb in (b"RSET", b"MAIL") else recipients
                self.answer(b"250 ok")

    def data(self):
        """Lines end at LF here; only CRLF.CRLF ends the data."""
        lines, after_crlf = [], True
        while line := self.rfile.readline():
            if after_crlf and line == b".\r\n":
                return b"".join(lines)
            if after_crlf and line.startswith(b"."):
                line = line[1:]
            lines.append(line)
            after_crlf = line.endswith(b"\r\n")
        raise ConnectionError("the client went away inside DATA")


class Postfix:
    def __init__(self, transports, message_bytes_max=60_000_000):
        """`transports` is domain to LMTP next hop, as `transport(5)` writes it."""
        self.dir = proc.new_dir("pf")
        self.port = proc.free_port()
        self.config = self.dir / "etc"
        self.queue = self.dir / "queue"
        self.data = self.dir / "data"
        for path in (self.config, self.queue, self.data):
            path.mkdir(mode=0o755)
        os.chown(self.data, pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        self.log_path = self.dir / "mail.log"
        (self.config / "transport").write_text(
            "".join(f"{domain} {hop}\n" for domain, hop in transports.items()))
        (self.config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {self.queue}
data_directory = {self.data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {self.log_path}
maillog_file_prefixes = {self.dir}
myhostname = relay.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
virtual_alias_maps =
virtual_mailbox_domains = {" ".join(transports)}
virtual_mailbox_maps = static:all
virtual_mailbox_limit = 0
mailbox_size_limit = 0
message_size_limit = {message_bytes_max}
default_transport = error:5.4.4 nothing leaves this machine
relay_transport = error:5.4.4 nothing leaves this machine
disable_dns_lookups = yes
virtual_transport = lmtp:inet:127.0.0.1:1
transport_maps = texthash:{self.config}/transport
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
smtpd_forbid_bare_newline = no
cleanup_replace_stray_cr_lf = no
local_header_rewrite_clients =
smtputf8_enable = {"yes" if server.ORACLE == "cursus" else "no"}
smtputf8_autodetect_classes = all
lmtp_destination_concurrency_limit = 8
minimal_backoff_time = 1s
maximal_backoff_time = 5s
queue_run_delay = 2s
bounce_queue_lifetime = 1h
""")
        services = [
            f"127.0.0.1:{self.port} inet n - n - - smtpd",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "proxywrite unix - - n - 1 proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "showq unix n - n - - showq",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "lmtp unix - - n - - lmtp",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        (self.config / "master.cf").write_text("\n".join(services) + "\n")
        self.child = None

    def start(self):
        # Makes the queue's directories with the owners that Postfix wants.
        proc.run(["/usr/sbin/postfix", "-c", self.config, "check"], seconds=60)
        self.child = proc.Child(
            ["/usr/lib/postfix/sbin/master", "-c", self.config, "-d"], self.dir / "master.log")

        def listening():
            if not self.child.alive():
                raise AssertionError("Postfix ended:\n" + self.child.log() + self.log())
            with proc.socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        proc.wait_until(listening, 20, "Postfix to listen")
        return self

    def log(self):
        try:
            return self.log_path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def queued(self):
        """Queue files that are still there."""
        return sum(len(files) for part in ("maildrop", "incoming", "active", "deferred")
                   for _, _, files in os.walk(self.queue / part))

    def sendmail(self, sender, recipients, message):
        """Submits by the sendmail command; it wants LF line ends."""
        proc.run(["/usr/sbin/sendmail", "-C", self.config, "-i", "-f", sender, *recipients],
                 stdin=message)

    def stop(self):
        self.child.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
