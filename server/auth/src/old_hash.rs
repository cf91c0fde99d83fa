//! Hashes that other servers made, for reading: what our own users file never gets for a new
//! password.
//!
//! | scheme | form | whose |
//! |---|---|---|
//! | `{MD5}`, `{MD5RAW}`, `{PLAIN-MD5}`, `{LDAP-MD5}` | MD5 | Courier's, Dovecot's |
//! | `{SHA}`, `{SHA1}`, `{SHA256}`, `{SHA512}` | that hash | Courier's, Dovecot's, htpasswd's |
//! | `{SMD5}`, `{SSHA}`, `{SSHA256}`, `{SSHA512}` | the hash of password and salt, then the salt | Courier's, Dovecot's, LDAP's |
//! | `{MD5-CRYPT}`, `$apr1$` | see [`crate::md5_crypt`] | Courier's, Dovecot's, htpasswd's |
//! | `{DES-CRYPT}` | 13 characters | crypt(3), Courier's userdbpw |
//! | `_` and 19 characters | BSDi's extended DES | crypt(3) |
//! | `$sha1$` | NetBSD's | crypt(3) |
//! | `$y$` | yescrypt | crypt(3) of today's Linux |
//! | `{PBKDF2}` | `$1$salt$rounds$` and 40 hexadecimal digits | Dovecot's |
//!
//! Digests are in base64 or in hexadecimal digits, whichever has the right length.

use std::fmt;
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_BARE};
use subtle::ConstantTimeEq as _;
use yescrypt::{Params, PasswordVerifier as _, Yescrypt};

use crate::hash::{HashKind, hex, unhex};
use crate::md5_crypt;

/// Longest salt of a salted digest.
const SALT_BYTES_MAX: usize = 256;
/// Most rounds of PBKDF2: a login would compute for minutes.
const ROUNDS_MAX: u32 = 10_000_000;
/// Most memory that a yescrypt hash may ask for.
const YESCRYPT_BYTES_MAX: u64 = 256 << 20;

/// One stored hash of an older scheme.
#[derive(Clone, PartialEq, Eq)]
pub enum OldHash {
    /// A digest; without a salt where that is empty.
    Digest {
        /// As it was named.
        scheme: DigestScheme,
        /// What the hash function gave.
        digest: Vec<u8>,
        /// What was hashed behind the password.
        salt: Vec<u8>,
    },
    /// A text of crypt(3).
    Crypt(CryptKind, String),
    /// Dovecot's form, over SHA-1.
    Pbkdf2 {
        /// As text: it is hashed so.
        salt: String,
        /// How often.
        rounds: u32,
        /// 20 bytes.
        key: Vec<u8>,
    },
}

/// Which form of crypt(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptKind {
    /// `$1$` and `$apr1$`.
    Md5,
    /// The traditional one: eight characters of the password count.
    Des,
    /// BSDi's.
    Bsdi,
    /// NetBSD's.
    Sha1,
    /// `$y$`.
    Yescrypt,
}

/// A scheme that is a digest, salted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestScheme {
    /// In the form that is written back.
    pub name: &'static str,
    hash: HashKind,
    is_salted: bool,
}

/// Every digest scheme, with the names that others give it.
const DIGESTS: [(&str, DigestScheme); 13] = {
    const fn of(name: &'static str, hash: HashKind, is_salted: bool) -> DigestScheme {
        DigestScheme { name, hash, is_salted }
    }
    [
        ("MD5", of("PLAIN-MD5", HashKind::Md5, false)),
        ("MD5RAW", of("PLAIN-MD5", HashKind::Md5, false)),
        ("PLAIN-MD5", of("PLAIN-MD5", HashKind::Md5, false)),
        ("LDAP-MD5", of("PLAIN-MD5", HashKind::Md5, false)),
        ("SMD5", of("SMD5", HashKind::Md5, true)),
        ("SHA", of("SHA1", HashKind::Sha1, false)),
        ("SHA1", of("SHA1", HashKind::Sha1, false)),
        ("SHA256", of("SHA256", HashKind::Sha256, false)),
        ("SHA512", of("SHA512", HashKind::Sha512, false)),
        ("SSHA", of("SSHA", HashKind::Sha1, true)),
        ("SSHA1", of("SSHA", HashKind::Sha1, true)),
        ("SSHA256", of("SSHA256", HashKind::Sha256, true)),
        ("SSHA512", of("SSHA512", HashKind::Sha512, true)),
    ]
};

/// The digest scheme of that name, in upper case.
pub fn digest_scheme(name: &str) -> Option<DigestScheme> {
    DIGESTS.into_iter().find_map(|(known, scheme)| (known == name).then_some(scheme))
}

impl DigestScheme {
    /// Reads a digest as text.
    pub fn parse(self, text: &str) -> Option<OldHash> {
        let length = self.hash.bytes();
        let in_hex = text.len().is_multiple_of(2)
            && match self.is_salted {
                true => text.len() > 2 * length,
                false => text.len() == 2 * length,
            };
        let from_hex = || unhex(text).and_then(|bytes| self.from_bytes(bytes));
        let from_base64 = || {
            let bytes = BASE64.decode(text).or_else(|_| BASE64_BARE.decode(text)).ok()?;
            self.from_bytes(bytes)
        };
        in_hex.then(from_hex).flatten().or_else(from_base64)
    }

    /// Takes the bytes: the digest, then the salt.
    pub fn from_bytes(self, mut bytes: Vec<u8>) -> Option<OldHash> {
        let length = self.hash.bytes();
        let salt = bytes.get(length..)?.to_vec();
        bytes.truncate(length);
        let good = match self.is_salted {
            true => !salt.is_empty() && salt.len() <= SALT_BYTES_MAX,
            false => salt.is_empty(),
        };
        good.then_some(OldHash::Digest { scheme: self, digest: bytes, salt })
    }
}

/// A text of crypt(3), if it is one of those here.
pub fn crypt(text: &str) -> Option<OldHash> {
    let chars = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    let kind = if md5_crypt::parts(text).is_some() {
        CryptKind::Md5
    } else if text.len() == 13 && chars(text) {
        CryptKind::Des
    } else if text.len() == 20 && text.strip_prefix('_').is_some_and(chars) {
        CryptKind::Bsdi
    } else if is_sha1_crypt(text) {
        CryptKind::Sha1
    } else if is_yescrypt(text) {
        CryptKind::Yescrypt
    } else {
        return None;
    };
    Some(OldHash::Crypt(kind, text.to_owned()))
}

fn is_sha1_crypt(text: &str) -> bool {
    let fields: Vec<&str> = text.split('$').collect();
    match fields[..] {
        ["", "sha1", rounds, salt, hash] => {
            rounds.parse::<u32>().is_ok_and(|r| (1..=ROUNDS_MAX).contains(&r))
                && (1..=64).contains(&salt.len())
                && hash.len() == 28
                && text.is_ascii()
        }
        _ => false,
    }
}

/// With parameters of one character each, as crypt(3) makes them, and no more memory than a login
/// may take.
fn is_yescrypt(text: &str) -> bool {
    let fields: Vec<&str> = text.split('$').collect();
    let ["", "y", parameters, salt, hash] = fields[..] else { return false };
    let value = |b: u8| match b {
        b'.' | b'/' => Some(u32::from(b - b'.')),
        b'0'..=b'9' => Some(u32::from(b - b'0') + 2),
        b'A'..=b'Z' => Some(u32::from(b - b'A') + 12),
        b'a'..=b'z' => Some(u32::from(b - b'a') + 38),
        _ => None,
    };
    let &[b'j', cost, block] = parameters.as_bytes() else { return false };
    let (Some(cost), Some(block)) = (value(cost), value(block)) else { return false };
    if cost >= 48 || block >= 48 || Params::from_str(parameters).is_err() {
        return false;
    }
    let memory = 1u64.checked_shl(cost + 1).and_then(|n| n.checked_mul(128 * u64::from(block + 1)));
    let good = |text: &str| text.bytes().all(|b| value(b).is_some());
    memory.is_some_and(|bytes| bytes <= YESCRYPT_BYTES_MAX)
        && salt.len() <= 86
        && hash.len() == 43
        && good(salt)
        && good(hash)
}

/// Dovecot's `{PBKDF2}`.
pub fn pbkdf2(text: &str) -> Option<OldHash> {
    let fields: Vec<&str> = text.split('$').collect();
    let ["", "1", salt, rounds, key] = fields[..] else { return None };
    let rounds = rounds.parse().ok().filter(|r| (1..=ROUNDS_MAX).contains(r))?;
    let key = unhex(key).filter(|key| key.len() == HashKind::Sha1.bytes())?;
    Some(OldHash::Pbkdf2 { salt: salt.to_owned(), rounds, key })
}

impl OldHash {
    /// The scheme's name, without braces.
    pub fn scheme(&self) -> &'static str {
        match self {
            OldHash::Digest { scheme, .. } => scheme.name,
            OldHash::Crypt(CryptKind::Md5, _) => "MD5-CRYPT",
            OldHash::Crypt(CryptKind::Des, _) => "DES-CRYPT",
            OldHash::Crypt(..) => "CRYPT",
            OldHash::Pbkdf2 { .. } => "PBKDF2",
        }
    }

    /// Whether guesses at it are cheap: such a password should be given anew.
    pub fn is_weak(&self) -> bool {
        let strong = matches!(self, OldHash::Crypt(CryptKind::Yescrypt, _));
        !strong && !matches!(self, OldHash::Pbkdf2 { rounds: 5000.., .. })
    }

    /// Whether `password` fits. Takes as long as the scheme wants.
    pub fn check(&self, password: &[u8]) -> bool {
        match self {
            OldHash::Digest { scheme, digest, salt } => {
                let found = scheme.hash.digest(&[password, salt].concat());
                found.ct_eq(digest).into()
            }
            OldHash::Crypt(CryptKind::Md5, text) => {
                md5_crypt::parts(text).is_some_and(|(form, salt, right)| {
                    let found = md5_crypt::hash(form, salt, password);
                    found.as_bytes().ct_eq(right.as_bytes()).into()
                })
            }
            OldHash::Crypt(kind, text) => {
                // crypt(3) takes C strings.
                if password.contains(&0) {
                    return false;
                }
                match kind {
                    CryptKind::Des => pwhash::unix_crypt::verify(password, text),
                    CryptKind::Bsdi => pwhash::bsdi_crypt::verify(password, text),
                    CryptKind::Sha1 => pwhash::sha1_crypt::verify(password, text),
                    _ => Yescrypt::default().verify_password(password, text.as_str()).is_ok(),
                }
            }
            OldHash::Pbkdf2 { salt, rounds, key } => {
                let found = HashKind::Sha1.pbkdf2(password, salt.as_bytes(), *rounds);
                found.ct_eq(key).into()
            }
        }
    }
}

impl fmt::Display for OldHash {
    /// As [`crate::credential::Credential::parse`] reads it, without the scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OldHash::Digest { digest, salt, .. } => {
                f.write_str(&BASE64.encode([digest.as_slice(), salt].concat()))
            }
            OldHash::Crypt(_, text) => f.write_str(text),
            OldHash::Pbkdf2 { salt, rounds, key } => write!(f, "$1${salt}${rounds}${}", hex(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Credential, CredentialError};
    use proptest::prelude::*;

    /// Of "geheim": what Courier's `authpasswd` and `userdbpw`, `doveadm pw`, `openssl passwd` and
    /// Perl's crypt made.
    const OTHERS: [(&str, &str); 33] = [
        ("{SSHA}mIHkGay1UzzRO4Re2oXfkalsK1ROj1Ph", "SSHA"),
        ("{MD5}6GNuoBPmgvr2H1bOHLGrXA==", "PLAIN-MD5"),
        ("{MD5RAW}e8636ea013e682faf61f56ce1cb1ab5c", "PLAIN-MD5"),
        ("{SHA256}rdsPXngmyFfXN20b2bwzwMVEeQourJYUSoryKxKYyUA=", "SHA256"),
        ("$1$L8/Cr$i7.LAC9uwx/ylcCcJGYJR/", "MD5-CRYPT"),
        ("$1$kMCywqlp$TUUWPW2A3EE6jSUkzpZcx.", "MD5-CRYPT"),
        ("TiNSDm4PpIhEA", "DES-CRYPT"),
        ("{CRYPT}abOkmxXhjDb.Y", "DES-CRYPT"),
        ("{SHA}kGByAB793z4R5tK1eC9Hd/4Dhzk=", "SHA1"),
        ("{SHA1}kGByAB793z4R5tK1eC9Hd/4Dhzk=", "SHA1"),
        (
            "{SHA512}jYR+AdIrqpafcfo2K03iHJ4Tx4grzqE7pcaorg1x/IyXAMguAIemXIs3vSn1NnR/KMlnK+wcrndi0snza2AT8g==",
            "SHA512",
        ),
        ("{SSHA}h94NHT43uCLUBqzRoYbFyMH56Wjt0g3o", "SSHA"),
        ("{SSHA256}XF2ZLKPUUO2OKpn9utIv8LFrKnkaF2IjTYbXDFmJ3kXTR1t3", "SSHA256"),
        (
            "{SSHA512}IEsRr6GrVVEqu7naHoz0EtK3mQm7PTX3xX3gD+gEzwyGqPEISCa/C+Jg4huHU596ycbMVL6tmagaWXhEDz5AzgjZ34Y=",
            "SSHA512",
        ),
        ("{SMD5}44qvew4D6t0vDST9i3yFxkZ9CBQ=", "SMD5"),
        ("{LDAP-MD5}6GNuoBPmgvr2H1bOHLGrXA==", "PLAIN-MD5"),
        ("{PLAIN-MD5}e8636ea013e682faf61f56ce1cb1ab5c", "PLAIN-MD5"),
        ("{MD5}$1$weeNi782$nlvq.4Vre8N/JfOLcUlUN1", "MD5-CRYPT"),
        ("{MD5-CRYPT}$1$blyg.GPv$G25PIjwEM9zc0EU9DvZUo/", "MD5-CRYPT"),
        ("{DES-CRYPT}2aokcJd1qzNvE", "DES-CRYPT"),
        ("{PBKDF2}$1$yRRP.z/FR7YO1m3m$5000$dc00d587fb2b83b148bc63a00c29aac3f69e8ac9", "PBKDF2"),
        ("{SHA256.HEX}addb0f5e7826c857d7376d1bd9bc33c0c544790a2eac96144a8af22b1298c940", "SHA256"),
        ("{SHA256}addb0f5e7826c857d7376d1bd9bc33c0c544790a2eac96144a8af22b1298c940", "SHA256"),
        ("{SSHA.HEX}c847f447fd617b30df42c972201930b3fefb31736ad2dcb3", "SSHA"),
        ("{PLAIN-MD5.B64}6GNuoBPmgvr2H1bOHLGrXA==", "PLAIN-MD5"),
        ("$apr1$abcdefgh$bw9gEObk10asetVLiysIZ0", "MD5-CRYPT"),
        ("_J9..rasmLJzOHaYqF5s", "CRYPT"),
        ("$sha1$1000$Wq3GL2Vp$zK7IkwU/nMu2Yv2B/7.a0QWEEhoI", "CRYPT"),
        (
            "{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$iLMagHjBvrahXhlULvb9yW5faxBRfc3sREKM24WCe2C",
            "CRYPT",
        ),
        ("{PLAIN}geheim", "PLAIN.B64"),
        ("{CLEARTEXT.HEX}67656865696d", "PLAIN.B64"),
        ("{HMAC-MD5}f16f9cd57afad6931bff9508ef68ea2db1b62513b604cf995e4f882bed6d4f1a", "CRAM-MD5"),
        (
            "{SCRAM-SHA-256}4096,osL27ANcq4rm5l/QJYAKCg==,0T/olFaPMc5+0Td46uBOCcCfAObKJsX1AfdcsFEnpz8=,sd2fLpNlSeQR0S/IusX15GTTTvH9eepVFGR0EWiUtbM=",
            "SCRAM-SHA-256",
        ),
    ];

    #[test]
    fn what_others_made_fits() {
        for (text, scheme) in OTHERS {
            let credential = Credential::parse(text).unwrap();
            assert_eq!(credential.scheme(), scheme, "{text}");
            assert!(credential.check(b"geheim"), "{text}");
            assert!(!credential.check(b"Geheim"), "{text}");
            assert!(!credential.check(b""), "{text}");
            assert_eq!(Credential::parse(&credential.to_string()), Ok(credential), "{text}");
        }
    }

    /// Made by `openssl passwd`.
    #[test]
    fn a_long_password_is_hashed_whole() {
        let long = "x".repeat(70);
        for text in ["$apr1$ab$c9R.YzIXeh0TE0HHXzQfw/", "$1$ab$xYxcg6Ku8Fq4wHdUunBv1."] {
            assert!(Credential::parse(text).unwrap().check(long.as_bytes()), "{text}");
        }
    }

    #[test]
    fn only_slow_hashes_are_not_weak() {
        let weak = |text| Credential::parse(text).unwrap().is_weak();
        assert!(weak("TiNSDm4PpIhEA") && weak("{SSHA}mIHkGay1UzzRO4Re2oXfkalsK1ROj1Ph"));
        assert!(weak("{PLAIN}geheim"));
        let bcrypt = "$2y$05$IgbU9X8zBwnIe0NtFCQdoeY8A48GLLTa9mvw31tbLh37TzAWdjSKa";
        assert!(!weak(bcrypt) && !weak(OTHERS[28].0) && !weak(OTHERS[20].0));
    }

    #[test]
    fn schemes_that_are_refused_are_named() {
        for name in ["NTLM", "LANMAN", "LM", "OTP", "SKEY", "RPA", "PLAIN-MD4", "PLAIN-TRUNC"] {
            let error = Credential::parse(&format!("{{{name}}}x")).unwrap_err();
            assert!(matches!(error, CredentialError::Refused(_)), "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn costs_without_end_are_refused() {
        let hash = "iLMagHjBvrahXhlULvb9yW5faxBRfc3sREKM24WCe2C";
        for parameters in ["jjT", "jFT", "j9T.", "", "k9T", "j9z"] {
            let text = format!("$y${parameters}$F5Jx5fExrKuPp53xLKQ..1${hash}");
            assert!(crypt(&text).is_none(), "{text}");
        }
        assert!(pbkdf2(&format!("$1$a$4000000000${}", "0".repeat(40))).is_none());
        assert!(crypt(&format!("$sha1$4000000000$a${}", "0".repeat(28))).is_none());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs_and_checks(
            scheme in "(\\{[A-Z0-9.-]{0,12}\\})?(\\$(1|y|sha1|apr1)\\$)?",
            rest in "[ -~äß]{0,44}",
        ) {
            if let Ok(credential) = Credential::parse(&format!("{scheme}{rest}")) {
                let cheap = !matches!(credential.scheme(), "CRYPT" | "PBKDF2" | "SCRAM-SHA-1");
                prop_assert!(!cheap || !credential.check("falsch ß".as_bytes()));
            }
        }
    }
}
