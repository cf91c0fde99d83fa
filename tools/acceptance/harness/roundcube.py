"""Debian's Roundcube on PHP's built-in server, with its configuration and database below the run."""

import os
import pathlib
import signal
import socket
import sqlite3

from . import proc

ROOT = pathlib.Path("/usr/share/roundcube")
# What a web server shows; the rest is found from there by links.
PUBLIC = pathlib.Path("/var/lib/roundcube/public_html")
# Where Debian's package keeps what makes the database.
SCHEMAS = (ROOT / "SQL" / "sqlite.initial.sql",
           pathlib.Path("/usr/share/dbconfig-common/data/roundcube/install/sqlite3"))


def missing():
    """What of it is not installed, or None."""
    if not proc.find_program("php"):
        return "php"
    if not (ROOT / "plugins" / "acl").exists():
        return "roundcube"
    return None if any(path.exists() for path in SCHEMAS) else "Roundcube's schema for sqlite"


class Roundcube:
    def __init__(self, imap_port):
        self.dir = proc.new_dir("rc")
        for name in ("etc", "logs", "tmp"):
            (self.dir / name).mkdir()
        for name in ("defaults.inc.php", "mimetypes.php"):
            (self.dir / "etc" / name).symlink_to(pathlib.Path("/etc/roundcube") / name)
        schema = next(path for path in SCHEMAS if path.exists()).read_text("utf-8")
        with sqlite3.connect(self.dir / "roundcube.db") as database:
            database.executescript(schema)
        self.port = proc.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (self.dir / "etc" / "config.inc.php").write_text(f"""<?php
$config = [
    'db_dsnw' => 'sqlite:///{self.dir}/roundcube.db?mode=0640',
    'imap_host' => '127.0.0.1:{imap_port}',
    'des_key' => 'a key of 24 characters!!',
    'plugins' => ['acl'],
    'language' => 'en_US',
    'log_dir' => '{self.dir}/logs',
    'temp_dir' => '{self.dir}/tmp',
    'create_default_folders' => true,
    'display_next' => false,
    'check_all_folders' => true,
];
""")
        self.child = proc.Child(
            [proc.find_program("php"), "-S", f"127.0.0.1:{self.port}", "-t", PUBLIC],
            self.dir / "php.log",
            # Its workers outlive it; a session of their own, so that they can be ended together.
            preexec=os.setsid,
            env={"PHP_CLI_SERVER_WORKERS": "4", "ROUNDCUBE_CONFIG_DIR": str(self.dir / "etc")})
        proc.wait_until(self.accepts, 10, "PHP's server")

    def accepts(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def errors(self):
        """What it logged."""
        return "".join(path.read_text("utf-8", "replace")
                       for path in sorted((self.dir / "logs").glob("errors*")))

    def stop(self):
        os.killpg(self.child.pid, signal.SIGTERM)
        self.child.stop()
