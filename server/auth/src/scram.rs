//! SCRAM-SHA-1, -SHA-256 and -SHA-512 with and without channel binding: RFC 5802, RFC 7677,
//! RFC 5929, RFC 9266. The server's side, as bytes in and bytes out.
//!
//! Our own because the exchange must wait for a directory between two messages and must serve
//! unknown users with a decoy, which a callback-driven SASL library makes harder than these few
//! hundred lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;

use crate::channel::Channel;
use crate::directory::AuthError;
use crate::hash::HashKind;

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
    kind: HashKind,
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("kind", &self.kind)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl ScramVerifier {
    /// Hashes that SCRAM mechanisms use.
    pub const KINDS: [HashKind; 3] = [HashKind::Sha1, HashKind::Sha256, HashKind::Sha512];

    /// Makes a verifier for `password` with a fresh salt. Takes as long as a hash.
    pub fn new(kind: HashKind, password: &str) -> Result<ScramVerifier, getrandom::Error> {
        let mut salt = vec![0u8; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(Self::derive(kind, password.as_bytes(), salt, ITERATIONS))
    }

    fn derive(kind: HashKind, password: &[u8], salt: Vec<u8>, iterations: u32) -> ScramVerifier {
        let prepared =
            std::str::from_utf8(password).ok().and_then(|p| stringprep::saslprep(p).ok());
        let password = prepared.as_deref().map_or(password, str::as_bytes);
        let salted = kind.pbkdf2(password, &salt, iterations);
        let stored_key = kind.digest(&kind.hmac(&salted, b"Client Key"));
        let server_key = kind.hmac(&salted, b"Server Key");
        ScramVerifier { kind, iterations, salt, stored_key, server_key }
    }

    /// A verifier that no password fits, always the same for one `secret` and `user`.
    pub fn decoy(kind: HashKind, secret: &[u8; 32], user: &str) -> ScramVerifier {
        let mut salt = HashKind::Sha512.hmac(secret, user.as_bytes());
        salt.truncate(SALT_BYTES);
        let stored_key = kind.hmac(secret, &salt);
        ScramVerifier {
            kind,
            iterations: ITERATIONS,
            salt,
            server_key: stored_key.clone(),
            stored_key,
        }
    }

    /// Reads `iterations,salt,stored key,server key`, the last three in base64.
    pub fn parse(kind: HashKind, text: &str) -> Option<ScramVerifier> {
        let mut fields = text.split(',');
        let iterations: u32 = fields.next()?.parse().ok()?;
        let mut bytes = || BASE64.decode(fields.next()?).ok();
        let (salt, stored_key, server_key) = (bytes()?, bytes()?, bytes()?);
        let good = fields.next().is_none()
            && (1..=ITERATIONS_MAX).contains(&iterations)
            && !salt.is_empty()
            && stored_key.len() == kind.bytes()
            && server_key.len() == kind.bytes();
        good.then_some(ScramVerifier { kind, iterations, salt, stored_key, server_key })
    }

    /// Which hash.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// Whether a password in clear fits. Takes as long as a hash.
    pub fn check(&self, password: &[u8]) -> bool {
        let other = Self::derive(self.kind, password, self.salt.clone(), self.iterations);
        other.stored_key.ct_eq(&self.stored_key).into()
    }
}

impl std::fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] =
            [&self.salt, &self.stored_key, &self.server_key].map(|b| BASE64.encode(b));
        write!(f, "{},{salt},{stored},{server}", self.iterations)
    }
}

/// What the client says about channel binding: RFC 5802 section 6.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BindingFlag {
    /// `n`: it can't.
    Unable,
    /// `y`: it could, but believes that we can't.
    BelievesWeCannot,
    /// `p=name`: it uses this one.
    Uses(String),
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    flag: BindingFlag,
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
        let bad = AuthError::Malformed("a SCRAM client-first-message");
        let mut parts = text.splitn(3, ',');
        let (flag, authzid, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag), Some(authzid), Some(bare)) => (flag, authzid, bare),
            _ => return Err(bad),
        };
        let flag = match (flag, flag.strip_prefix("p=")) {
            ("n", _) => BindingFlag::Unable,
            ("y", _) => BindingFlag::BelievesWeCannot,
            (_, Some(name)) if !name.is_empty() => BindingFlag::Uses(name.to_owned()),
            _ => return Err(bad),
        };
        let authzid = match authzid {
            "" => None,
            named => Some(named.strip_prefix("a=").and_then(sasl_name).ok_or(bad.clone())?),
        };
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|f| f.strip_prefix("n=")).and_then(sasl_name);
        let nonce = fields.next().and_then(|f| f.strip_prefix("r=")).filter(|n| {
            // RFC 5802 section 7: printable, no comma.
            !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic())
        });
        match (user, nonce) {
            (Some(user), Some(nonce)) => Ok(ClientFirst {
                flag,
                gs2_header: text.get(..text.len() - bare.len()).unwrap_or_default().to_owned(),
                bare: bare.to_owned(),
                nonce: nonce.to_owned(),
                user,
                authzid,
            }),
            _ => Err(bad),
        }
    }

    /// What the client's final message must have in `c=`, in base64.
    ///
    /// # Errors
    /// A mechanism with `-PLUS` needs a binding that this channel has, one without it must have
    /// none. A client that could bind, but was made believe that we can't (`y`), has met somebody
    /// who took `-PLUS` out of our list.
    fn binding(&self, plus: bool, channel: &Channel) -> Result<String, AuthError> {
        let mut bytes = self.gs2_header.clone().into_bytes();
        match (&self.flag, plus) {
            (BindingFlag::Uses(name), true) => bytes.extend_from_slice(
                channel
                    .binding(name)
                    .ok_or(AuthError::Binding("tls-exporter or tls-server-end-point"))?,
            ),
            (BindingFlag::Unable, false) => {}
            (BindingFlag::BelievesWeCannot, false) if !channel.offers_plus => {}
            (BindingFlag::BelievesWeCannot, false) => {
                return Err(AuthError::Binding("a -PLUS mechanism, which this server offers"));
            }
            (BindingFlag::Uses(_), false) => {
                return Err(AuthError::Binding("a -PLUS mechanism for channel binding"));
            }
            (_, true) => return Err(AuthError::Binding("channel binding with -PLUS")),
        }
        Ok(BASE64.encode(bytes))
    }

    /// Answers with the server's first message.
    ///
    /// # Errors
    /// The channel binding is not to be had; or the system gives no random numbers.
    pub fn answer(
        self,
        verifier: ScramVerifier,
        plus: bool,
        channel: &Channel,
    ) -> Result<(ServerFirst, Vec<u8>), AuthError> {
        let mut random = [0u8; NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|_| AuthError::Busy)?;
        self.answer_with(verifier, plus, channel, &BASE64.encode(random))
    }

    fn answer_with(
        self,
        verifier: ScramVerifier,
        plus: bool,
        channel: &Channel,
        random: &str,
    ) -> Result<(ServerFirst, Vec<u8>), AuthError> {
        let binding = self.binding(plus, channel)?;
        let nonce = format!("{}{random}", self.nonce);
        let salt = BASE64.encode(&verifier.salt);
        let message = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let server = ServerFirst {
            verifier,
            binding,
            auth_message: format!("{},{message}", self.bare),
            nonce,
        };
        Ok((server, message.into_bytes()))
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
        let kind = self.verifier.kind;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(bad.clone())?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|f| f.strip_prefix("c="));
        let nonce = fields.next().and_then(|f| f.strip_prefix("r="));
        let proof =
            BASE64.decode(proof).ok().filter(|p| p.len() == kind.bytes()).ok_or(bad.clone())?;
        if nonce != Some(&*self.nonce) || binding.is_none() {
            return Err(bad);
        }
        // Another channel: somebody stands between the client and us.
        if binding != Some(&*self.binding) {
            return Err(AuthError::Binding("the channel binding of this connection"));
        }
        let auth_message = format!("{},{without_proof}", self.auth_message);
        let signature = kind.hmac(&self.verifier.stored_key, auth_message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        let stored_key = kind.digest(&client_key);
        if !bool::from(stored_key.ct_eq(&self.verifier.stored_key)) {
            return Err(AuthError::Wrong);
        }
        let server = kind.hmac(&self.verifier.server_key, auth_message.as_bytes());
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
pub(crate) fn sasl_name(text: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pencil(kind: HashKind, salt: &str) -> ScramVerifier {
        ScramVerifier::derive(kind, b"pencil", BASE64.decode(salt).unwrap(), 4096)
    }

    /// The exchange of RFC 7677 section 3.
    fn rfc_verifier() -> ScramVerifier {
        pencil(HashKind::Sha256, "W22ZaJ0SNY7soEsUEjb6gQ==")
    }

    const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn first(message: &str) -> ClientFirst {
        ClientFirst::parse(message.as_bytes()).unwrap()
    }

    #[test]
    fn replays_the_rfc_7677_exchange() {
        let first = first("n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first.user, "user");
        let (server, message) = first
            .answer_with(
                rfc_verifier(),
                false,
                &Channel::default(),
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            )
            .unwrap();
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
    fn replays_the_rfc_5802_exchange() {
        let verifier = pencil(HashKind::Sha1, "QSXCR+Q6sek8bf92");
        let (server, message) = first("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
            .answer_with(verifier, false, &Channel::default(), "3rfcNHYJY1ZVvWVs7j")
            .unwrap();
        assert_eq!(
            message,
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
        );
        let last = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
                     p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
        assert_eq!(server.finish(last).unwrap(), b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    }

    /// The client's side of a whole exchange, with `c=` of its own choice.
    fn prove(
        kind: HashKind,
        head: &str,
        bound: &[u8],
        plus: bool,
        channel: &Channel,
    ) -> Result<(), AuthError> {
        let bare = "n=user,r=abc";
        let verifier = pencil(kind, "QSXCR+Q6sek8bf92");
        let (server, message) =
            first(&format!("{head}{bare}")).answer_with(verifier, plus, channel, "def")?;
        let mut cbind = head.as_bytes().to_vec();
        cbind.extend_from_slice(bound);
        let without = format!("c={},r=abcdef", BASE64.encode(cbind));
        let salted = kind.pbkdf2(b"pencil", &BASE64.decode("QSXCR+Q6sek8bf92").unwrap(), 4096);
        let key = kind.hmac(&salted, b"Client Key");
        let all = format!("{bare},{},{without}", String::from_utf8(message).unwrap());
        let signature = kind.hmac(&kind.digest(&key), all.as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        server.finish(format!("{without},p={}", BASE64.encode(proof)).as_bytes()).map(drop)
    }

    #[test]
    fn channel_bindings_bind() {
        let channel = Channel {
            exporter: Some([7; 32]),
            end_point: Some(vec![9; 32]),
            offers_plus: true,
            ..Channel::default()
        };
        let bare = Channel::default();
        for kind in ScramVerifier::KINDS {
            assert_eq!(prove(kind, "p=tls-exporter,,", &[7; 32], true, &channel), Ok(()));
            assert_eq!(prove(kind, "p=tls-server-end-point,,", &[9; 32], true, &channel), Ok(()));
            assert_eq!(prove(kind, "n,,", b"", false, &channel), Ok(()));
            assert_eq!(prove(kind, "y,,", b"", false, &bare), Ok(()));
            for (head, bound, plus, channel) in [
                // Another channel than ours.
                ("p=tls-exporter,,", &[8; 32][..], true, &channel),
                ("p=tls-exporter,,", &[9; 32], true, &channel),
                ("p=tls-exporter,,", b"", true, &channel),
                // A name that we have not.
                ("p=tls-unique,,", &[7; 32], true, &channel),
                ("p=tls-exporter,,", &[7; 32], true, &bare),
                // Binding with the wrong mechanism, and none with -PLUS.
                ("p=tls-exporter,,", &[7; 32], false, &channel),
                ("n,,", b"", true, &channel),
                ("y,,", b"", true, &channel),
                // Somebody took -PLUS out of the list.
                ("y,,", b"", false, &channel),
            ] {
                let result = prove(kind, head, bound, plus, channel);
                assert!(matches!(result, Err(AuthError::Binding(_))), "{head} {plus}");
            }
        }
    }

    #[test]
    fn a_stored_verifier_reads_back_and_checks() {
        for kind in ScramVerifier::KINDS {
            let verifier = pencil(kind, "QSXCR+Q6sek8bf92");
            assert_eq!(ScramVerifier::parse(kind, &verifier.to_string()), Some(verifier.clone()));
            assert!(verifier.check(b"pencil"));
            assert!(!verifier.check(b"pencils"));
            for bad in ["", "4096", "0,AA==,AA==,AA==", "4096,,,", "4096,W22Z,AA==,AA=="] {
                assert_eq!(ScramVerifier::parse(kind, bad), None, "{bad}");
            }
        }
    }

    #[test]
    fn bad_first_messages_are_refused() {
        for bad in [
            "",
            "n",
            "n,,",
            "p=,,n=u,r=x",
            "q,,n=u,r=x",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=u,r=a b",
            "n,,r=x,n=u",
            "n,b=x,n=u,r=x",
            "n,,n=a=2c,r=x",
            "n,,m=x,n=u,r=x",
        ] {
            assert!(ClientFirst::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(ClientFirst::parse(b"n,,n=\xff,r=x").is_err());
        let named = first("y,a=x=2Cy,n=a=3Db,r=x");
        assert_eq!((named.user.as_str(), named.authzid.as_deref()), ("a=b", Some("x,y")));
    }

    #[test]
    fn a_decoy_is_stable_and_fits_nothing() {
        let decoy = |user| ScramVerifier::decoy(HashKind::Sha256, &[7; 32], user);
        assert_eq!(decoy("jo"), decoy("jo"));
        assert_ne!(decoy("jo"), decoy("mo"));
    }
}
