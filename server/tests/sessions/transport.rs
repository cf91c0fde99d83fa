//! What lies below IMAP sessions: COMPRESS (RFC 4978), TLS, UNAUTHENTICATE (RFC 8437), ID
//! (RFC 2971), ENABLE (RFC 5161). The same script gives the same answers on each, cut anywhere.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::site::imap::{assert_lines, without_large_numbers};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

const LOGIN: &str = "l LOGIN jo geheim\r\n";

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, |_| {})
}

/// A client that may put TLS and compression under what it says.
struct Client {
    stream: UnixStream,
    tls: Option<rustls::ClientConnection>,
    squeeze: Option<(Deflate, Inflate)>,
    /// Plain text that was read and not yet taken.
    read: String,
}

impl Client {
    fn connect(site: &Site) -> Client {
        Client { stream: site.connect(), tls: None, squeeze: None, read: String::new() }
    }

    /// What goes over the wire for `text`.
    fn wire(&mut self, text: &[u8], flush: DeflateFlush) -> Vec<u8> {
        let mut bytes = text.to_vec();
        if let Some((deflate, _)) = &mut self.squeeze {
            let before = deflate.total_out();
            bytes = vec![0; text.len() * 2 + 64];
            deflate.compress(text, &mut bytes, flush).unwrap();
            bytes.truncate((deflate.total_out() - before) as usize);
        }
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&bytes).unwrap();
            bytes.clear();
            while tls.wants_write() {
                tls.write_tls(&mut bytes).unwrap();
            }
        }
        bytes
    }

    async fn send_wire(&mut self, wire: &[u8]) {
        match self.stream.write_all(wire).await {
            Err(error) if is_over(&error) => {}
            done => done.unwrap(),
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    async fn send(&mut self, text: &str) {
        let wire = self.wire(text.as_bytes(), DeflateFlush::SyncFlush);
        self.send_wire(&wire).await;
    }

    /// Reads something; `false` at the end.
    async fn read_some(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut buffer));
        let n = match read.await.unwrap_or_else(|_| panic!("hangs behind {:?}", self.read)) {
            Err(error) if is_over(&error) => 0,
            n => n.unwrap(),
        };
        let mut bytes = buffer[..n].to_vec();
        if let Some(tls) = &mut self.tls {
            let mut wire = &buffer[..n];
            bytes.clear();
            while !wire.is_empty() {
                tls.read_tls(&mut wire).unwrap();
                tls.process_new_packets().unwrap();
                let mut plain = [0; 16 << 10];
                while let Ok(n @ 1..) = tls.reader().read(&mut plain) {
                    bytes.extend_from_slice(&plain[..n]);
                }
            }
        }
        if let Some((_, inflate)) = &mut self.squeeze {
            let (mut out, taken, made) =
                (vec![0; 1 << 20], inflate.total_in(), inflate.total_out());
            let mut ended = false;
            if !bytes.is_empty() {
                let status = inflate.decompress(&bytes, &mut out, InflateFlush::NoFlush).unwrap();
                ended = status == Status::StreamEnd;
            }
            out.truncate((inflate.total_out() - made) as usize);
            if ended {
                // What follows the end is plain.
                out.extend_from_slice(&bytes[(inflate.total_in() - taken) as usize..]);
                self.squeeze = None;
            }
            bytes = out;
        }
        self.read.push_str(&String::from_utf8(bytes).unwrap());
        n > 0
    }

    /// Reads up to and with `end`.
    async fn until(&mut self, end: &str) -> String {
        while !self.read.contains(end) {
            assert!(self.read_some().await, "closed before {end:?}: {:?}", self.read);
        }
        let at = self.read.find(end).unwrap() + end.len();
        let rest = self.read.split_off(at);
        std::mem::replace(&mut self.read, rest)
    }

    async fn rest(mut self) -> String {
        while self.read_some().await {}
        self.read
    }

    async fn login(&mut self) {
        self.send(LOGIN).await;
        self.until("Logged in\r\n").await;
    }

    async fn compress(&mut self) {
        self.send("z COMPRESS DEFLATE\r\n").await;
        let said = self.until("z OK DEFLATE active\r\n").await;
        assert!(self.read.is_empty(), "{said}{}", self.read);
        self.squeeze = Some((Deflate::new(6, false, 15), Inflate::new(false, 15)));
    }

    async fn start_tls(&mut self, site: &Site) {
        self.send("t STARTTLS\r\n").await;
        self.until("t OK Begin TLS\r\n").await;
        let mut roots = rustls::RootCertStore::empty();
        let file = site.services.config().state_dir.join("self-signed.crt");
        roots.add(rustls_pki_types::CertificateDer::from_pem_file(file).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        self.tls = Some(rustls::ClientConnection::new(Arc::new(config), name).unwrap());
        while self.tls.as_ref().unwrap().is_handshaking() {
            let wire = self.wire(b"", DeflateFlush::NoFlush);
            self.send_wire(&wire).await;
            if self.tls.as_ref().unwrap().is_handshaking() {
                self.read_some().await;
            }
        }
        let wire = self.wire(b"", DeflateFlush::NoFlush);
        self.send_wire(&wire).await;
    }
}

/// The server has closed, before it read all of what stands behind a LOGOUT: the end of the
/// compressed piece or of the TLS record that it came in. What it said comes whole all the same.
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What the operator finds in `telemetry.dir` has neither layer, and no login.
#[test]
fn transcripts_are_of_what_was_said_below_tls_and_compression() {
    on_a_core(|layout| async move {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("jo")).unwrap();
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.telemetry.dir = dir.path().to_owned();
            config.imap.unauthenticate = true;
        });
        let mut client = Client::connect(&site);
        client.start_tls(&site).await;
        client.login().await;
        client.compress().await;
        let message = "body\r\n".repeat(20_000);
        let length = message.len();
        client.send(&format!("1 APPEND INBOX {{{length}+}}\r\n{message}\r\n")).await;
        client.until("1 OK").await;
        client.send("2 SELECT INBOX\r\n3 FETCH 1 BODY.PEEK[]\r\n").await;
        client.until("3 OK").await;
        client.send("4 UNAUTHENTICATE\r\n").await;
        client.until("4 OK").await;
        client.send("5 LOGIN mo@example.org geheim\r\n6 NOOP\r\n").await;
        client.until("6 OK").await;
        let text = crate::telemetry::transcript(dir.path(), "jo", "4 OK").await;
        for said in ["<1 APPEND INBOX {", "\r\n3 OK ", "<4 UNAUTHENTICATE\r\n"] {
            assert!(text.contains(said), "{said}");
        }
        assert_eq!(text.matches("body\r\n").count(), 40_000);
        assert!(text.contains("z COMPRESS DEFLATE\r\n"), "no compressed bytes are in it");
        for other in ["l LOGIN", "geheim", "example.org", "STARTTLS", "NOOP"] {
            assert!(!text.contains(other), "{other}");
        }
    });
}

/// Without the lines with a mailbox's id, which differs from run to run.
fn without_ids(said: &str) -> String {
    let lines = said.split("\r\n").filter(|line| !line.contains("[MAILBOXID "));
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Plain, TLS, compressed, and compressed within TLS: one script, its bytes on the wire cut at each
/// place (plain and compressed) or at many (TLS), and alone.
#[test]
fn every_transport_gives_the_same_answers_cut_anywhere() {
    let script = "1 CREATE x\r\n2 SELECT x\r\n3 APPEND x (\\Seen) {9+}\r\na: b\r\n\r\nc {9+}\r\n\
                  d: e\r\n\r\nf\r\n4 FETCH 1:2 (UID BODY[]<5.9>)\r\n5 STORE 1 +FLAGS (\\Deleted)\r\n\
                  6 IDLE\r\nDONE\r\n7 EXPUNGE\r\n8 x\r\n9 DELETE x\r\n10 LOGOUT\r\n";
    on_a_core(|layout| async move {
        let site = imap(layout);
        let mut plain: Option<String> = None;
        for (tls, squeeze) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut cuts = vec![0];
            let mut done = 0;
            while done < cuts.len() {
                let cut = cuts[done];
                done += 1;
                let mut client = Client::connect(&site);
                if tls {
                    client.start_tls(&site).await;
                }
                client.login().await;
                if squeeze {
                    client.compress().await;
                }
                let wire = client.wire(script.as_bytes(), DeflateFlush::SyncFlush);
                if cut == 0 {
                    // TLS hides what it carries: a cut in each part of a record is enough.
                    let step = if tls { 23 } else { 1 };
                    cuts.extend((1..wire.len()).step_by(step));
                    cuts.push(usize::MAX);
                }
                if cut == usize::MAX {
                    for byte in wire.chunks(1) {
                        client.send_wire(byte).await;
                    }
                } else {
                    client.send_wire(&wire[..cut]).await;
                    client.send_wire(&wire[cut..]).await;
                }
                let said = without_ids(&without_large_numbers(&client.rest().await));
                let plain = plain.get_or_insert_with(|| said.clone());
                assert_eq!(&said, plain, "TLS {tls}, compressed {squeeze}, cut at {cut}");
            }
        }
        assert_lines(
            &plain.unwrap_or_default(),
            &["2 OK", "3 OK [APPENDUID N 1:2]", "* 1 FETCH", "6 OK", "* 1 EXPUNGE", "10 OK"],
        );
    });
}

/// RFC 4978 section 3.
#[test]
fn compress_is_agreed_once_and_only_deflate() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let mut client = Client::connect(&site);
        client.send("0 COMPRESS DEFLATE\r\n").await;
        client.until("0 BAD Log in first\r\n").await;
        client.login().await;
        client.send("1 CAPABILITY\r\n2 COMPRESS LZW\r\n").await;
        assert!(client.until("1 OK").await.contains(" COMPRESS=DEFLATE "));
        client.until("2 BAD Unknown compression\r\n").await;
        client.compress().await;
        client.send("3 CAPABILITY\r\n4 COMPRESS DEFLATE\r\n").await;
        assert!(!client.until("3 OK").await.contains("COMPRESS="));
        client.until("4 BAD [COMPRESSIONACTIVE] DEFLATE is active\r\n").await;
        // What comes along with the command was not compressed: nobody says for whom it was.
        let mut hasty = Client::connect(&site);
        hasty.login().await;
        hasty.send("1 COMPRESS DEFLATE\r\n2 NOOP\r\n").await;
        assert!(!hasty.rest().await.contains("2 OK"));
        let site = Site::new(Protocol::Imap, layout, |config| config.imap.compress_level = 0);
        let mut client = Client::connect(&site);
        client.login().await;
        client.send("1 CAPABILITY\r\n2 COMPRESS DEFLATE\r\n").await;
        assert!(!client.until("1 OK").await.contains("COMPRESS"));
        client.until("2 BAD Unknown compression\r\n").await;
    });
}

/// RFC 8437: everything but TLS starts anew, and the next login may be pipelined.
#[test]
fn unauthenticate_forgets_the_user_and_what_was_enabled() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.store("jo", "INBOX", "Subject: x\r\n\r\nx\r\n").await;
        for squeeze in [false, true] {
            let mut client = Client::connect(&site);
            client.start_tls(&site).await;
            client.send("0 UNAUTHENTICATE\r\n").await;
            client.until("0 BAD Log in first\r\n").await;
            client.login().await;
            if squeeze {
                client.compress().await;
            }
            client.send("1 ENABLE IMAP4rev2 CONDSTORE\r\n2 SELECT INBOX\r\n").await;
            client.until("2 OK").await;
            client.send("3 SEARCH RETURN (SAVE) ALL\r\n").await;
            client.until("3 OK").await;
            let mut wire = client.wire(b"4 UNAUTHENTICATE\r\n", DeflateFlush::SyncFlush);
            let squeezed = client.squeeze.take();
            let next = "5 NOOP\r\n6 FETCH 1 FLAGS\r\n\
                        7 AUTHENTICATE PLAIN AG1vQGV4YW1wbGUub3JnAGdlaGVpbQ==\r\n";
            wire.extend(client.wire(next.as_bytes(), DeflateFlush::NoFlush));
            client.squeeze = squeezed;
            client.send_wire(&wire).await;
            let said = client.until("7 OK [CAPABILITY ").await;
            assert_lines(&said, &["4 OK ", "5 OK", "6 BAD Log in first", "7 OK [CAPABILITY "]);
            client.send("8 SELECT INBOX\r\n9 SEARCH $\r\n").await;
            let said = client.until("9 OK").await;
            // Another user's mailbox, and rev1's answers.
            assert_lines(&said, &["* 0 EXISTS", "* 0 RECENT", "8 OK", "* SEARCH"]);
            assert!(!said.contains("CLOSED"), "{said}");
        }
        let site = Site::new(Protocol::Imap, layout, |config| config.imap.unauthenticate = false);
        let said = site.say(&format!("{LOGIN}1 UNAUTHENTICATE\r\n2 NAMESPACE\r\n")).await;
        assert!(!said.contains(" UNAUTHENTICATE") && said.contains("2 OK"), "{said}");
        assert_lines(&said, &["1 BAD Unknown command"]);
    });
}

/// RFC 2221 section 4.1, RFC 2193 section 5.
#[test]
fn a_user_of_another_server_is_sent_there_once_the_password_is_right() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = site
            .say(
                "1 LOGIN away nein\r\n2 LOGIN away geheim\r\n\
                 3 AUTHENTICATE PLAIN AGF3YXkAZ2VoZWlt\r\n4 SELECT INBOX\r\n\
                 5 LOGIN jo geheim\r\n6 RLIST \"\" %\r\n7 SUBSCRIBE INBOX\r\n8 RLSUB \"\" *\r\n",
            )
            .await;
        let referral = "NO [REFERRAL imap://away;AUTH=*@other.example.org/] ";
        assert_lines(
            &said,
            &[
                "* OK [CAPABILITY ",
                "1 NO [AUTHENTICATIONFAILED]",
                &format!("2 {referral}"),
                &format!("3 {referral}"),
                "4 BAD Log in first",
                "5 OK",
                "* LIST (\\HasNoChildren) \"/\" INBOX",
                "6 OK",
                "* LSUB () \"/\" INBOX",
                "8 OK",
            ],
        );
        assert!(said.contains(" LOGIN-REFERRALS "), "{said}");
    });
}

/// RFC 5255 section 3.2.
#[test]
fn texts_are_told_in_the_language_that_is_asked_for() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let script = "A002 LANGUAGE MUL\r\nA003 LANGUAGE\r\nC001 LANGUAGE DE\r\n\
                      D001 LANGUAGE FR\r\nD002 LANGUAGE DE-IT\r\nD003 LANGUAGE \"default\"\r\n\
                      E001 LANGUAGE FR-CA EN-CA\r\nF001 LOGIN jo geheim\r\n\
                      F002 LANGUAGE de\r\nF003 SELECT INBOX\r\nF004 UNAUTHENTICATE\r\n\
                      F005 SELECT INBOX\r\n";
        let said = site.say(script).await;
        assert_lines(
            &said,
            &[
                "A002 NO Language is not spoken here",
                "* LANGUAGE (en de i-default)",
                "A003 OK",
                "* LANGUAGE (de)",
                "C001 OK Sprache gewechselt",
                "D001 NO Diese Sprache wird nicht gesprochen",
                "* LANGUAGE (de)",
                "D002 OK Sprache gewechselt",
                "* LANGUAGE (i-default)",
                "D003 OK Language changed",
                "* LANGUAGE (en)",
                "E001 OK Language changed",
                "F001 OK [CAPABILITY ",
                "* LANGUAGE (de)",
                "* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\" \"TRANSLATION\" \
                 (\"Andere Benutzer/\"))) ",
                "F002 OK Sprache gewechselt",
                "F003 OK [READ-WRITE] Ausgewählt",
                "F004 OK",
                "F005 BAD Log in first",
            ],
        );
    });
}

/// RFC 2971 section 3.
#[test]
fn id_tells_what_is_set() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let said = site
            .say(
                "a023 ID (\"name\" \"sodr\" \"version\" \"19.34\" \"vendor\" \"Pink Floyd Music\")\r\n\
                 a042 ID NIL\r\n",
            )
            .await;
        let line =
            format!("* ID (\"name\" \"Cursus\" \"version\" \"{}\")", env!("CARGO_PKG_VERSION"));
        assert_lines(&said, &[&line, "a023 OK", &line, "a042 OK"]);
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.imap.id = config::ImapId {
                name: String::new(),
                version: String::new(),
                support_url: "mailto:cyrus-bugs+@andrew.cmu.edu".into(),
                ..config.imap.id.clone()
            };
        });
        let said = site.say("1 ID NIL\r\n").await;
        assert_lines(
            &said,
            &["* ID (\"support-url\" \"mailto:cyrus-bugs+@andrew.cmu.edu\")", "1 OK"],
        );
        let site = Site::new(Protocol::Imap, layout, |config| {
            config.imap.id.name.clear();
            config.imap.id.version.clear();
        });
        assert_lines(&site.say("1 ID NIL\r\n").await, &["* ID NIL", "1 OK"]);
    });
}
