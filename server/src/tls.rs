//! Certificates, and the TLS settings that all connections share.
//!
//! Invariants: TLS 1.2 and 1.3 only; one ticketer for the life of the process, so resumption
//! survives a reload; a reload either replaces everything or changes nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use config::{ClientCertificates, Config, Protocol, TlsVersion};
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::certificate;

/// The self-signed pair in `state_dir`, used where the configuration names none.
const SELF_SIGNED_CERTIFICATE: &str = "self-signed.crt";
const SELF_SIGNED_KEY: &str = "self-signed.key";

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file doesn't hold what it should.
    #[error("{}: {found}, expected {expected}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// Certificate and key were read but don't work.
    #[error("{} with {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls's reason.
        source: rustls::Error,
    },
    /// A self-signed certificate can't be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(String),
}

/// What a handshake needs, and what is known of it afterwards.
pub struct Served {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// `tls-server-end-point` of the certificate.
    pub end_point: Option<Vec<u8>>,
}

/// The settings in use. New handshakes see a reload at once, running sessions don't.
pub struct TlsSwitch {
    by_protocol: [ArcSwap<Served>; Protocol::ALL.len()],
    ticketer: Arc<dyn ProducesTickets>,
}

impl TlsSwitch {
    /// Loads what `config` names, or makes a self-signed pair.
    pub fn new(config: &Config) -> Result<TlsSwitch, TlsError> {
        let ticketer: Arc<dyn ProducesTickets> = Arc::new(LateTicketer::default());
        let built = build(config, &ticketer)?;
        Ok(TlsSwitch { by_protocol: built.map(ArcSwap::from), ticketer })
    }

    /// Loads again. On error the old certificates stay.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        let built = build(config, &self.ticketer)?;
        for (slot, new) in self.by_protocol.iter().zip(built) {
            slot.store(new);
        }
        Ok(())
    }

    /// The settings for a new handshake.
    pub fn current(&self, protocol: Protocol) -> Arc<Served> {
        self.by_protocol[protocol.index()].load_full()
    }
}

/// Reads what `config` names and uses nothing of it. Makes no self-signed pair.
pub fn check(config: &Config) -> Result<(), TlsError> {
    if Protocol::ALL.iter().any(|&protocol| config.tls.pair(protocol).is_none()) {
        return client_verifier(config).map(drop);
    }
    let ticketer: Arc<dyn ProducesTickets> = Arc::new(LateTicketer::default());
    build(config, &ticketer).map(drop)
}

/// Has the TLS library fill its pool of random numbers, which takes it 50 ms of computing, once in a
/// process. Whoever needs some meanwhile waits.
pub fn prepare() {
    // What fails here fails again in the handshake, and is told there.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
}

/// Makes its keys when the first ticket needs them: random numbers are late, see [`prepare`].
#[derive(Debug, Default)]
struct LateTicketer(OnceLock<Option<Arc<dyn ProducesTickets>>>);

impl LateTicketer {
    /// `None` where the system gives no random numbers: then there are no tickets.
    fn made(&self) -> Option<&dyn ProducesTickets> {
        self.0.get_or_init(|| aws_lc_rs::Ticketer::new().ok()).as_deref()
    }
}

impl ProducesTickets for LateTicketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.made().map_or(0, ProducesTickets::lifetime)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.made()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.made()?.decrypt(cipher)
    }
}

type Built = [Arc<Served>; Protocol::ALL.len()];

fn build(config: &Config, ticketer: &Arc<dyn ProducesTickets>) -> Result<Built, TlsError> {
    let mut built = Vec::with_capacity(Protocol::ALL.len());
    let mut made = None;
    for protocol in Protocol::ALL {
        let (certificate, key) = match (config.tls.pair(protocol), &made) {
            (Some((certificate, key)), _) => (certificate.to_owned(), key.to_owned()),
            (None, Some(pair)) => Clone::clone(pair),
            (None, None) => made.insert(self_signed(config)?).clone(),
        };
        built.push(Arc::new(serve(config, protocol, certificate, key, ticketer)?));
    }
    // One for each, as pushed.
    built.try_into().map_err(|_| TlsError::SelfSigned("no settings".to_owned()))
}

/// What handshakes of one protocol need.
fn serve(
    config: &Config,
    protocol: Protocol,
    certificate: PathBuf,
    key: PathBuf,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<Served, TlsError> {
    let chain = read_chain(&certificate)?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|e| TlsError::File {
        file: key.clone(),
        found: e.to_string(),
        expected: "a PEM private key",
    })?;
    let pair =
        |source| TlsError::Pair { certificate: certificate.clone(), key: key.clone(), source };
    let end_point = chain.first().and_then(|own| certificate::end_point(own));
    let verifier = client_verifier(config)?;
    let versions: Vec<_> = config.tls.versions.iter().map(|&v| version(v)).collect();
    let mut server = ServerConfig::builder_with_provider(Arc::new(provider(config)))
        .with_protocol_versions(&versions)
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(pair)?;
    server.ticketer = ticketer.clone();
    // LMTP has no registered name.
    if config.tls.alpn && !matches!(protocol, Protocol::Lmtp | Protocol::Auth) {
        server.alpn_protocols = vec![protocol.as_str().as_bytes().to_vec()];
    }
    Ok(Served { config: Arc::new(server), end_point })
}

fn version(version: TlsVersion) -> &'static rustls::SupportedProtocolVersion {
    match version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    }
}

/// The TLS library, with the suites that are set and in that order.
fn provider(config: &Config) -> rustls::crypto::CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let wanted = &config.tls.cipher_suites;
    if !wanted.is_empty() {
        let place = |suite: &rustls::SupportedCipherSuite| {
            wanted.iter().position(|one| suite_name(suite.suite()) == one.as_str())
        };
        provider.cipher_suites.retain(|suite| place(suite).is_some());
        provider.cipher_suites.sort_by_key(place);
    }
    provider
}

/// The registered name; rustls calls those of TLS 1.3 by another one.
fn suite_name(suite: rustls::CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

/// Asks clients for certificates, if the configuration says so.
fn client_verifier(config: &Config) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let tls = &config.tls;
    let Some(file) =
        tls.client_ca.as_ref().filter(|_| tls.client_certificates != ClientCertificates::None)
    else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for authority in read_chain(file)? {
        roots.add(authority).map_err(|e| TlsError::File {
            file: file.clone(),
            found: e.to_string(),
            expected: "PEM certificates of authorities",
        })?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(file) = &tls.client_crl {
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_file_iter(file).and_then(Iterator::collect);
        builder = builder.with_crls(lists.map_err(|e| TlsError::File {
            file: file.clone(),
            found: e.to_string(),
            expected: "PEM certificate revocation lists",
        })?);
    }
    if tls.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| TlsError::File {
        file: file.clone(),
        found: e.to_string(),
        expected: "PEM certificates of authorities, and revocation lists that can be read",
    })
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |found: String| TlsError::File {
        file: file.to_owned(),
        found,
        expected: "PEM certificates, the server's own first",
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e: rustls_pki_types::pem::Error| bad(e.to_string()))?;
    if chain.is_empty() { Err(bad("no certificate".to_owned())) } else { Ok(chain) }
}

/// Paths of the self-signed pair, made if it isn't there.
fn self_signed(config: &Config) -> Result<(PathBuf, PathBuf), TlsError> {
    let certificate = config.state_dir.join(SELF_SIGNED_CERTIFICATE);
    let key = config.state_dir.join(SELF_SIGNED_KEY);
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let failed = |e: &dyn std::fmt::Display| TlsError::SelfSigned(e.to_string());
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !config.server.hostname.is_empty() {
        names.insert(0, config.server.hostname.clone());
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(|e| failed(&e))?;
    let write = |path: &Path, mode: u32, text: String| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
        file.and_then(|mut f| f.write_all(text.as_bytes()))
            .map_err(|e| TlsError::SelfSigned(format!("{}: {e}", path.display())))
    };
    write(&key, 0o600, made.signing_key.serialize_pem())?;
    write(&certificate, 0o644, made.cert.pem())?;
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use config::{CertificatePair, CipherSuite};

    use super::*;

    #[test]
    fn a_bad_certificate_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded(dir.path());
        let switch = TlsSwitch::new(&config).unwrap();
        let old = switch.current(Protocol::Imap);
        let bad = dir.path().join("bad.pem");
        fs::write(&bad, "not a certificate").unwrap();
        config.tls.certificate = Some(bad.clone());
        config.tls.key = Some(dir.path().join(SELF_SIGNED_KEY));
        let error = switch.reload(&config).unwrap_err().to_string();
        assert!(error.contains("bad.pem") && error.contains("expected PEM"), "{error}");
        assert!(Arc::ptr_eq(&old, &switch.current(Protocol::Imap)));
        config.tls.certificate = Some(dir.path().join(SELF_SIGNED_CERTIFICATE));
        config.tls.alpn = true;
        switch.reload(&config).unwrap();
        assert_eq!(switch.current(Protocol::Imap).config.alpn_protocols, vec![b"imap".to_vec()]);
        assert!(switch.current(Protocol::Lmtp).config.alpn_protocols.is_empty());
    }

    #[test]
    fn protocols_may_have_pairs_of_their_own_and_suites_are_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded(dir.path());
        let names: Vec<String> = aws_lc_rs::default_provider()
            .cipher_suites
            .iter()
            .map(|suite| suite_name(suite.suite()))
            .collect();
        for suite in CipherSuite::ALL {
            assert!(names.iter().any(|name| name == suite.as_str()), "{suite:?} of {names:?}");
        }
        assert_eq!(names.len(), CipherSuite::ALL.len());
        let two = [CipherSuite::EcdheRsaAes128GcmSha256, CipherSuite::Aes256GcmSha384];
        config.tls.cipher_suites = two.to_vec();
        let chosen = provider(&config).cipher_suites;
        let chosen: Vec<_> = chosen.iter().map(|suite| suite_name(suite.suite())).collect();
        assert_eq!(chosen, two.map(CipherSuite::as_str));
        config.tls.versions = vec![TlsVersion::V1_3];
        let switch = TlsSwitch::new(&config).unwrap();
        config.tls.pop3 = Some(CertificatePair {
            certificate: dir.path().join("absent"),
            key: dir.path().join(SELF_SIGNED_KEY),
        });
        let error = switch.reload(&config).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn the_self_signed_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        TlsSwitch::new(&Config::embedded(dir.path())).unwrap();
        let mode = fs::metadata(dir.path().join(SELF_SIGNED_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
