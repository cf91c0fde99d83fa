//! What certificates say: who a client is (EXTERNAL), and the hash that SCRAM binds to.

use config::CertificateField;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// `UID` (RFC 4519 section 2.39).
const UID: &str = "0.9.2342.19200300.100.1.1";

/// The names that `field` of a client's certificate has, in the certificate's order. The handshake
/// has verified the certificate.
pub fn users(certificate: &[u8], field: CertificateField) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let subject = certificate.subject();
    let texts = |found: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
        found.filter_map(|a| a.as_str().ok().map(str::to_owned)).collect::<Vec<_>>()
    };
    let alternative = |pick: fn(&GeneralName<'_>) -> Option<String>| {
        let names = certificate.subject_alternative_name().ok().flatten();
        names.map(|n| n.value.general_names.iter().filter_map(pick).collect()).unwrap_or_default()
    };
    match field {
        CertificateField::CommonName => texts(&mut subject.iter_common_name()),
        CertificateField::Uid => {
            texts(&mut subject.iter_attributes().filter(|a| a.attr_type().to_id_string() == UID))
        }
        CertificateField::Dns => alternative(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }),
        CertificateField::Email => {
            let mut names: Vec<String> = alternative(|name| match name {
                GeneralName::RFC822Name(name) => Some((*name).to_owned()),
                _ => None,
            });
            names.extend(texts(&mut subject.iter_email()));
            names
        }
    }
}

/// `tls-server-end-point` of our own certificate: RFC 5929 section 4.1. `None` where the signature
/// has no hash of its own (Ed25519), or one that we don't know.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let oid = match SignatureAlgorithm::try_from(&parsed.signature_algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => {
            parameters.hash_algorithm_oid().to_id_string()
        }
        _ => parsed.signature_algorithm.algorithm.to_id_string(),
    };
    Some(match &*oid {
        // MD5 and SHA-1, with RSA or alone, are taken for SHA-256; then those with SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.3.14.3.2.26"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Sha384::digest(certificate).to_vec()
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Sha512::digest(certificate).to_vec()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_come_from_the_field_that_is_set() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Jo Doe");
        params
            .distinguished_name
            .push(DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]), "jo");
        params.subject_alt_names = vec![
            SanType::Rfc822Name("jo@example.org".try_into().unwrap()),
            SanType::DnsName("host.example.org".try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        let der = der.der();
        assert_eq!(users(der, CertificateField::CommonName), ["Jo Doe"]);
        assert_eq!(users(der, CertificateField::Uid), ["jo"]);
        assert_eq!(users(der, CertificateField::Email), ["jo@example.org"]);
        assert_eq!(users(der, CertificateField::Dns), ["host.example.org"]);
        assert_eq!(end_point(der), Some(Sha256::digest(der).to_vec()));
        assert!(users(b"nonsense", CertificateField::Email).is_empty());
        assert_eq!(end_point(b"nonsense"), None);
    }
}
