//! Bearer tokens: what OAUTHBEARER (RFC 7628) and XOAUTH2 carry, and who says whose they are.
//!
//! [`TokenCheck`] is the seam. [`LocalTokens`] verifies JWTs (RFC 7519) with keys from a file;
//! [`crate::introspection`] asks the authorisation server (RFC 7662).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::directory::{AuthError, BoxFuture, Unavailable};

/// Longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Most that a key file may hold.
const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Clocks may differ by so much.
const LEEWAY_SECONDS: u64 = 60;

/// Tells whose token it is.
pub trait TokenCheck: Send + Sync + fmt::Debug {
    /// The user's name as the token has it. A token that is forged, too old or for somebody else is
    /// [`AuthError::Wrong`].
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<String, AuthError>>;
}

/// What a token must say, whoever verified it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `iss`; empty: anybody.
    pub issuer: String,
    /// One of `aud`; empty: for anybody.
    pub audience: String,
    /// The claim that names the user.
    pub user_claim: String,
    /// A word of `scope`; empty: none is needed.
    pub scope: String,
}

impl Claims {
    /// The user that verified claims name, if they say what they must.
    pub fn user(&self, claims: &Map<String, Value>) -> Option<String> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let issued = self.issuer.is_empty() || text("iss") == Some(&self.issuer);
        let audience = self.audience.is_empty()
            || match claims.get("aud") {
                Some(Value::String(one)) => *one == self.audience,
                Some(Value::Array(many)) => many.iter().any(|a| *a == *self.audience),
                _ => false,
            };
        let scoped = self.scope.is_empty()
            || match claims.get("scope").or_else(|| claims.get("scp")) {
                Some(Value::String(words)) => words.split(' ').any(|w| w == self.scope),
                Some(Value::Array(words)) => words.iter().any(|w| *w == *self.scope),
                _ => false,
            };
        match issued && audience && scoped {
            true => text(&self.user_claim).map(str::to_owned),
            false => None,
        }
    }
}

/// What the client is told about a refused token: RFC 7628 section 3.2.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The scope that a token needs.
    pub scope: String,
    /// Where the client learns how to get one.
    pub openid_configuration: String,
}

impl Refusal {
    /// The JSON text.
    pub fn to_json(&self, status: &str) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("status".into(), status.into());
        if !self.scope.is_empty() {
            object.insert("scope".into(), self.scope.clone().into());
        }
        if !self.openid_configuration.is_empty() {
            object.insert("openid-configuration".into(), self.openid_configuration.clone().into());
        }
        Value::Object(object).to_string().into_bytes()
    }
}

/// Keys of one reading of the file: each with its id and what it may be used with.
type Keys = Vec<(Option<String>, Vec<Algorithm>, DecodingKey)>;

/// Verifies JWTs with the keys of a file: a JWKS (RFC 7517) or public keys in PEM. The file is read
/// again when it has changed.
pub struct LocalTokens {
    file: PathBuf,
    claims: Claims,
    keys: Mutex<(Option<SystemTime>, std::sync::Arc<Keys>)>,
}

impl fmt::Debug for LocalTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTokens").field("file", &self.file).finish_non_exhaustive()
    }
}

impl LocalTokens {
    /// Reads the keys.
    ///
    /// # Errors
    /// The file can't be read, or holds no key of a kind that can be used.
    pub fn open(file: &Path, claims: Claims) -> Result<LocalTokens, String> {
        let (stamp, keys) = read(file)?;
        let keys = Mutex::new((stamp, keys.into()));
        Ok(LocalTokens { file: file.to_owned(), claims, keys })
    }

    fn keys(&self) -> std::sync::Arc<Keys> {
        let stamp = std::fs::metadata(&self.file).and_then(|m| m.modified()).ok();
        let mut kept = self.keys.lock();
        if stamp.is_some() && stamp != kept.0 {
            match read(&self.file) {
                Ok((stamp, keys)) => *kept = (stamp, keys.into()),
                Err(error) => {
                    kept.0 = stamp;
                    tracing::error!(%error, "token keys stay as they were");
                }
            }
        }
        kept.1.clone()
    }

    fn user(&self, token: &str) -> Option<String> {
        let header = decode_header(token).ok()?;
        let keys = self.keys();
        let fits = |(id, algorithms, _): &&(Option<String>, Vec<Algorithm>, DecodingKey)| {
            algorithms.contains(&header.alg)
                && (id.is_none() || header.kid.is_none() || *id == header.kid)
        };
        keys.iter().filter(fits).find_map(|(_, _, key)| {
            let mut validation = Validation::new(header.alg);
            validation.leeway = LEEWAY_SECONDS;
            validation.validate_nbf = true;
            // Looked at by `Claims`, which does so for introspected tokens too.
            validation.validate_aud = false;
            let claims = decode::<Map<String, Value>>(token, key, &validation).ok()?.claims;
            self.claims.user(&claims)
        })
    }
}

impl TokenCheck for LocalTokens {
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<String, AuthError>> {
        Box::pin(async move { self.user(token).ok_or(AuthError::Wrong) })
    }
}

fn read(file: &Path) -> Result<(Option<SystemTime>, Keys), String> {
    let failed = |what: &str| format!("{}: {what}", file.display());
    let metadata = std::fs::metadata(file).map_err(|e| failed(&e.to_string()))?;
    if metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(failed("expected at most 1 MiB of keys"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| failed(&e.to_string()))?;
    let keys = match text.trim_start().starts_with('{') {
        true => from_jwks(&text).map_err(|e| failed(&e))?,
        false => from_pem(&text),
    };
    if keys.is_empty() {
        return Err(failed(
            "expected a JWKS, or public keys in PEM, with an RSA, EC (P-256, P-384) or Ed25519 key",
        ));
    }
    Ok((metadata.modified().ok(), keys))
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

fn from_jwks(text: &str) -> Result<Keys, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|e| format!("no JWKS: {e}"))?;
    let usable = |jwk: &jsonwebtoken::jwk::Jwk| {
        use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
        let algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
            // A shared secret among public keys would let anybody who knows them sign.
            _ => return None,
        };
        let named = jwk.common.key_algorithm.map(|a| a.to_string());
        let algorithms = algorithms
            .into_iter()
            .filter(|a| named.as_ref().is_none_or(|n| *n == format!("{a:?}")))
            .collect();
        Some((jwk.common.key_id.clone(), algorithms, DecodingKey::from_jwk(jwk).ok()?))
    };
    Ok(set.keys.iter().filter_map(usable).collect())
}

fn from_pem(text: &str) -> Keys {
    const END: &str = "-----END PUBLIC KEY-----";
    let mut keys = Keys::new();
    for block in text.split_inclusive(END).filter(|b| b.contains(END)) {
        let block = block.trim_start().as_bytes();
        // An EC key's curve shows at the verification.
        for (algorithms, key) in [
            (RSA.to_vec(), DecodingKey::from_rsa_pem(block)),
            (vec![Algorithm::ES256, Algorithm::ES384], DecodingKey::from_ec_pem(block)),
            (vec![Algorithm::EdDSA], DecodingKey::from_ed_pem(block)),
        ] {
            keys.extend(key.ok().map(|key| (None, algorithms, key)));
        }
    }
    keys
}

/// What a client's first message has: RFC 7628 section 3.1, or XOAUTH2's form of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Whom the client names; empty if nobody.
    pub named: String,
    /// The token.
    pub token: String,
}

impl Bearer {
    /// Reads OAUTHBEARER's `n,a=user,^Ahost=…^Aauth=Bearer token^A^A`.
    pub fn parse(message: &[u8]) -> Result<Bearer, AuthError> {
        let bad = AuthError::Malformed("an OAUTHBEARER message with a bearer token");
        let text = text(message).ok_or(bad.clone())?;
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, rest) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(rest)) => (flag, authzid, rest),
            _ => return Err(bad),
        };
        if !matches!(flag, "n" | "y") {
            return Err(bad);
        }
        let named = match authzid {
            "" => String::new(),
            named => {
                named.strip_prefix("a=").and_then(crate::scram::sasl_name).ok_or(bad.clone())?
            }
        };
        let pairs = rest.strip_prefix('\x01').and_then(|r| r.strip_suffix("\x01\x01"));
        let token = pairs.and_then(token).ok_or(bad)?;
        Ok(Bearer { named, token })
    }

    /// Reads XOAUTH2's `user=name^Aauth=Bearer token^A^A`.
    pub fn parse_xoauth2(message: &[u8]) -> Result<Bearer, AuthError> {
        let bad = AuthError::Malformed("an XOAUTH2 message with a bearer token");
        let text = text(message).ok_or(bad.clone())?;
        let pairs = text.strip_suffix("\x01\x01").ok_or(bad.clone())?;
        let user = pairs.split('\x01').find_map(|p| p.strip_prefix("user="));
        match (user, token(pairs)) {
            (Some(user), Some(token)) => Ok(Bearer { named: user.to_owned(), token }),
            _ => Err(bad),
        }
    }
}

fn text(message: &[u8]) -> Option<&str> {
    std::str::from_utf8(message).ok().filter(|t| t.len() <= TOKEN_BYTES_MAX)
}

fn token(pairs: &str) -> Option<String> {
    let value = pairs.split('\x01').find_map(|p| p.strip_prefix("auth="))?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    // RFC 6750 section 2.1: b64token.
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    (is_bearer && !token.is_empty() && token.bytes().all(good)).then(|| token.to_owned())
}

pub(crate) fn unavailable(what: impl fmt::Display) -> AuthError {
    AuthError::Unavailable(Unavailable(format!("token check: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    #[test]
    fn reads_the_rfc_7628_messages() {
        let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                        auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let bearer = Bearer::parse(message).unwrap();
        assert_eq!(bearer.named, "user@example.com");
        assert_eq!(bearer.token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let nobody = Bearer::parse(b"n,,\x01auth=bearer x\x01\x01").unwrap();
        assert_eq!((&*nobody.named, &*nobody.token), ("", "x"));
        for bad in [
            &b""[..],
            b"n,,\x01auth=Bearer x",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01host=h\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"p=x,,\x01auth=Bearer x\x01\x01",
            b"n,a=,\x01auth=Bearer x\x01\x01",
        ] {
            assert!(Bearer::parse(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
        let google = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc\x01\x01";
        let google = Bearer::parse_xoauth2(google).unwrap();
        assert_eq!((&*google.named, &*google.token), ("someuser@example.com", "ya29.vF9dft4qmTc"));
        assert!(Bearer::parse_xoauth2(b"auth=Bearer x\x01\x01").is_err());
    }

    #[test]
    fn the_refusal_is_the_rfcs() {
        let refusal = Refusal {
            scope: "example_scope".into(),
            openid_configuration: "https://example.com/.well-known/openid-configuration".into(),
        };
        let json: Value = serde_json::from_slice(&refusal.to_json("invalid_token")).unwrap();
        assert_eq!(
            json,
            json!({"status": "invalid_token", "scope": "example_scope",
                "openid-configuration": "https://example.com/.well-known/openid-configuration"})
        );
        assert_eq!(Refusal::default().to_json("invalid_token"), b"{\"status\":\"invalid_token\"}");
    }

    fn now() -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }

    struct Signer {
        key: rcgen::KeyPair,
        dir: tempfile::TempDir,
    }

    impl Signer {
        fn new() -> Signer {
            Signer { key: rcgen::KeyPair::generate().unwrap(), dir: tempfile::tempdir().unwrap() }
        }

        fn sign(&self, claims: &Value) -> String {
            let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
            encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
        }

        fn tokens(&self) -> LocalTokens {
            let file = self.dir.path().join("keys.pem");
            std::fs::write(&file, self.key.public_key_pem()).unwrap();
            let claims = Claims {
                issuer: "https://issuer".into(),
                audience: "mail".into(),
                user_claim: "email".into(),
                scope: "imap".into(),
            };
            LocalTokens::open(&file, claims).unwrap()
        }
    }

    fn good() -> Value {
        json!({"iss": "https://issuer", "aud": ["web", "mail"], "email": "jo", "scope": "pop imap",
            "exp": now() + 600})
    }

    #[test]
    fn a_jwt_names_its_user_if_all_is_well() {
        let signer = Signer::new();
        let tokens = signer.tokens();
        assert_eq!(tokens.user(&signer.sign(&good())), Some("jo".into()));
        for (claim, value) in [
            ("iss", json!("https://other")),
            ("aud", json!("web")),
            ("aud", json!(null)),
            ("scope", json!("imaps")),
            ("email", json!(7)),
            ("exp", json!(now() - 600)),
            ("exp", json!(null)),
            ("nbf", json!(now() + 600)),
        ] {
            let mut claims = good();
            claims[claim] = value.clone();
            assert_eq!(tokens.user(&signer.sign(&claims)), None, "{claim} {value}");
        }
        assert_eq!(tokens.user(&Signer::new().sign(&good())), None, "another key");
        let token = signer.sign(&good());
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert_eq!(tokens.user(&format!("{unsigned}.")), None);
        assert_eq!(tokens.user("x"), None);
        // A public key is no shared secret: RFC 8725 section 2.1.
        let public = EncodingKey::from_secret(signer.key.public_key_pem().as_bytes());
        let forged = encode(&Header::new(Algorithm::HS256), &good(), &public).unwrap();
        assert_eq!(tokens.user(&forged), None);
    }

    #[test]
    fn keys_are_read_again_and_survive_a_bad_file() {
        let (old, new) = (Signer::new(), Signer::new());
        let tokens = old.tokens();
        let write = |text: &str, at: u64| {
            std::fs::write(&tokens.file, text).unwrap();
            let file = std::fs::File::options().write(true).open(&tokens.file).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at)).unwrap();
        };
        write("no keys", 1);
        assert!(tokens.user(&old.sign(&good())).is_some());
        write(&new.key.public_key_pem(), 2);
        assert!(tokens.user(&new.sign(&good())).is_some());
        assert!(tokens.user(&old.sign(&good())).is_none());
        assert!(LocalTokens::open(Path::new("/nowhere"), Claims::default()).is_err());
    }

    #[test]
    fn a_jwks_gives_keys_by_id() {
        let signer = Signer::new();
        // The last 64 bytes of a P-256 public key are its point.
        use base64::Engine as _;
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let raw = signer.key.public_key_raw();
        let (x, y) = raw[1..].split_at(32);
        let jwks = json!({"keys": [
            {"kty": "oct", "k": "AAAA", "kid": "shared"},
            {"kty": "EC", "crv": "P-256", "kid": "a", "x": url.encode(x), "y": url.encode(y)},
        ]});
        let keys = from_jwks(&jwks.to_string()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].0.as_deref(), Some("a"));
        let file = signer.dir.path().join("jwks.json");
        std::fs::write(&file, jwks.to_string()).unwrap();
        let claims = Claims { user_claim: "email".into(), ..Claims::default() };
        let tokens = LocalTokens::open(&file, claims).unwrap();
        assert_eq!(tokens.user(&signer.sign(&good())), Some("jo".into()));
    }
}
