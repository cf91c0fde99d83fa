//! Certificates and what TLS may be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Protocol;

/// Certificate and key; both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the certificate and its chain. Absent: self-signed, kept in `state_dir`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// Another pair for IMAP.
    pub imap: Option<CertificatePair>,
    /// Another pair for POP3.
    pub pop3: Option<CertificatePair>,
    /// Another pair for LMTP.
    pub lmtp: Option<CertificatePair>,
    /// Versions of TLS that are spoken. At least one.
    pub versions: Vec<TlsVersion>,
    /// Cipher suites that are taken, best first. Empty: all that there are.
    pub cipher_suites: Vec<CipherSuite>,
    /// Whether ALPN names (`imap`, `pop3`) are offered (RFC 7301), and a client that asks for other
    /// names alone is refused: it means to speak to somebody else. Off: it is served all the same.
    pub alpn: bool,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file with the authorities whose client certificates are good.
    pub client_ca: Option<PathBuf>,
    /// PEM file with their revocation lists.
    pub client_crl: Option<PathBuf>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// No.
    #[default]
    None,
    /// Yes, and those without one are served too.
    Optional,
    /// Yes, and the handshake fails without one.
    Required,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: None,
            key: None,
            imap: None,
            pop3: None,
            lmtp: None,
            versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
            cipher_suites: Vec::new(),
            alpn: true,
            client_certificates: ClientCertificates::default(),
            client_ca: None,
            client_crl: None,
        }
    }
}

impl Tls {
    /// Certificate and key for a protocol: its own pair, else the common one.
    pub fn pair(&self, protocol: Protocol) -> Option<(&Path, &Path)> {
        let own = match protocol {
            Protocol::Imap => &self.imap,
            Protocol::Pop3 => &self.pop3,
            Protocol::Lmtp => &self.lmtp,
            // It has no TLS of its own.
            Protocol::Auth => &None,
        };
        match own {
            Some(pair) => Some((&pair.certificate, &pair.key)),
            None => Some((self.certificate.as_deref()?, self.key.as_deref()?)),
        }
    }

    pub(crate) fn own_pair_mut(&mut self, protocol: Protocol) -> Option<&mut CertificatePair> {
        match protocol {
            Protocol::Imap => self.imap.as_mut(),
            Protocol::Pop3 => self.pop3.as_mut(),
            Protocol::Lmtp => self.lmtp.as_mut(),
            Protocol::Auth => None,
        }
    }
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A cipher suite by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum CipherSuite {
    /// TLS 1.3.
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256GcmSha384,
    /// TLS 1.3.
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128GcmSha256,
    /// TLS 1.3.
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    Chacha20Poly1305Sha256,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdheEcdsaAes256GcmSha384,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdheEcdsaAes128GcmSha256,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheEcdsaChacha20Poly1305Sha256,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    EcdheRsaAes256GcmSha384,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    EcdheRsaAes128GcmSha256,
    /// TLS 1.2.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheRsaChacha20Poly1305Sha256,
}

impl CipherSuite {
    /// All of them, in the order in which they are preferred.
    pub const ALL: [CipherSuite; 9] = [
        CipherSuite::Aes256GcmSha384,
        CipherSuite::Aes128GcmSha256,
        CipherSuite::Chacha20Poly1305Sha256,
        CipherSuite::EcdheEcdsaAes256GcmSha384,
        CipherSuite::EcdheEcdsaAes128GcmSha256,
        CipherSuite::EcdheEcdsaChacha20Poly1305Sha256,
        CipherSuite::EcdheRsaAes256GcmSha384,
        CipherSuite::EcdheRsaAes128GcmSha256,
        CipherSuite::EcdheRsaChacha20Poly1305Sha256,
    ];

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            CipherSuite::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::Chacha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
            CipherSuite::EcdheEcdsaAes256GcmSha384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::EcdheEcdsaChacha20Poly1305Sha256 => {
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
            }
            CipherSuite::EcdheRsaAes256GcmSha384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::EcdheRsaChacha20Poly1305Sha256 => {
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
            }
        }
    }

    /// The version of TLS that has it.
    pub fn version(self) -> TlsVersion {
        match self {
            CipherSuite::Aes256GcmSha384
            | CipherSuite::Aes128GcmSha256
            | CipherSuite::Chacha20Poly1305Sha256 => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        }
    }
}
