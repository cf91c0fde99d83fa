use super::*;
use crate::authenticator::Settings;
use crate::limit::Origin;
use crate::name::UserName;
use crate::users::{self, NewUser, UserFile};

const SCRAM: Mechanism = Mechanism::Scram { hash: HashKind::Sha256, plus: false };
fn context() -> Context {
    Context { origin: Origin::Local, service: "test", listener: "tests".into() }
}

fn authenticator() -> (tempfile::TempDir, Arc<Authenticator>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let user = NewUser::with_password(UserName::new("jo").unwrap(), "geheim", "", "", &[]).unwrap();
    users::edit(&path, |d| d.add(user)).unwrap();
    let file = Arc::new(UserFile::open(&path).unwrap());
    let failure_delay_first = std::time::Duration::ZERO;
    let settings = Settings { failure_delay_first, ..Settings::default() };
    let auth = Authenticator::start(file.clone(), file, settings).unwrap();
    (dir, auth)
}

/// Sends `responses` in turn; gives the last step.
async fn run(auth: &Arc<Authenticator>, mechanism: Mechanism, responses: &[Option<&[u8]>]) -> Step {
    let mut exchange = auth.begin(mechanism, context(), Channel::default());
    let mut step = Step::Failed(AuthError::Busy);
    for response in responses {
        step = exchange.step(*response).await;
    }
    step
}

fn is_jo(step: &Step) -> bool {
    matches!(step, Step::Done(account) if account.name.as_str() == "jo")
}

#[tokio::test]
async fn plain_with_and_without_initial_response() {
    let (_dir, auth) = authenticator();
    let good: &[u8] = b"\0jo\0geheim";
    assert!(is_jo(&run(&auth, Mechanism::Plain, &[Some(good)]).await));
    let first = run(&auth, Mechanism::Plain, &[None]).await;
    assert_eq!(first, Step::Challenge(vec![]));
    assert!(is_jo(&run(&auth, Mechanism::Plain, &[None, Some(good)]).await));
    assert!(is_jo(&run(&auth, Mechanism::Plain, &[Some(b"JO\0jo\0geheim")]).await));
    let step = run(&auth, Mechanism::Plain, &[Some(b"mo\0jo\0geheim")]).await;
    assert_eq!(step, Step::Failed(AuthError::Denied));
    for wrong in [&b"mo\0jo\0wrong"[..], b"\0jo\0Geheim", b"\0\0", b"\0mo\0geheim"] {
        let step = run(&auth, Mechanism::Plain, &[Some(wrong)]).await;
        assert_eq!(step, Step::Failed(AuthError::Wrong), "{wrong:?}");
    }
    for bad in [&b""[..], b"jo", b"\0jo", b"\0jo\0ge\0heim", b"\0\xff\0geheim"] {
        let step = run(&auth, Mechanism::Plain, &[Some(bad)]).await;
        assert!(matches!(step, Step::Failed(AuthError::Malformed(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn login_asks_twice() {
    let (_dir, auth) = authenticator();
    let all: [Option<&[u8]>; 3] = [None, Some(b"jo"), Some(b"geheim")];
    assert_eq!(run(&auth, Mechanism::Login, &all[..1]).await, challenge("Username:"));
    assert_eq!(run(&auth, Mechanism::Login, &all[..2]).await, challenge("Password:"));
    assert!(is_jo(&run(&auth, Mechanism::Login, &all).await));
    assert!(is_jo(&run(&auth, Mechanism::Login, &all[1..]).await));
}

fn challenge(text: &str) -> Step {
    Step::Challenge(text.as_bytes().to_vec())
}

/// The client's side, for the password "geheim".
fn client_final(server_first: &str, password: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    let field = |p| server_first.split(',').find_map(|f| f.strip_prefix(p)).unwrap();
    let (nonce, iterations) = (field("r="), field("i=").parse().unwrap());
    let salt = BASE64.decode(field("s=")).unwrap();
    let kind = HashKind::Sha256;
    let client_key = kind.hmac(&kind.pbkdf2(password.as_bytes(), &salt, iterations), b"Client Key");
    let message = format!("n=jo,r=abc,{server_first},c=biws,r={nonce}");
    let signature = kind.hmac(&kind.digest(&client_key), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("c=biws,r={nonce},p={}", BASE64.encode(proof))
}

async fn scram(auth: &Arc<Authenticator>, password: &str) -> Step {
    let mut exchange = auth.begin(SCRAM, context(), Channel::default());
    let Step::Challenge(first) = exchange.step(Some(b"n,,n=jo,r=abc")).await else {
        panic!("no server-first-message");
    };
    let last = client_final(std::str::from_utf8(&first).unwrap(), password);
    match exchange.step(Some(last.as_bytes())).await {
        Step::Challenge(proof) => {
            assert!(proof.starts_with(b"v="));
            exchange.step(Some(b"")).await
        }
        other => other,
    }
}

#[tokio::test]
async fn scram_proves_both_sides() {
    let (_dir, auth) = authenticator();
    assert!(is_jo(&scram(&auth, "geheim").await));
    assert_eq!(scram(&auth, "Geheim").await, Step::Failed(AuthError::Wrong));
}

#[tokio::test]
async fn scram_does_not_tell_who_exists() {
    let (_dir, auth) = authenticator();
    let mut salts = Vec::new();
    for user in ["nobody", "nobody", "jo"] {
        let first = format!("n,,n={user},r=abc");
        let step = run(&auth, SCRAM, &[Some(first.as_bytes())]).await;
        let Step::Challenge(answer) = step else { panic!("{user} is told apart") };
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with(",i=32768"), "{answer}");
        salts.push(answer.split(',').nth(1).unwrap().to_owned());
    }
    assert_eq!(salts[0], salts[1]);
}

/// With `jo` and `boss` (may act as everybody), who have every secret, and settings of choice.
fn with_secrets(change: impl FnOnce(&mut Settings)) -> (tempfile::TempDir, Arc<Authenticator>) {
    use crate::credential::SecretKind;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let user = |name, attributes| {
        let name = UserName::new(name).unwrap();
        let kinds = &SecretKind::ALL[..6];
        NewUser::with_password(name, "geheim", attributes, "here", kinds).unwrap()
    };
    let clear = NewUser::with_hash(UserName::new("clear").unwrap(), "{PLAIN.B64}Z2VoZWlt", "");
    users::edit(&path, |d| d.add_all([user("jo", ""), user("boss", "proxy=all"), clear?])).unwrap();
    let file = Arc::new(UserFile::open(&path).unwrap());
    let mut settings = Settings {
        failure_delay_first: std::time::Duration::ZERO,
        realm: "here".into(),
        ..Settings::default()
    };
    change(&mut settings);
    (dir, Authenticator::start(file.clone(), file, settings).unwrap())
}

async fn begin(auth: &Arc<Authenticator>, mechanism: Mechanism) -> (Exchange, String) {
    let channel = Channel { host: "host".into(), ..Channel::default() };
    let mut exchange = auth.begin(mechanism, context(), channel);
    let Step::Challenge(challenge) = exchange.step(None).await else { panic!("no challenge") };
    (exchange, String::from_utf8(challenge).unwrap())
}

#[tokio::test]
async fn cram_answers_a_challenge_that_is_never_the_same() {
    let (_dir, auth) = with_secrets(|_| {});
    for hash in crate::hash::HmacKey::KINDS {
        let mut seen = std::collections::HashSet::new();
        for (user, password, good) in [
            ("jo", "geheim", true),
            ("clear", "geheim", true),
            ("jo", "anders", false),
            ("nobody", "geheim", false),
        ] {
            let (mut exchange, challenge) = begin(&auth, Mechanism::Cram(hash)).await;
            assert!(challenge.starts_with('<') && challenge.ends_with("@host>"), "{challenge}");
            let mac = hex(&hash.hmac(password.as_bytes(), challenge.as_bytes()));
            let step = exchange.step(Some(format!("{user} {mac}").as_bytes())).await;
            assert_eq!(matches!(step, Step::Done(_)), good, "{user} {step:?}");
            assert!(good || step == Step::Failed(AuthError::Wrong));
            assert!(seen.insert(challenge));
        }
    }
    let (mut exchange, _) = begin(&auth, Mechanism::Cram(HashKind::Md5)).await;
    let step = exchange.step(Some(b"nothing")).await;
    assert!(matches!(step, Step::Failed(AuthError::Malformed(_))));
    let early = run(&auth, Mechanism::Cram(HashKind::Md5), &[Some(b"jo x")]).await;
    assert!(matches!(early, Step::Failed(AuthError::Malformed(_))));
}

#[tokio::test]
async fn digest_md5_proves_both_sides() {
    let (_dir, auth) = with_secrets(|_| {});
    for (user, password, authzid, by) in [
        ("jo", "geheim", "", Some(None)),
        ("clear", "geheim", "", Some(None)),
        ("boss", "geheim", "jo", Some(Some("boss"))),
        ("jo", "geheim", "boss", None),
        ("jo", "anders", "", None),
        ("nobody", "geheim", "", None),
    ] {
        let (mut exchange, challenge) = begin(&auth, Mechanism::DigestMd5).await;
        let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
        let head = format!(
            "username=\"{user}\",realm=\"here\",nonce=\"{nonce}\",nc=00000001,\
            cnonce=\"c\",digest-uri=\"test/host\",qop=auth,authzid=\"{authzid}\""
        );
        let secret = digest_md5::secret(user, "here", password);
        let colon = |parts: &[&[u8]]| hex(&HashKind::Md5.digest(&parts.join(&b':')));
        let mut a1 = vec![&secret[..], nonce.as_bytes(), b"c"];
        if !authzid.is_empty() {
            a1.push(authzid.as_bytes());
        }
        let (a1, a2) = (colon(&a1), colon(&[b"AUTHENTICATE", b"test/host"]));
        let parts = [&*a1, nonce, "00000001", "c", "auth", &*a2].map(str::as_bytes);
        let last = format!("{head},response={}", colon(&parts));
        let step = exchange.step(Some(last.as_bytes())).await;
        match by {
            Some(by) => {
                let Step::Challenge(proof) = step else { panic!("{user}: {step:?}") };
                assert!(proof.starts_with(b"rspauth="));
                let Step::Done(account) = exchange.step(Some(b"")).await else { panic!() };
                assert_eq!(account.by.as_ref().map(|n| n.as_str()), by);
            }
            None => assert!(
                matches!(step, Step::Failed(AuthError::Wrong | AuthError::Denied)),
                "{user}"
            ),
        }
    }
}

#[tokio::test]
async fn masters_act_as_others_and_nobody_else_does() {
    let (_dir, auth) = with_secrets(|s| s.master_separator = Some('*'));
    let act = async |message: &str| {
        let step = run(&auth, Mechanism::Plain, &[Some(message.as_bytes())]).await;
        match step {
            Step::Done(a) => Ok((a.name.to_string(), a.by.map(|n| n.to_string()))),
            Step::Failed(error) => Err(error),
            Step::Challenge(_) => panic!(),
        }
    };
    let boss = || Some("boss".to_owned());
    assert_eq!(act("jo\0boss\0geheim").await, Ok(("jo".into(), boss())));
    assert_eq!(act("\0jo*boss\0geheim").await, Ok(("jo".into(), boss())));
    assert_eq!(act("\0boss\0geheim").await, Ok(("boss".into(), None)));
    assert_eq!(act("nobody\0boss\0geheim").await, Err(AuthError::Denied));
    assert_eq!(act("boss\0jo\0geheim").await, Err(AuthError::Denied));
    assert_eq!(act("\0boss*jo\0geheim").await, Err(AuthError::Denied));
    assert_eq!(act("jo\0boss\0anders").await, Err(AuthError::Wrong));
    let plain = auth.plain("jo*boss", b"geheim", &context()).await.unwrap();
    assert_eq!(plain.name.as_str(), "jo");
}

#[tokio::test]
async fn certificates_name_users() {
    let (_dir, auth) = with_secrets(|_| {});
    let external = async |names: &[&str], authzid: &[u8]| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        let channel = Channel { certificate_users: names, ..Channel::default() };
        auth.begin(Mechanism::External, context(), channel).step(Some(authzid)).await
    };
    assert!(is_jo(&external(&["jo"], b"").await));
    assert!(is_jo(&external(&["unknown", "not a name", "jo"], b"").await));
    assert!(is_jo(&external(&["jo"], b"jo").await));
    assert!(is_jo(&external(&["boss"], b"jo").await));
    assert_eq!(external(&["jo"], b"boss").await, Step::Failed(AuthError::Denied));
    assert_eq!(external(&["nobody"], b"").await, Step::Failed(AuthError::Wrong));
    assert_eq!(external(&[], b"jo").await, Step::Failed(AuthError::Wrong));
}

#[tokio::test]
async fn anonymous_reads_one_account() {
    let jo = UserName::new("jo").unwrap();
    let (_dir, auth) = with_secrets(|s| s.anonymous_user = Some(jo));
    let step = run(&auth, Mechanism::Anonymous, &[Some(b"sirhc")]).await;
    let Step::Done(account) = step else { panic!("{step:?}") };
    assert!(account.name.as_str() == "jo" && account.attributes.read_only);
    let long = "x".repeat(256);
    let step = run(&auth, Mechanism::Anonymous, &[Some(long.as_bytes())]).await;
    assert!(matches!(step, Step::Failed(AuthError::Malformed(_))));
    let (_dir, without) = with_secrets(|_| {});
    assert!(!without.can(Mechanism::Anonymous) && !without.can(Mechanism::OAuthBearer));
    let step = run(&without, Mechanism::Anonymous, &[Some(b"")]).await;
    assert_eq!(step, Step::Failed(AuthError::Disabled));
}

/// Takes the user's name for the token.
#[derive(Debug)]
struct NameIsToken;

impl crate::token::TokenCheck for NameIsToken {
    fn check<'a>(
        &'a self,
        token: &'a str,
    ) -> crate::directory::BoxFuture<'a, Result<String, AuthError>> {
        Box::pin(async move {
            match token {
                "bad" => Err(AuthError::Wrong),
                "down" => Err(crate::token::unavailable("down")),
                name => Ok(name.to_owned()),
            }
        })
    }
}

#[tokio::test]
async fn tokens_log_in_and_a_refusal_says_why() {
    let (_dir, auth) = with_secrets(|s| s.tokens = Some(Arc::new(NameIsToken)));
    for mechanism in [Mechanism::OAuthBearer, Mechanism::XOAuth2] {
        let message = |named: &str, token: &str| match mechanism {
            Mechanism::XOAuth2 => format!("user={named}\x01auth=Bearer {token}\x01\x01"),
            _ => format!("n,a={named},\x01auth=Bearer {token}\x01\x01"),
        };
        for (named, token) in [("jo", "jo"), ("jo", "boss")] {
            let message = message(named, token);
            assert!(is_jo(&run(&auth, mechanism, &[Some(message.as_bytes())]).await));
        }
        for (named, token, status, error) in [
            ("jo", "bad", "invalid_token", AuthError::Wrong),
            ("nobody", "nobody", "invalid_token", AuthError::Wrong),
            ("boss", "jo", "insufficient_scope", AuthError::Denied),
        ] {
            let message = message(named, token);
            let step = run(&auth, mechanism, &[Some(message.as_bytes())]).await;
            let Step::Challenge(json) = step else { panic!("{named}: {step:?}") };
            let json = String::from_utf8(json).unwrap();
            assert!(json.contains(&format!("\"status\":\"{status}\"")), "{json}");
            let step = run(&auth, mechanism, &[Some(message.as_bytes()), Some(b"\x01")]).await;
            assert_eq!(step, Step::Failed(error), "{named}");
        }
        let message = message("jo", "down");
        let step = run(&auth, mechanism, &[Some(message.as_bytes())]).await;
        assert!(matches!(step, Step::Failed(AuthError::Unavailable(_))), "{step:?}");
    }
}

#[tokio::test]
async fn apop_needs_the_password_itself() {
    let (_dir, auth) = with_secrets(|_| {});
    let stamp = "<1896.697170952@dbc.mtview.ca.us>";
    let digest = |password| hex(&HashKind::Md5.digest(format!("{stamp}{password}").as_bytes()));
    // RFC 1939 section 7.
    assert_eq!(digest("tanstaaf"), "c4c9334bac560ecc979e58001b3e22fb");
    let apop = async |user: &str, password| {
        auth.apop(user, stamp, digest(password).as_bytes(), &context()).await.map(|a| a.name)
    };
    assert_eq!(apop("clear", "geheim").await.unwrap().as_str(), "clear");
    for (user, password) in [("clear", "anders"), ("jo", "geheim"), ("nobody", "geheim")] {
        assert_eq!(apop(user, password).await, Err(AuthError::Wrong), "{user}");
    }
}
