//! The hash functions that mechanisms name, behind one type, and HMACs whose key is kept hashed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha1::Sha1;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// Bytes of one block of MD5, SHA-1 and SHA-256.
const BLOCK_BYTES: usize = 64;

/// A hash function of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashKind {
    /// RFC 1321; broken as a hash, still sound inside HMAC.
    Md5,
    /// FIPS 180; likewise.
    Sha1,
    /// FIPS 180.
    Sha256,
    /// FIPS 180.
    Sha512,
}

impl HashKind {
    /// Length of a hash.
    pub const fn bytes(self) -> usize {
        match self {
            HashKind::Md5 => 16,
            HashKind::Sha1 => 20,
            HashKind::Sha256 => 32,
            HashKind::Sha512 => 64,
        }
    }

    /// The hash of `data`.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            HashKind::Md5 => Md5::digest(data).to_vec(),
            HashKind::Sha1 => Sha1::digest(data).to_vec(),
            HashKind::Sha256 => Sha256::digest(data).to_vec(),
            HashKind::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// HMAC: RFC 2104.
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        macro_rules! mac {
            ($hash:ty) => {{
                // A key of any length is taken.
                let Ok(mut mac) = Hmac::<$hash>::new_from_slice(key) else { return Vec::new() };
                mac.update(data);
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            HashKind::Md5 => mac!(Md5),
            HashKind::Sha1 => mac!(Sha1),
            HashKind::Sha256 => mac!(Sha256),
            HashKind::Sha512 => mac!(Sha512),
        }
    }

    /// PBKDF2 with this hash, as long as the hash. Takes as long as `rounds` want.
    pub fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut key = vec![0; self.bytes()];
        match self {
            HashKind::Md5 => pbkdf2::pbkdf2_hmac::<Md5>(password, salt, rounds, &mut key),
            HashKind::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut key),
            HashKind::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut key),
            HashKind::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut key),
        }
        key
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of an even number of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pair = |p: &[u8]| match p {
        &[high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// What a password becomes as the key of an HMAC: the hash's states behind the outer and the inner
/// padded key (RFC 2104 section 4). It answers CRAM challenges, and is no password anywhere else.
///
/// The bytes are the states as the hash itself would write them, outer first: Dovecot's
/// `{CRAM-MD5}`, and Courier's `hmac-md5`, `hmac-sha1` and `hmac-sha256`.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey {
    kind: HashKind,
    outer: Vec<u8>,
    inner: Vec<u8>,
}

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HmacKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl HmacKey {
    /// Hashes that CRAM mechanisms use.
    pub const KINDS: [HashKind; 3] = [HashKind::Md5, HashKind::Sha1, HashKind::Sha256];

    /// Of a password. `None` for a hash that is none of [`HmacKey::KINDS`].
    pub fn new(kind: HashKind, password: &[u8]) -> Option<HmacKey> {
        let hashed;
        let key = match password.len() > BLOCK_BYTES {
            true => {
                hashed = kind.digest(password);
                &hashed
            }
            false => password,
        };
        let state = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
            match kind {
                HashKind::Md5 => Some(state_behind::<Md5>(&block, kind)),
                HashKind::Sha1 => Some(state_behind::<Sha1>(&block, kind)),
                HashKind::Sha256 => Some(state_behind::<Sha256>(&block, kind)),
                HashKind::Sha512 => None,
            }
        };
        Some(HmacKey { kind, outer: state(0x5c)?, inner: state(0x36)? })
    }

    /// Reads what [`HmacKey::to_string`] writes.
    pub fn parse(kind: HashKind, text: &str) -> Option<HmacKey> {
        let bytes = unhex(text).filter(|b| b.len() == 2 * kind.bytes())?;
        let (outer, inner) = bytes.split_at(kind.bytes());
        Self::KINDS.contains(&kind).then(|| HmacKey {
            kind,
            outer: outer.to_vec(),
            inner: inner.to_vec(),
        })
    }

    /// Which hash.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// The HMAC of `data`.
    pub fn mac(&self, data: &[u8]) -> Vec<u8> {
        match self.kind {
            HashKind::Md5 => self.mac_with::<Md5>(data),
            HashKind::Sha1 => self.mac_with::<Sha1>(data),
            HashKind::Sha256 | HashKind::Sha512 => self.mac_with::<Sha256>(data),
        }
    }

    fn mac_with<H: Digest + SerializableState>(&self, data: &[u8]) -> Vec<u8> {
        let finish = |state: &[u8], data: &[u8]| {
            resume::<H>(state, self.kind).map(|hash| hash.chain_update(data).finalize().to_vec())
        };
        finish(&self.inner, data).and_then(|inner| finish(&self.outer, &inner)).unwrap_or_default()
    }

    /// Whether it is the key of `password`; in constant time.
    pub fn check(&self, password: &[u8]) -> bool {
        HmacKey::new(self.kind, password).is_some_and(|other| {
            bool::from(other.outer.ct_eq(&self.outer) & other.inner.ct_eq(&self.inner))
        })
    }
}

impl std::fmt::Display for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.outer))?;
        f.write_str(&hex(&self.inner))
    }
}

/// The state of `H` behind one block, in the hash's own order of bytes.
fn state_behind<H: Digest + SerializableState>(block: &[u8], kind: HashKind) -> Vec<u8> {
    let serialized = H::new_with_prefix(block).serialize();
    own_order(serialized.get(..kind.bytes()).unwrap_or_default(), kind)
}

/// A hash that goes on behind one block with this state.
fn resume<H: Digest + SerializableState>(state: &[u8], kind: HashKind) -> Option<H> {
    let mut serialized = H::new_with_prefix([0; BLOCK_BYTES]).serialize();
    serialized.get_mut(..kind.bytes())?.copy_from_slice(&own_order(state, kind));
    H::deserialize(&serialized).ok()
}

/// The crates serialise words in little-endian order; SHA writes them in big-endian order. Its own
/// reverse.
fn own_order(state: &[u8], kind: HashKind) -> Vec<u8> {
    match kind {
        HashKind::Md5 => state.to_vec(),
        _ => state.chunks(4).flat_map(|word| word.iter().rev().copied()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_key_gives_the_hmac_of_its_password() {
        for kind in HmacKey::KINDS {
            for password in [&b"geheim"[..], b"", &[b'x'; 64], &[b'x'; 65], &[0xff; 200]] {
                let key = HmacKey::new(kind, password).unwrap();
                assert_eq!(HmacKey::parse(kind, &key.to_string()), Some(key.clone()));
                for data in [&b""[..], b"<1896.697170952@postoffice.reston.mci.net>", &[7; 300]] {
                    assert_eq!(key.mac(data), kind.hmac(password, data), "{kind:?}");
                }
                assert!(key.check(password));
                assert!(!key.check(b"anders"));
            }
        }
        assert!(HmacKey::new(HashKind::Sha512, b"x").is_none());
        assert!(HmacKey::parse(HashKind::Md5, &"0".repeat(62)).is_none());
        assert!(HmacKey::parse(HashKind::Md5, &"x".repeat(64)).is_none());
    }

    #[test]
    fn replays_the_rfc_2195_example() {
        let key = HmacKey::new(HashKind::Md5, b"tanstaaftanstaaf").unwrap();
        let mac = key.mac(b"<1896.697170952@postoffice.reston.mci.net>");
        assert_eq!(hex(&mac), "b913a602c7eda7a495b4e6e7334d3890");
    }

    /// As `doveadm pw -s CRAM-MD5 -p geheim` writes it.
    #[test]
    fn the_form_is_dovecots() {
        let key = HmacKey::new(HashKind::Md5, b"geheim").unwrap();
        assert_eq!(
            key.to_string(),
            "f16f9cd57afad6931bff9508ef68ea2db1b62513b604cf995e4f882bed6d4f1a"
        );
    }
}
