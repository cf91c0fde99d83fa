//! The names of SASL mechanisms, and what each needs.

use crate::hash::HashKind;

/// A mechanism that can be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4422 appendix A: the client's certificate.
    External,
    /// RFC 5802, RFC 7677. Of SHA-1, SHA-256 or SHA-512.
    Scram {
        /// Which hash.
        hash: HashKind,
        /// With channel binding.
        plus: bool,
    },
    /// RFC 7628.
    OAuthBearer,
    /// Google's forerunner of it.
    XOAuth2,
    /// RFC 2831, historic since RFC 6331.
    DigestMd5,
    /// RFC 2195, and Courier's of SHA-1 and SHA-256.
    Cram(HashKind),
    /// RFC 4616.
    Plain,
    /// Never standardised; old clients know no other.
    Login,
    /// RFC 4505.
    Anonymous,
}

impl Mechanism {
    /// All of them, best first.
    pub const ALL: [Mechanism; 16] = [
        Mechanism::External,
        Mechanism::Scram { hash: HashKind::Sha512, plus: true },
        Mechanism::Scram { hash: HashKind::Sha256, plus: true },
        Mechanism::Scram { hash: HashKind::Sha1, plus: true },
        Mechanism::Scram { hash: HashKind::Sha512, plus: false },
        Mechanism::Scram { hash: HashKind::Sha256, plus: false },
        Mechanism::Scram { hash: HashKind::Sha1, plus: false },
        Mechanism::OAuthBearer,
        Mechanism::XOAuth2,
        Mechanism::Cram(HashKind::Sha256),
        Mechanism::Cram(HashKind::Sha1),
        Mechanism::DigestMd5,
        Mechanism::Cram(HashKind::Md5),
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::Anonymous,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::External => "EXTERNAL",
            Mechanism::Scram { hash: HashKind::Sha512, plus: true } => "SCRAM-SHA-512-PLUS",
            Mechanism::Scram { hash: HashKind::Sha512, plus: false } => "SCRAM-SHA-512",
            Mechanism::Scram { hash: HashKind::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Mechanism::Scram { hash: HashKind::Sha256, plus: false } => "SCRAM-SHA-256",
            Mechanism::Scram { plus: true, .. } => "SCRAM-SHA-1-PLUS",
            Mechanism::Scram { plus: false, .. } => "SCRAM-SHA-1",
            Mechanism::OAuthBearer => "OAUTHBEARER",
            Mechanism::XOAuth2 => "XOAUTH2",
            Mechanism::DigestMd5 => "DIGEST-MD5",
            Mechanism::Cram(HashKind::Sha256) => "CRAM-SHA256",
            Mechanism::Cram(HashKind::Sha1) => "CRAM-SHA1",
            Mechanism::Cram(_) => "CRAM-MD5",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }

    /// The mechanism of that name, in any case.
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        Self::ALL.into_iter().find(|m| m.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether it needs channel binding.
    pub const fn is_plus(self) -> bool {
        matches!(self, Mechanism::Scram { plus: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_mechanisms_apart() {
        for mechanism in Mechanism::ALL {
            let name = mechanism.name();
            assert_eq!(Mechanism::parse(name.to_ascii_lowercase().as_bytes()), Some(mechanism));
            assert_eq!(name.ends_with("-PLUS"), mechanism.is_plus());
            assert!(name.len() <= 20, "RFC 4422 section 3.1");
        }
        assert_eq!(Mechanism::parse(b"GSSAPI"), None);
    }
}
