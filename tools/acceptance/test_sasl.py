"""Mail programs that nobody here wrote log in, by every mechanism that they have."""

import base64
import hashlib
import hmac
import imaplib
import json
import poplib
import re
import ssl
import time

from harness import corpus, proc
from harness.case import Case
from harness.server import PASSWORD, certificate
from test_clients import Terminal

SECRETS = "scram-sha-1,scram-sha-512,cram-md5,cram-sha1,cram-sha256,digest-md5,clear"
MECHANISMS = ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
              "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "PLAIN", "LOGIN", "CRAM-MD5", "CRAM-SHA1",
              "CRAM-SHA256", "DIGEST-MD5"]


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Sasl(Case):
    def setUp(self):
        super().setUp()
        self.only_cursus()

    def site(self, mechanisms=MECHANISMS, auth="", extra=""):
        """A server whose alice has every secret, and whose boss may act as everybody."""
        one = self.serve_with(
            extra=f"[auth]\nmechanisms = {json.dumps(mechanisms)}\nfailure_delay_first_seconds = 0\n"
                  f"{auth}\n[pop3]\napop = true\n{extra}\n")
        one.fill(corpus.varied(2))
        return one

    def serve_with(self, **options):
        from harness import server
        one = server.make("maildir", **options)
        self.servers.append(one)
        one.add_users()
        one.tool("user", "passwd", "alice", "--secrets", SECRETS, stdin=PASSWORD + "\n")
        one.tool("user", "add", "boss", "--attributes", "proxy=all", stdin=PASSWORD + "\n")
        one.start()
        return one

    def logins(self, one, mechanism, user="alice"):
        """Good logins of that mechanism that the log has."""
        pattern = rf'login.*user="{user}".*mechanism="?{mechanism}"?\b(?!-)'
        return [l for l in one.log().splitlines()
                if re.search(pattern, l) and "login failed" not in l]

    # -- gsasl -----------------------------------------------------------------

    def gsasl(self, one, mechanism, protocol="imap", password=PASSWORD, user="alice", tls=True,
              options=()):
        argv = [self.need("gsasl"), f"--{protocol}", f"--connect=127.0.0.1:{one.ports[protocol]}",
                f"--mechanism={mechanism}", f"--authentication-id={user}", f"--password={password}",
                "--quality-of-protection=qop-auth", "--hostname=localhost", *options]
        argv += [f"--x509-ca-file={one.certificate}"] if tls else ["--no-starttls"]
        return proc.run(argv, stdin="", seconds=20, check=False)

    def test_gsasl_by_every_mechanism_that_it_has(self):
        one = self.site()
        for protocol in ("imap", "pop3"):
            if protocol == "pop3" and "--pop3" not in proc.run(
                    [self.need("gsasl"), "--help"]).stdout.decode():
                continue
            for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "SCRAM-SHA-1",
                              "SCRAM-SHA-256"):
                before = len(self.logins(one, mechanism))
                self.gsasl(one, mechanism, protocol, tls=False)
                self.assertEqual(len(self.logins(one, mechanism)), before + 1, mechanism)
                self.gsasl(one, mechanism, protocol, password="wrong", tls=False)
                self.assertEqual(len(self.logins(one, mechanism)), before + 1, mechanism)

    def test_gsasl_binds_to_the_channel(self):
        one = self.site()
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
            done = self.gsasl(one, mechanism)
            self.assertEqual(len(self.logins(one, mechanism)), 1,
                             (done.stdout + done.stderr)[-2000:])
        # Without -PLUS, from a client that could: it says `y`, and we had offered it.
        self.gsasl(one, "SCRAM-SHA-256", options=["--no-cb"])
        self.assertEqual(len(self.logins(one, "SCRAM-SHA-256")), 1)

    def test_gsasl_acts_as_somebody_else(self):
        one = self.site()
        self.gsasl(one, "SCRAM-SHA-256", user="boss", tls=False,
                   options=["--authorization-id=alice"])
        self.assertTrue(any("boss" in l for l in self.logins(one, "SCRAM-SHA-256", "alice")))
        self.gsasl(one, "SCRAM-SHA-256", user="alice", tls=False,
                   options=["--authorization-id=boss"])
        self.assertEqual(self.logins(one, "SCRAM-SHA-256", "boss"), [])

    # -- curl ------------------------------------------------------------------

    def curl(self, *arguments, user=f"alice:{PASSWORD}"):
        return proc.run([self.need("curl"), "-sS", "--max-time", "20", "--user", user, *arguments],
                        check=False)

    def test_curl_by_imap_and_pop3(self):
        one = self.site()
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5"):
            for url in ("imap://127.0.0.1:%d/INBOX;UID=1" % one.ports["imap"],
                        "pop3://127.0.0.1:%d/1" % one.ports["pop3"]):
                got = self.curl("--login-options", f"AUTH={mechanism}", url)
                self.assertIn(b"Subject: varied 0", got.stdout, (mechanism, url, got.stderr))
                bad = self.curl("--login-options", f"AUTH={mechanism}", url, user="alice:wrong")
                self.assertEqual(bad.returncode, 67, (mechanism, url, bad.stderr))
        got = self.curl("--login-options", "AUTH=+APOP", "pop3://127.0.0.1:%d/1" % one.ports["pop3"])
        self.assertIn(b"Subject: varied 0", got.stdout, got.stderr)
        self.assertEqual(len(self.logins(one, "APOP")), 1)

    def test_curl_with_a_client_certificate(self):
        make = proc.new_dir("ca")
        ca, ca_key = certificate(make, "authority")
        key, request, cert = make / "jo.key", make / "jo.csr", make / "jo.pem"
        proc.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-subj", "/CN=alice", "-keyout", key, "-out", request])
        # Without an extension it would be of version 1, which rustls refuses.
        extensions = make / "extensions"
        extensions.write_text("basicConstraints = CA:FALSE\n")
        proc.run(["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key,
                  "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", cert])
        one = self.site(["PLAIN"], 'certificate_field = "common-name"')
        text = one.config.read_text()
        one.stop()
        text = text.replace('mechanisms = ["PLAIN"]', 'mechanisms = ["PLAIN", "EXTERNAL"]')
        one.config.write_text(text.replace(
            "[tls]\n", f'[tls]\nclient_certificates = "optional"\nclient_ca = "{ca}"\n'))
        one.start()
        url = "imaps://localhost:%d/INBOX;UID=1" % one.ports["imaps"]
        trust = ["--cacert", str(one.certificate), "--login-options", "AUTH=EXTERNAL"]
        got = self.curl(*trust, "--cert", str(cert), "--key", str(key), url, user="alice:")
        self.assertIn(b"Subject: varied 0", got.stdout, got.stderr)
        self.assertEqual(len(self.logins(one, "EXTERNAL")), 1)
        self.assertEqual(self.curl(*trust, url, user="alice:").returncode, 67)

    def test_curl_with_bearer_tokens(self):
        make = proc.new_dir("jwt")
        key, public = make / "key.pem", make / "public.pem"
        proc.run(["openssl", "genrsa", "-out", key, "2048"])
        proc.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public])

        def token(**claims):
            head = url64(json.dumps({"alg": "RS256", "typ": "JWT"}).encode())
            body = url64(json.dumps({"iss": "https://issuer", "aud": "mail",
                                     "exp": int(time.time()) + 600, **claims}).encode())
            signed = proc.run(["openssl", "dgst", "-sha256", "-sign", key],
                              stdin=f"{head}.{body}").stdout
            return f"{head}.{body}.{url64(signed)}"

        one = self.site(["PLAIN", "OAUTHBEARER", "XOAUTH2"], extra=(
            f'[auth.oauth]\nkeys = "{public}"\nissuer = "https://issuer"\naudience = "mail"\n'))
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            for url in ("imap://127.0.0.1:%d/INBOX;UID=1" % one.ports["imap"],
                        "pop3://127.0.0.1:%d/1" % one.ports["pop3"]):
                options = ["--login-options", f"AUTH={mechanism}", "--oauth2-bearer"]
                got = self.curl(*options, token(email="alice"), url, user="alice:")
                self.assertIn(b"Subject: varied 0", got.stdout, (mechanism, url, got.stderr))
                for bad in (token(email="bob"), token(email="alice", aud="other"),
                            token(email="alice", exp=1), token(email="alice")[:-8] + "AAAAAAAA"):
                    self.assertEqual(self.curl(*options, bad, url, user="alice:").returncode, 67)

    # -- the others ------------------------------------------------------------

    def test_fetchmail_by_apop_and_cram_md5(self):
        one = self.site()
        for protocol, auth, mechanism in (("APOP", "", "APOP"), ("POP3", "auth cram-md5", "CRAM-MD5"),
                                          ("IMAP", "auth cram-md5", "CRAM-MD5")):
            home = proc.new_dir("fm")
            out, rc = home / "mbox", home / "rc"
            port = one.ports["imap" if protocol == "IMAP" else "pop3"]
            rc.write_text(f'poll localhost protocol {protocol} service {port} {auth}\n'
                          f'  user "alice" password "{PASSWORD}" fetchall keep\n  sslproto \'\'\n'
                          f'  mda "cat >> {out}; echo >> {out}"\n')
            rc.chmod(0o600)
            before = len(self.logins(one, mechanism))
            done = proc.run([self.need("fetchmail"), "-f", rc, "-v", "--nosyslog",
                             "--pidfile", home / "pid", "-i", home / "ids"],
                            env={"FETCHMAILHOME": str(home), "HOME": str(home)}, check=False)
            self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-3000:])
            self.assertEqual(out.read_bytes().count(b"Subject: varied"), 2, protocol)
            self.assertEqual(len(self.logins(one, mechanism)), before + 1, protocol)

    def test_mutt_by_its_mechanisms(self):
        one = self.site()
        program = self.need("mutt")
        for mechanism in ("CRAM-MD5", "SCRAM-SHA-1", "PLAIN", "LOGIN"):
            home = proc.new_dir("mu")
            (home / "rc").write_text(
                f'set spoolfile = "imap://alice@127.0.0.1:{one.ports["imap"]}/INBOX"\n'
                f'set imap_user = "alice"\nset imap_pass = "{PASSWORD}"\n'
                f'set imap_authenticators = "{mechanism.lower()}"\n'
                'set ssl_force_tls = no\nset ssl_starttls = no\nset quit = yes\n'
                f'set folder = "{home}"\n'
                'set header_cache = ""\npush "<first-entry><quit>"\n')
            before = len(self.logins(one, mechanism))
            terminal = Terminal([program, "-n", "-F", str(home / "rc")],
                                {"TERM": "xterm", "HOME": str(home)}, home / "screen")
            self.assertEqual(terminal.finish(20), 0, (home / "screen").read_bytes()[-2000:])
            self.assertEqual(len(self.logins(one, mechanism)), before + 1,
                             (mechanism, (home / "screen").read_bytes()[-2000:]))

    def test_mpop_by_its_mechanisms(self):
        one = self.site()
        for auth, mechanism in (("apop", "APOP"), ("cram-md5", "CRAM-MD5"),
                                ("digest-md5", "DIGEST-MD5"), ("scram-sha-1", "SCRAM-SHA-1"),
                                ("scram-sha-256", "SCRAM-SHA-256")):
            before = len(self.logins(one, mechanism))
            done = proc.run(
                [self.need("mpop"), "--host=127.0.0.1",
                 f"--port={one.ports['pop3']}", "--user=alice", f"--passwordeval=echo '{PASSWORD}'",
                 f"--auth={auth}", "--tls=off", "--keep=on", "--received-header=off",
                 f"--uidls-file={proc.new_dir('mp') / 'uidls'}", "--deliver=mbox,/dev/null"],
                check=False, seconds=30)
            if b"not supported" in done.stderr + done.stdout and b"library" in done.stderr:
                continue
            self.assertEqual(len(self.logins(one, mechanism)), before + 1,
                             (auth, done.stdout[-800:], done.stderr[-800:]))

    def test_pythons_imaplib_and_poplib(self):
        one = self.site()
        trust = ssl.create_default_context(cafile=str(one.certificate))
        client = imaplib.IMAP4_SSL("localhost", one.ports["imaps"], ssl_context=trust, timeout=20)
        self.assertEqual(client.login_cram_md5("alice", PASSWORD)[0], "OK")
        client.logout()
        client = imaplib.IMAP4("127.0.0.1", one.ports["imap"], timeout=20)

        def cram(kind):
            def answer(challenge):
                return "alice " + hmac.new(PASSWORD.encode(), challenge, kind).hexdigest()
            return answer

        self.assertEqual(client.authenticate("CRAM-SHA256", cram(hashlib.sha256))[0], "OK")
        client.logout()
        client = imaplib.IMAP4("127.0.0.1", one.ports["imap"], timeout=20)
        plain = lambda _: f"alice\0boss\0{PASSWORD}".encode()
        self.assertEqual(client.authenticate("PLAIN", plain)[0], "OK")
        self.assertEqual(client.select("INBOX")[1], [b"2"])
        client.logout()
        pop = poplib.POP3("127.0.0.1", one.ports["pop3"], timeout=20)
        pop.apop("alice", PASSWORD)
        self.assertEqual(pop.stat()[0], 2)
        pop.quit()
        pop = poplib.POP3("127.0.0.1", one.ports["pop3"], timeout=20)
        with self.assertRaises(poplib.error_proto):
            pop.apop("alice", "wrong")
        pop.close()
        pop = poplib.POP3("127.0.0.1", one.ports["pop3"], timeout=20)
        self.assertTrue(pop.utf8().startswith(b"+OK"))
        pop.close()

    def test_perls_authen_sasl(self):
        one = self.site()
        for mechanism in ("CRAM-MD5", "DIGEST-MD5", "PLAIN"):
            script = f"""
                use Mail::IMAPClient;
                my $c = Mail::IMAPClient->new(Server => '127.0.0.1', Port => {one.ports['imap']},
                    User => 'alice', Password => '{PASSWORD}', Authmechanism => '{mechanism}')
                    or die $@;
                die $c->LastError unless $c->IsAuthenticated;
                print $c->message_count('INBOX');
            """
            done = proc.run([self.need("perl"), "-e", script], check=False)
            if b"Can't locate" in done.stderr:
                self.skipTest("Perl's Mail::IMAPClient or Authen::SASL is not installed")
            self.assertEqual(done.stdout, b"2", (mechanism, done.stderr[-1500:]))


if __name__ == "__main__":
    import unittest
    unittest.main()
