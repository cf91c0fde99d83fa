//! SCRAM-SHA-256: RFC 5802, RFC 7677. The server's side, as bytes in and bytes out.
//!
//! Our own because the exchange must wait for a directory between two messages and must serve
//! unknown users with a decoy, which a callback-driven SASL library makes harder than these
//! hundred lines. Channel binding (-PLUS) isn't offered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::directory::AuthError;

/// PBKDF2 rounds for new verifiers. RFC 7677 asks for 4,096 or more; the client pays for them at
/// each login, and a thief of the user file at each guess.
pub const ITERATIONS: u32 = 32_768;
/// Most rounds accepted in a stored verifier: a client would compute for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Longest message accepted from a client.
const MESSAGE_BYTES_MAX: usize = 4096;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 18;

/// What the server keeps instead of a password: it can check, but not log in elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl ScramVerifier {
    /// Makes a verifier for `password` with a fresh salt. Takes as long as a hash.
    pub fn new(password: &str) -> Result<ScramVerifier, getrandom::Error> {
        let mut salt = vec![0u8; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Self::derive(password.as_bytes(), salt, ITERATIONS))
    }

    fn derive(password: &[u8], salt: Vec<u8>, iterations: u32) -> ScramVerifier {
        let prepared =
            std::str::from_utf8(password).ok().and_then(|p| stringprep::saslprep(p).ok());
        let password = prepared.as_deref().map_or(password, str::as_bytes);
        let salted: [u8; 32] = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, iterations);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).into();
        let server_key = hmac(&salted, b"Server Key");
        ScramVerifier { iterations, salt, stored_key, server_key }
    }

    /// A verifier that no password fits, always the same for one `secret` and `user`.
    pub fn decoy(secret: &[u8; 32], user: &str) -> ScramVerifier {
        let mut salt = hmac(secret, user.as_bytes()).to_vec();
        salt.truncate(SALT_BYTES);
        let stored_key = hmac(secret, &salt);
        ScramVerifier { iterations: ITERATIONS, salt, stored_key, server_key: stored_key }
    }

    /// Reads `iterations,salt,stored key,server key`, the last three in base64.
    pub fn parse(text: &str) -> Option<ScramVerifier> {
        let mut fields = text.split(',');
        let iterations: u32 = fields.next()?.parse().ok()?;
        let salt = BASE64.decode(fields.next()?).ok()?;
        let stored_key = BASE64.decode(fields.next()?).ok()?.try_into().ok()?;
        let server_key = BASE64.decode(fields.next()?).ok()?.try_into().ok()?;
        let good = fields.next().is_none()
            && (1..=ITERATIONS_MAX).contains(&iterations)
            && !salt.is_empty();
        good.then_some(ScramVerifier { iterations, salt, stored_key, server_key })
    }

    /// Whether a password in clear fits. Takes as long as a hash.
    pub fn check(&self, password: &[u8]) -> bool {
        let other = Self::derive(password, self.salt.clone(), self.iterations);
        other.stored_key.ct_eq(&self.stored_key).into()
    }
}

impl std::fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|b| BASE64.encode(b));
        write!(f, "{},{salt},{stored},{server}", self.iterations)
    }
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    gs2_header: String,
    bare: String,
    nonce: String,
    /// Who logs in, as written by the client.
    pub user: String,
    /// Who the client wants to act as, if it says so.
    pub authzid: Option<String>,
}

impl ClientFirst {
    /// Reads `gs2-header n=user,r=nonce`.
    pub fn parse(message: &[u8]) -> Result<ClientFirst, AuthError> {
        let text = text(message)?;
        let bad = AuthError::Malformed("a SCRAM client-first-message without channel binding");
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
            _ => return Err(bad),
        };
        if !matches!(flag, "n" | "y") {
            return Err(bad);
        }
        let authzid = match authzid {
            "" => None,
            named => Some(named.strip_prefix("a=").and_then(sasl_name).ok_or(bad.clone())?),
        };
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|f| f.strip_prefix("n=")).and_then(sasl_name);
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).filter(|n| !n.is_empty());
        match (user, nonce) {
            (Some(user), Some(nonce)) => Ok(ClientFirst {
                gs2_header: text.get(..text.len() - bare.len()).unwrap_or_default().to_owned(),
                bare: bare.to_owned(),
                nonce: nonce.to_owned(),
                user,
                authzid,
            }),
            _ => Err(bad),
        }
    }

    /// Answers with the server's first message.
    pub fn answer(
        self,
        verifier: ScramVerifier,
    ) -> Result<(ServerFirst, Vec<u8>), getrandom::Error> {
        let mut random = [0u8; NONCE_BYTES];
        getrandom::fill(&mut random)?;
        Ok(self.answer_with(verifier, &BASE64.encode(random)))
    }

    fn answer_with(self, verifier: ScramVerifier, random: &str) -> (ServerFirst, Vec<u8>) {
        let nonce = format!("{}{random}", self.nonce);
        let salt = BASE64.encode(&verifier.salt);
        let message = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let server = ServerFirst {
            verifier,
            binding: BASE64.encode(&self.gs2_header),
            auth_message: format!("{},{message}", self.bare),
            nonce,
        };
        (server, message.into_bytes())
    }
}

/// The server's state between its two messages.
#[derive(Clone, Debug)]
pub struct ServerFirst {
    verifier: ScramVerifier,
    nonce: String,
    binding: String,
    auth_message: String,
}

impl ServerFirst {
    /// Checks the client's final message; gives the server's final message if the proof is right.
    pub fn finish(self, message: &[u8]) -> Result<Vec<u8>, AuthError> {
        let text = text(message)?;
        let bad = AuthError::Malformed("a SCRAM client-final-message for this exchange");
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(bad.clone())?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|f| f.strip_prefix("c="));
        let nonce = fields.next().and_then(|f| f.strip_prefix("r="));
        let proof: [u8; 32] =
            BASE64.decode(proof).ok().and_then(|p| p.try_into().ok()).ok_or(bad.clone())?;
        if binding != Some(&*self.binding) || nonce != Some(&*self.nonce) {
            return Err(bad);
        }
        let auth_message = format!("{},{without_proof}", self.auth_message);
        let signature = hmac(&self.verifier.stored_key, auth_message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.verifier.stored_key)) {
            return Err(AuthError::Wrong);
        }
        let server = hmac(&self.verifier.server_key, auth_message.as_bytes());
        Ok(format!("v={}", BASE64.encode(server)).into_bytes())
    }
}

fn text(message: &[u8]) -> Result<&str, AuthError> {
    std::str::from_utf8(message)
        .ok()
        .filter(|t| t.len() <= MESSAGE_BYTES_MAX && !t.contains('\0'))
        .ok_or(AuthError::Malformed("a SCRAM message in UTF-8"))
}

/// Undoes `=2C` and `=3D`; `None` for any other `=`.
fn sasl_name(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (c, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(c);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

pub(crate) fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes a key of any length"),
    };
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3.
    fn rfc_verifier() -> ScramVerifier {
        ScramVerifier::derive(b"pencil", BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
    }

    const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn replays_the_rfc_7677_exchange() {
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let (server, message) = first.answer_with(rfc_verifier(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(
            String::from_utf8(message).unwrap(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = server.clone().finish(RFC_FINAL.as_bytes()).unwrap();
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");

        let forged = RFC_FINAL.replace("p=dH", "p=dI");
        assert_eq!(server.clone().finish(forged.as_bytes()), Err(AuthError::Wrong));
        let other_nonce = RFC_FINAL.replace("k0,", "k1,");
        assert!(matches!(server.finish(other_nonce.as_bytes()), Err(AuthError::Malformed(_))));
    }

    #[test]
    fn a_stored_verifier_reads_back_and_checks() {
        let verifier = rfc_verifier();
        assert_eq!(ScramVerifier::parse(&verifier.to_string()), Some(verifier.clone()));
        assert!(verifier.check(b"pencil"));
        assert!(!verifier.check(b"pencils"));
        for bad in ["", "4096", "0,AA==,AA==,AA==", "4096,,,", "4096,W22Z,AA==,AA=="] {
            assert_eq!(ScramVerifier::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn bad_first_messages_are_refused() {
        for bad in [
            "",
            "n",
            "n,,",
            "p=tls-unique,,n=u,r=x",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,r=x,n=u",
            "n,b=x,n=u,r=x",
            "n,,n=a=2c,r=x",
            "n,,m=x,n=u,r=x",
        ] {
            assert!(ClientFirst::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(ClientFirst::parse(b"n,,n=\xff,r=x").is_err());
        let named = ClientFirst::parse(b"y,a=x=2Cy,n=a=3Db,r=x").unwrap();
        assert_eq!((named.user.as_str(), named.authzid.as_deref()), ("a=b", Some("x,y")));
    }

    #[test]
    fn a_decoy_is_stable_and_fits_nothing() {
        let (a, b) = (ScramVerifier::decoy(&[7; 32], "jo"), ScramVerifier::decoy(&[7; 32], "jo"));
        assert_eq!(a, b);
        assert_ne!(a, ScramVerifier::decoy(&[7; 32], "mo"));
    }
}
