//! Token introspection (RFC 7662): the authorisation server is asked about each token, over a unix
//! socket or HTTP on this machine.
//!
//! HTTP/1.0 in clear, one request a connection: what is needed here and no more. Nothing that
//! leaves the machine: the configuration takes loopback addresses only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::directory::{AuthError, BoxFuture};
use crate::token::{Claims, TokenCheck, unavailable};

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Longest time for one question.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Where the authorisation server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// On a unix socket; the path that is asked for is `/introspect`.
    Unix(PathBuf),
    /// By HTTP on a loopback address.
    Http {
        /// Where.
        address: SocketAddr,
        /// Which path, with its slash.
        path: String,
    },
}

impl Endpoint {
    /// Reads `unix:/path` or `http://127.0.0.1:port/path`. `None` for anything else, also for an
    /// address of another machine.
    pub fn parse(text: &str) -> Option<Endpoint> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
        }
        let (address, path) = text.strip_prefix("http://")?.split_once('/')?;
        let address = address.replace("localhost", "127.0.0.1");
        let address: SocketAddr = match address.parse() {
            Ok(address) => address,
            Err(_) => SocketAddr::new(address.trim_matches(['[', ']']).parse().ok()?, 80),
        };
        let good = address.ip().is_loopback() && path.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| Endpoint::Http { address, path: format!("/{path}") })
    }
}

/// Asks about tokens.
#[derive(Debug)]
pub struct Introspection {
    endpoint: Endpoint,
    /// `Authorization: Basic …`, or nothing.
    authorization: String,
    claims: Claims,
}

impl Introspection {
    /// `client` and `secret` authenticate us to the authorisation server; both may be empty.
    pub fn new(endpoint: Endpoint, client: &str, secret: &str, claims: Claims) -> Introspection {
        let authorization = match client.is_empty() {
            true => String::new(),
            false => format!(
                "Authorization: Basic {}\r\n",
                BASE64.encode(format!("{}:{}", form(client), form(secret)))
            ),
        };
        Introspection { endpoint, authorization, claims }
    }

    async fn ask(&self, token: &str) -> Result<String, AuthError> {
        let body = format!("token={}&token_type_hint=access_token", form(token));
        let (host, path) = match &self.endpoint {
            Endpoint::Unix(_) => ("localhost".to_owned(), "/introspect"),
            Endpoint::Http { address, path } => (address.to_string(), path.as_str()),
        };
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {host}\r\n{}Accept: application/json\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        let exchange = async {
            match &self.endpoint {
                Endpoint::Unix(path) => exchange(UnixStream::connect(path).await?, &request).await,
                Endpoint::Http { address, .. } => {
                    exchange(TcpStream::connect(address).await?, &request).await
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, exchange)
            .await
            .map_err(|_| unavailable("no answer in time"))?
            .map_err(unavailable)?;
        let claims = read_answer(&answer).map_err(unavailable)?;
        if claims.get("active") != Some(&Value::Bool(true)) || is_over(&claims) {
            return Err(AuthError::Wrong);
        }
        self.claims.user(&claims).ok_or(AuthError::Wrong)
    }
}

impl TokenCheck for Introspection {
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<String, AuthError>> {
        Box::pin(self.ask(token))
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn read_answer(answer: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let text = std::str::from_utf8(answer).map_err(|_| "expected an answer in UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("expected an HTTP answer")?;
    let status = head.strip_prefix("HTTP/1.").and_then(|h| h.split(' ').nth(1));
    if status != Some("200") {
        return Err("expected the HTTP status 200");
    }
    serde_json::from_str(body).map_err(|_| "expected a JSON object")
}

/// Whether `exp` has passed: a server may answer from a cache.
fn is_over(claims: &Map<String, Value>) -> bool {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
    claims.get("exp").and_then(Value::as_u64).is_some_and(|exp| exp <= now)
}

/// `application/x-www-form-urlencoded`.
fn form(text: &str) -> String {
    let one = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || b"-._*".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_on_this_machine() {
        assert_eq!(Endpoint::parse("unix:/run/o"), Some(Endpoint::Unix("/run/o".into())));
        for (text, port, path) in [
            ("http://127.0.0.1:8080/oauth/introspect", 8080, "/oauth/introspect"),
            ("http://localhost/x", 80, "/x"),
            ("http://[::1]:81/", 81, "/"),
        ] {
            let Some(Endpoint::Http { address, path: p }) = Endpoint::parse(text) else {
                panic!("{text}")
            };
            assert_eq!((address.port(), &*p), (port, path));
        }
        for bad in ["", "unix:", "https://127.0.0.1/x", "http://192.0.2.1/x", "http://h/ x"] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }

    async fn ask(answer: &'static str, token: &str) -> (Result<String, AuthError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let claims = Claims { user_claim: "username".into(), ..Claims::default() };
        let asker = Introspection::new(Endpoint::Unix(path), "us", "p:w", claims);
        tokio::join!(asker.check(token), served)
    }

    #[tokio::test]
    async fn the_server_is_asked_and_believed() {
        // RFC 7662 section 2.2.
        let (said, request) = ask(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\
             {\"active\": true, \"username\": \"jdoe\", \"scope\": \"read write\"}",
            "mF_9.B5f-4.1JqM+/",
        )
        .await;
        assert_eq!(said, Ok("jdoe".to_owned()));
        assert!(request.starts_with("POST /introspect HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("Authorization: Basic dXM6cCUzQXc=\r\n"), "{request}");
        assert!(request.contains("\r\n\r\ntoken=mF_9.B5f-4.1JqM%2B%2F&"), "{request}");
        for (answer, wrong) in [
            ("HTTP/1.1 200 OK\r\n\r\n{\"active\": false}", true),
            ("HTTP/1.1 200 OK\r\n\r\n{\"active\": true, \"username\": \"x\", \"exp\": 1}", true),
            ("HTTP/1.1 200 OK\r\n\r\n{\"active\": true}", true),
            ("HTTP/1.1 401 No\r\n\r\n{\"active\": true, \"username\": \"x\"}", false),
            ("HTTP/1.1 200 OK\r\n\r\nactive", false),
            ("", false),
        ] {
            let error = ask(answer, "t").await.0.unwrap_err();
            assert_eq!(error == AuthError::Wrong, wrong, "{answer}: {error}");
        }
    }
}
