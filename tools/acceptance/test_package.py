"""The Debian package, installed, upgraded, removed and purged by dpkg in a root of its own: a layer over
this system's, in which nothing of this system changes."""

import shutil
import unittest

from harness import proc
from harness.case import Case

# A root over this one, with a network of its own.
APART = """
set -e
layers=$1 script=$2; shift 2
mount -t tmpfs none "$layers"
mkdir "$layers/up" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/up,workdir=$layers/work" "$layers/root"
mount --bind /dev "$layers/root/dev"
mount -t proc none "$layers/root/proc"
mkdir -p "$layers/root/packages"
mount --bind "$1" "$layers/root/packages"
ip link set lo up
exec chroot "$layers/root" sh -c "$script"
"""

# No server was here before, and none is installed: dpkg's list says so.
BARE = """
set -e
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Debian's index of manual pages would take its seconds.
rm -rf /var/lib/man-db/auto-update /etc/courier /etc/imapd.conf /etc/dovecot /run/cursus
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d
install_it() { dpkg --force-unsafe-io --force-conflicts -i "$1" </dev/null >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; exit 1; }; }
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 | tr '\\n' ' '; echo; }
"""

LIFE = BARE + """
install_it /packages/one.deb
say user getent passwd cursus
say directories stat -c '%U %a' /var/lib/cursus /var/spool/cursus
say enabled readlink /etc/systemd/system/multi-user.target.wants/cursusd.service
user="setpriv --reuid cursus --regid cursus --clear-groups --inh-caps +net_bind_service --ambient-caps +net_bind_service"
as_cursus() { $user "$@"; }
conf="--config /etc/cursus/cursus.toml"
say unit sh -c 'command -v systemd-analyze >/dev/null && systemd-analyze verify /usr/lib/systemd/system/cursusd.service'
say check as_cursus cursusd --check-config $conf
install -d -o cursus /run/cursus
$user cursusd $conf >/tmp/cursusd.log 2>&1 &
for _ in $(seq 100); do [ -S /run/cursus/lmtp ] && [ -S /var/lib/cursus/admin.sock ] && break; sleep 0.1; done
[ -S /run/cursus/lmtp ] || { cat /tmp/cursusd.log; exit 1; }
echo secret | as_cursus cursus $conf user add jo
printf 'Subject: x\\n\\nx\\n' | as_cursus cursus $conf deliver jo
say mailboxes as_cursus cursus $conf mailbox list jo
kill $!; wait $! || { cat /tmp/cursusd.log; exit 1; }
echo '# mine' >>/etc/cursus/cursus.toml
install_it /packages/two.deb
say upgraded dpkg-query -W -f '${Version}' cursus
say kept tail -n 1 /etc/cursus/cursus.toml
say others find /etc/cursus -type f
dpkg -r cursus >/dev/null 2>&1 </dev/null
say removed sh -c 'ls /usr/bin/cursus* /usr/lib/systemd/system/cursusd* 2>/dev/null; tail -n 1 /etc/cursus/cursus.toml; ls /var/spool/cursus /var/lib/cursus/users'
install_it /packages/two.deb
say again as_cursus cursus $conf mailbox list jo
say purge sh -c 'dpkg -P cursus </dev/null | grep /var/ || true'
say purged sh -c 'ls -d /etc/cursus /usr/share/doc/cursus 2>/dev/null; ls /var/spool/cursus /var/lib/cursus/users'
"""

AFTER_COURIER = BARE + """
mkdir /etc/courier; echo ADDRESS=0 >/etc/courier/imapd
install_it /packages/one.deb
say told grep courier /tmp/dpkg.log
say enabled sh -c 'ls /etc/systemd/system/multi-user.target.wants/cursusd.service 2>/dev/null'
say theirs cat /etc/courier/imapd
"""


class Package(Case):
    @classmethod
    def setUpClass(cls):
        cls.packages = None

    def setUp(self):
        super().setUp()
        self.only_cursus()
        for program in ("dpkg-shlibdeps", "strip", "adduser", "setpriv", "ip"):
            self.need(program)
        self.dir = proc.new_dir("package")
        if proc.run(["unshare", "--mount", "--net", "true"], check=False).returncode:
            self.skipTest("namespaces are refused")
        probe = self.dir / "probe"
        probe.mkdir()
        tried = proc.run(["unshare", "--mount", "--net", "sh", "-c", APART, "sh", probe, "true", self.dir],
                         check=False)
        if tried.returncode:
            self.skipTest(f"no root of its own: {tried.stderr.decode().strip()}")
        if Package.packages is None:
            Package.packages = proc.new_dir("packages")
            built = proc.run([proc.ROOT / "tools/package/build", "--binaries", proc.BINARIES, "--fast",
                              "--version", "1.0", "--output", self.dir]).stdout.decode().strip()
            shutil.move(built, Package.packages / "one.deb")
            tree = self.dir / "next"
            proc.run(["dpkg-deb", "--raw-extract", Package.packages / "one.deb", tree])
            control = tree / "DEBIAN/control"
            control.write_text(control.read_text().replace("Version: 1.0\n", "Version: 1.1\n"))
            proc.run(["dpkg-deb", "-Znone", "--build", tree, Package.packages / "two.deb"])

    def apart(self, script):
        layers = self.dir / "layers"
        layers.mkdir()
        done = proc.run(["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", APART, "sh", layers,
                         script, self.packages])
        lines = (line.partition(": ") for line in done.stdout.decode().splitlines())
        return {key: value.strip() for key, _, value in lines}

    def test_contents(self):
        listed = proc.run(["dpkg-deb", "--contents", self.packages_of()]).stdout.decode()
        for path in ("usr/bin/cursusd", "usr/bin/cursus", "usr/lib/systemd/system/cursusd.service",
                     "etc/cursus/cursus.toml", "usr/share/man/man1/cursus.1.gz", "usr/share/man/man1/cursusd.1.gz",
                     "usr/share/doc/cursus/copyright", "usr/share/doc/cursus/docs/installation.md",
                     "usr/share/bash-completion/completions/cursus"):
            self.assertIn(f"./{path}\n", listed)
        self.assertEqual({line.split()[1] for line in listed.splitlines()}, {"root/root"})
        for other in ("courier", "imapd.conf", "var/"):
            self.assertNotIn(f"/{other}", listed.replace("configuration-courier", ""))
        fields = proc.run(["dpkg-deb", "--field", self.packages_of()]).stdout.decode()
        crates = proc.run(["sh", "-c", f"dpkg-deb --fsys-tarfile {self.packages_of()} | "
                           "tar xO ./usr/share/doc/cursus/crates.txt.gz | gzip -d"]).stdout.decode()
        self.assertRegex(crates, r"== rustls v[^\n]*: Apache-2.0 OR ISC OR MIT\n\n(.*\n)+?.*Permission to use")
        self.assertIn("Provides: imap-server, pop3-server\n", fields)
        self.assertRegex(fields, r"Depends: .*libc6 \(>= 2\.\d+\)")

    def packages_of(self):
        return self.packages / "one.deb"

    def test_install_serve_upgrade_remove_purge(self):
        told = self.apart(LIFE)
        self.assertRegex(told["user"], r"^cursus:x:\d+:\d+:.*:/var/lib/cursus:")
        self.assertEqual(told["directories"], "cursus 700 cursus 700")
        self.assertEqual(told["enabled"].split("/")[-1], "cursusd.service")
        self.assertEqual(told["unit"], "")
        self.assertIn("good", told["check"])
        self.assertRegex(told["mailboxes"], r"jo\tINBOX\t1\t1\t")
        self.assertEqual(told["upgraded"], "1.1")
        self.assertEqual(told["kept"], "# mine")
        self.assertEqual(told["others"], "/etc/cursus/cursus.toml")
        self.assertEqual(told["removed"].split()[:2], ["#", "mine"])
        self.assertIn("/var/lib/cursus/users", told["removed"])
        self.assertRegex(told["again"], r"jo\tINBOX\t1\t1\t")
        self.assertIn("/var/spool/cursus stays", told["purge"])
        self.assertTrue(told["purged"].startswith("/var/lib/cursus/users"), told["purged"])
        self.assertIn("jo", told["purged"])

    def test_where_courier_was_nothing_is_started(self):
        told = self.apart(AFTER_COURIER)
        self.assertIn("not started: mail was served here by /etc/courier/imapd.", told["told"])
        self.assertEqual(told["enabled"], "")
        self.assertEqual(told["theirs"], "ADDRESS=0")


if __name__ == "__main__":
    unittest.main()
