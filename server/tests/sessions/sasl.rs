//! Logins by every mechanism, through IMAP and POP3.

use std::sync::Arc;

use crate::site::{PASSWORD, Site, on_a_core};
use auth::Mechanism;
use auth::hash::{HashKind, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use config::{CertificateField, ClientCertificates, LayoutKind, Protocol, SaslMechanism, TlsMode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// All that can work without a certificate or a token.
fn open(config: &mut config::Config) {
    config.auth.mechanisms = SaslMechanism::ALL
        .into_iter()
        .filter(|m| {
            let name = m.as_str();
            name != "EXTERNAL" && !name.contains("OAUTH") && name != "XOAUTH2"
        })
        .collect();
    config.auth.anonymous_user = "guest".into();
    config.auth.master_separator = "*".into();
    config.auth.realm = "here".into();
}

fn imap(layout: LayoutKind) -> Site {
    Site::new(Protocol::Imap, layout, open)
}

/// A client that speaks line by line.
struct Talk<S> {
    stream: BufReader<S>,
    protocol: Protocol,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn new(stream: S, protocol: Protocol, greeted: bool) -> Talk<S> {
        let mut talk = Talk { stream: BufReader::new(stream), protocol };
        if greeted {
            talk.line().await;
        }
        talk
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    }

    async fn begin(&mut self, mechanism: &str) {
        match self.protocol {
            Protocol::Pop3 => self.send(&format!("AUTH {mechanism}")).await,
            _ => self.send(&format!("a AUTHENTICATE {mechanism}")).await,
        }
    }

    /// A challenge, decoded; `Err`: the end, and what was said.
    async fn challenge(&mut self) -> Result<Vec<u8>, String> {
        let line = self.line().await;
        match line.strip_prefix("+ ").or_else(|| (line == "+").then_some("")) {
            Some(text) => Ok(BASE64.decode(text).unwrap()),
            None => Err(line),
        }
    }

    async fn respond(&mut self, response: impl AsRef<[u8]>) {
        self.send(&BASE64.encode(response)).await;
    }
}

/// Whether the last line of an exchange says yes.
fn is_good(line: &str) -> bool {
    line.starts_with("+OK") || line.starts_with("a OK")
}

/// A whole SCRAM exchange; gives the last line.
async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut Talk<S>,
    hash: HashKind,
    head: &str,
    bound: &[u8],
    user: &str,
) -> String {
    let name = Mechanism::Scram { hash, plus: head.starts_with('p') }.name();
    talk.begin(name).await;
    match talk.challenge().await {
        Ok(empty) => assert!(empty.is_empty()),
        Err(line) => return line,
    }
    let bare = format!("n={user},r=abc");
    talk.respond(format!("{head}{bare}")).await;
    let first = match talk.challenge().await {
        Ok(first) => String::from_utf8(first).unwrap(),
        Err(line) => return line,
    };
    let field = |p: &str| first.split(',').find_map(|f| f.strip_prefix(p)).unwrap().to_owned();
    let (nonce, rounds) = (field("r="), field("i=").parse().unwrap());
    let salt = BASE64.decode(field("s=")).unwrap();
    let key = hash.hmac(&hash.pbkdf2(PASSWORD.as_bytes(), &salt, rounds), b"Client Key");
    let without = format!("c={},r={nonce}", BASE64.encode([head.as_bytes(), bound].concat()));
    let all = format!("{bare},{first},{without}");
    let signature = hash.hmac(&hash.digest(&key), all.as_bytes());
    let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    talk.respond(format!("{without},p={}", BASE64.encode(proof))).await;
    match talk.challenge().await {
        Ok(last) => {
            assert!(last.starts_with(b"v="));
            talk.respond("").await;
            talk.line().await
        }
        Err(line) => line,
    }
}

async fn cram<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut Talk<S>,
    hash: HashKind,
    user: &str,
) -> String {
    talk.begin(Mechanism::Cram(hash).name()).await;
    let challenge = talk.challenge().await.unwrap();
    let mac = hex(&hash.hmac(PASSWORD.as_bytes(), &challenge));
    talk.respond(format!("{user} {mac}")).await;
    talk.line().await
}

#[test]
fn challenges_work_in_both_protocols() {
    on_a_core(|layout| async move {
        for protocol in [Protocol::Imap, Protocol::Pop3] {
            let site = Site::new(protocol, layout, open);
            let talk = async || Talk::new(site.connect(), protocol, true).await;
            for hash in [HashKind::Md5, HashKind::Sha1, HashKind::Sha256] {
                assert!(is_good(&cram(&mut talk().await, hash, "jo").await), "{hash:?}");
                assert!(!is_good(&cram(&mut talk().await, hash, "nobody").await), "{hash:?}");
                let last = cram(&mut talk().await, hash, "jo*boss").await;
                assert!(is_good(&last), "{hash:?}: {last}");
                let last = cram(&mut talk().await, hash, "boss*jo").await;
                assert!(!is_good(&last), "{hash:?}: {last}");
            }
            let last = scram(&mut talk().await, HashKind::Sha256, "n,,", b"", "jo").await;
            assert!(is_good(&last), "{last}");
            let last = scram(&mut talk().await, HashKind::Sha256, "n,a=jo,", b"", "boss").await;
            assert!(is_good(&last), "{last}");
            // `jo` has no key for SHA-1, and nobody is told.
            for user in ["jo", "nobody"] {
                let last = scram(&mut talk().await, HashKind::Sha1, "n,,", b"", user).await;
                assert!(last.contains("[AUTH"), "{last}");
            }
            let mut talk = talk().await;
            talk.begin("SCRAM-SHA-256-PLUS").await;
            let said = talk.line().await;
            assert!(!is_good(&said), "no channel to bind to: {said}");
        }
    });
}

#[test]
fn what_is_not_set_is_not_offered() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.auth.mechanisms = vec![SaslMechanism::Plain];
        });
        let said = site.say("a CAPABILITY\r\nb AUTHENTICATE CRAM-MD5\r\nc LOGOUT\r\n").await;
        assert_eq!(said.matches("AUTH=").count(), 2, "greeting and answer: {said}");
        assert!(said.contains("AUTH=PLAIN") && said.contains("\r\nb NO [CANNOT]"), "{said}");
        let said = imap(layout).say("a CAPABILITY\r\nc LOGOUT\r\n").await;
        for name in ["CRAM-MD5", "CRAM-SHA1", "CRAM-SHA256", "DIGEST-MD5", "SCRAM-SHA-512"] {
            assert!(said.contains(&format!("AUTH={name}")), "{name}: {said}");
        }
        assert!(!said.contains("PLUS") && !said.contains("EXTERNAL"), "{said}");
    });
}

#[test]
fn options_of_users_hold() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        let login = async |user: &str| {
            site.say(&format!("a LOGIN \"{user}\" geheim\r\nb LOGOUT\r\n")).await
        };
        assert!(login("drop").await.contains("a NO [AUTHORIZATIONFAILED]"));
        assert!(login("web").await.contains("a OK"));
        assert!(login("web*boss").await.contains("a OK"));
        assert!(login("drop*boss").await.contains("a NO [AUTHORIZATIONFAILED]"));
        let pop = Site::new(Protocol::Pop3, layout, open);
        let said = pop.say("USER web\r\nPASS geheim\r\nQUIT\r\n").await;
        assert!(said.contains("-ERR [AUTH] this account is disabled"), "{said}");
        assert!(pop.say("USER drop\r\nPASS geheim\r\nQUIT\r\n").await.contains("+OK 0 messages"));
    });
}

#[test]
fn an_anonymous_client_reads_and_changes_nothing() {
    on_a_core(|layout| async move {
        const MESSAGE: &str = "Subject: public\r\n\r\nHello.\r\n";
        let site = imap(layout);
        site.store("guest", "INBOX", MESSAGE).await;
        // The trace of RFC 4505's example.
        let said = site
            .say(
                "a AUTHENTICATE ANONYMOUS c2lyaGM=\r\nb SELECT INBOX\r\nc FETCH 1 BODY[]\r\n\
                 d STORE 1 FLAGS \\Deleted\r\ne EXPUNGE\r\nf CREATE x\r\n\
                 g APPEND INBOX {3+}\r\nx\r\n\r\nh SUBSCRIBE INBOX\r\ni COPY 1 INBOX\r\n\
                 j DELETE INBOX\r\nm SORT (DATE) UTF-8 ALL\r\nn THREAD REFERENCES UTF-8 ALL\r\n\
                 o ESEARCH IN (inboxes) ALL\r\np GETACL INBOX\r\nk CLOSE\r\nl LOGOUT\r\n",
            )
            .await;
        assert!(said.contains("\r\nb OK [READ-ONLY]"), "{said}");
        assert!(said.contains("Hello."), "{said}");
        let view = site.user("guest").await.mailbox("INBOX").await.unwrap().view();
        let flags = view.record(protocol::types::SeqNum(1)).unwrap().flags;
        assert!(!flags.contains(protocol::types::SystemFlags::SEEN), "reading leaves it unseen");
        for tag in ["d", "e", "f", "g", "h", "i", "j"] {
            assert!(said.contains(&format!("\r\n{tag} NO [NOPERM]")), "{tag}: {said}");
        }
        for line in ["* SORT 1", "* THREAD (1)", "o OK", "* ACL INBOX", "k OK"] {
            assert!(said.contains(&format!("\r\n{line}")), "{line}: {said}");
        }
        assert_eq!(site.messages("guest", "INBOX").await, [MESSAGE]);
        let pop = Site::new(Protocol::Pop3, layout, open);
        pop.store("guest", "INBOX", MESSAGE).await;
        let said = pop.say("AUTH ANONYMOUS c2lyaGM=\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n").await;
        assert!(said.contains("Hello.") && said.contains("-ERR this login can read"), "{said}");
        assert_eq!(pop.messages("guest", "INBOX").await, [MESSAGE]);
    });
}

/// A TLS client over a session of `site`, after STARTTLS; with a certificate of its own if one is
/// given.
async fn over_tls(
    site: &Site,
    versions: &[&'static rustls::SupportedProtocolVersion],
    own: Option<(&rcgen::Certificate, &rcgen::KeyPair)>,
) -> tokio_rustls::client::TlsStream<tokio::net::UnixStream> {
    let stream = site.connect();
    let mut talk = Talk::new(stream, Protocol::Imap, true).await;
    talk.send("a STARTTLS").await;
    assert!(is_good(&talk.line().await));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.path().join("self-signed.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = "localhost".try_into().unwrap();
    connector.connect(name, talk.stream.into_inner()).await.unwrap()
}

#[test]
fn scram_plus_binds_to_the_connection() {
    on_a_core(|layout| async move {
        let site = imap(layout);
        site.listener(|l| l.tls = TlsMode::Starttls);
        let certificate =
            CertificateDer::from_pem_file(site.path().join("self-signed.crt")).unwrap();
        let end_point = HashKind::Sha256.digest(&certificate);
        let hash = HashKind::Sha256;
        let exported = |stream: &tokio_rustls::client::TlsStream<_>| {
            let label = b"EXPORTER-Channel-Binding";
            stream.get_ref().1.export_keying_material([0u8; 32], label, None).unwrap()
        };
        for (head, good) in [
            ("p=tls-exporter,,", true),
            ("p=tls-server-end-point,,", true),
            ("p=tls-unique,,", false),
            ("n,,", true),
            // We offer -PLUS: a client that believes otherwise was shown another list.
            ("y,,", false),
        ] {
            let stream = over_tls(&site, &[&rustls::version::TLS13], None).await;
            let bound = match head {
                "p=tls-exporter,," => exported(&stream).to_vec(),
                "p=tls-server-end-point,," => end_point.clone(),
                "p=tls-unique,," => vec![1; 12],
                _ => Vec::new(),
            };
            let mut talk = Talk::new(stream, Protocol::Imap, false).await;
            talk.send("c CAPABILITY").await;
            assert!(talk.line().await.contains("AUTH=SCRAM-SHA-256-PLUS"));
            talk.line().await;
            let last = scram(&mut talk, hash, head, &bound, "jo").await;
            assert_eq!(is_good(&last), good, "{head}: {last}");
        }
        // The binding of another connection: somebody stands between.
        let other = exported(&over_tls(&site, &[&rustls::version::TLS13], None).await);
        let stream = over_tls(&site, &[&rustls::version::TLS13], None).await;
        let mut talk = Talk::new(stream, Protocol::Imap, false).await;
        let last = scram(&mut talk, hash, "p=tls-exporter,,", &other, "jo").await;
        assert!(last.contains("[AUTHENTICATIONFAILED]"), "{last}");
        // TLS 1.2 has no exporter that both sides know: nothing is offered, and `y` is the truth.
        let stream = over_tls(&site, &[&rustls::version::TLS12], None).await;
        let mut talk = Talk::new(stream, Protocol::Imap, false).await;
        talk.send("c CAPABILITY").await;
        assert!(!talk.line().await.contains("PLUS"));
        talk.line().await;
        let last = scram(&mut talk, hash, "y,,", b"", "jo").await;
        assert!(is_good(&last), "{last}");
    });
}

#[test]
fn a_client_certificate_logs_in() {
    on_a_core(|layout| async move {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, authority_key);
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let site = Site::new(Protocol::Imap, layout, |c| {
            c.tls.client_ca = Some(ca);
            c.tls.client_certificates = ClientCertificates::Optional;
            c.auth.certificate_field = CertificateField::CommonName;
            c.auth.mechanisms.push(SaslMechanism::External);
        });
        site.listener(|l| l.tls = TlsMode::Starttls);
        let key = rcgen::KeyPair::generate().unwrap();
        let of = |name: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.signed_by(&key, &issuer).unwrap()
        };
        for (name, authzid, good) in
            [("jo", "", true), ("boss", "jo", true), ("jo", "boss", false), ("nobody", "", false)]
        {
            let own = of(name);
            let stream = over_tls(&site, rustls::ALL_VERSIONS, Some((&own, &key))).await;
            let mut talk = Talk::new(stream, Protocol::Imap, false).await;
            let initial = match authzid {
                "" => "=".to_owned(),
                name => BASE64.encode(name),
            };
            talk.begin(&format!("EXTERNAL {initial}")).await;
            let last = talk.line().await;
            assert_eq!(is_good(&last), good, "{name} as {authzid:?}: {last}");
        }
        let stream = over_tls(&site, rustls::ALL_VERSIONS, None).await;
        let mut talk = Talk::new(stream, Protocol::Imap, false).await;
        talk.begin("EXTERNAL =").await;
        assert!(talk.line().await.contains("NO [CANNOT]"), "without a certificate");
    });
}
