//! MD5-crypt: `$1$` of FreeBSD, Linux and Courier, `$apr1$` of Apache's htpasswd.
//!
//! Our own, as no kept crate has the second form. Only for reading: new passwords get Argon2id.

use md5::{Digest as _, Md5};

/// What hashes begin with.
const FORMS: [&str; 2] = ["$1$", "$apr1$"];
/// Longest salt that counts.
const SALT_BYTES_MAX: usize = 8;
/// Characters of a hash.
const HASH_CHARS: usize = 22;
const ROUNDS: usize = 1000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Form, salt and hash of a text that is one.
pub fn parts(text: &str) -> Option<(&'static str, &str, &str)> {
    let (form, rest) = FORMS.into_iter().find_map(|f| Some((f, text.strip_prefix(f)?)))?;
    let (salt, hash) = rest.split_once('$')?;
    let good = salt.len() <= SALT_BYTES_MAX
        && hash.len() == HASH_CHARS
        && hash.bytes().all(|b| ALPHABET.contains(&b));
    good.then_some((form, salt, hash))
}

/// The hash of `password`, 22 characters.
pub fn hash(form: &str, salt: &str, password: &[u8]) -> String {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(form).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let take = left.min(inner.len());
        outer.update(inner.get(..take).unwrap_or_default());
        left -= take;
    }
    // A zero byte or the first of the password for each bit of its length, lowest first.
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => outer.update([0]),
            _ => outer.update(password.get(..1).unwrap_or_default()),
        }
        bits >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        let odd = round & 1 == 1;
        if odd {
            next.update(password)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest)
        } else {
            next.update(password)
        }
        digest = next.finalize();
    }
    encode(&digest.into())
}

/// Three bytes at a time, in the order that the first implementation wrote them.
fn encode(digest: &[u8; 16]) -> String {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::with_capacity(HASH_CHARS);
    let mut put = |mut value: u32, chars: usize| {
        for _ in 0..chars {
            text.push(char::from(ALPHABET[(value & 0x3f) as usize]));
            value >>= 6;
        }
    };
    for [high, middle, low] in ORDER {
        let [high, middle, low] = [high, middle, low].map(|at| u32::from(digest[at]));
        put(high << 16 | middle << 8 | low, 4);
    }
    put(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd -1` and `-apr1`, and by Courier's `userdbpw -md5`.
    #[test]
    fn both_forms_are_as_others_make_them() {
        for (text, password) in [
            ("$1$kMCywqlp$TUUWPW2A3EE6jSUkzpZcx.", "geheim"),
            ("$1$L8/Cr$i7.LAC9uwx/ylcCcJGYJR/", "geheim"),
        ] {
            let (form, salt, right) = parts(text).unwrap();
            assert_eq!(hash(form, salt, password.as_bytes()), right, "{text}");
            assert_ne!(hash(form, salt, b"Geheim"), right);
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "$1$",
            "$1$salt",
            "$1$salt$short",
            "$1$toolongsalt$TUUWPW2A3EE6jSUkzpZcx.",
            "$5$a$b",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
