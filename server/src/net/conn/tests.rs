use std::future::Future;

use config::{Config, ListenerAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

fn conn(dir: &std::path::Path, limits: Limits) -> (Conn, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let config = Config::embedded(dir);
    let core = NetCore { pool: BufferPool::new(), tls: Arc::new(TlsSwitch::new(&config).unwrap()) };
    let listener = Listener {
        protocol: Protocol::Imap,
        address: ListenerAddress::from("127.0.0.1:0".to_owned()),
        tls: TlsMode::Starttls,
        plain_login: PlainLogin::Never,
    };
    let socket = Socket::Unix(near);
    (Conn::new(socket, Peer::Unix, Arc::new(listener), &limits, Rc::new(core), None), far)
}

fn tls_client(dir: &std::path::Path) -> tokio_rustls::TlsConnector {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls_pki_types::CertificateDer::from_pem_file(dir.join("self-signed.crt"));
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client).into()
}

#[test]
fn a_dropped_fill_loses_nothing() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut conn, mut far) = conn(dir.path(), Limits::default());
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(5), conn.fill()).await.is_err());
        }
        far.write_all(b"a noop\r\n").await.unwrap();
        assert_eq!(conn.fill().await.unwrap(), 8);
        assert_eq!(conn.input(), b"a noop\r\n");
        conn.consume(8);
        drop(far);
        assert_eq!(conn.fill().await.unwrap(), 0);
    });
}

#[test]
fn unconsumed_input_is_bounded() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { command_bytes_max: 100, ..Limits::default() };
        let (mut conn, mut far) = conn(dir.path(), limits);
        far.write_all(&[b'x'; 150]).await.unwrap();
        assert_eq!(conn.fill().await.unwrap(), 100);
        assert_eq!(conn.fill().await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        conn.consume(50);
        assert_eq!(conn.fill().await.unwrap(), 50);
    });
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { write_stall_seconds_max: 1, ..Limits::default() };
        let (mut conn, _far) = conn(dir.path(), limits);
        conn.out.push_vec(vec![0; 8 << 20]);
        assert_eq!(conn.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn plain_bytes_behind_starttls_are_refused() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut conn, mut far) = conn(dir.path(), Limits::default());
        far.write_all(b"a STARTTLS\r\nb LOGIN x y\r\n").await.unwrap();
        conn.fill().await.unwrap();
        conn.consume(12);
        assert!(conn.start_tls().await.is_err());
    });
}

#[test]
fn tls_carries_much_both_ways() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut conn, far) = conn(dir.path(), Limits::default());
        let client = tls_client(dir.path());
        assert!(!conn.may_log_in() && conn.may_start_tls());
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(conn.start_tls(), client.connect(name, far));
        near.unwrap();
        assert!(conn.may_log_in() && !conn.may_start_tls() && conn.exporter().is_some());
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = tokio::io::split(far.unwrap());
        let serve = async {
            let mut seen = 0;
            while seen < sent.len() {
                assert_ne!(conn.fill().await.unwrap(), 0);
                let bytes = conn.input().to_vec();
                seen += bytes.len();
                conn.consume(bytes.len());
                conn.out.push(&bytes);
                conn.flush().await.unwrap();
            }
            conn.close().await;
        };
        let mut back = Vec::new();
        let write = async {
            write.write_all(&sent).await.unwrap();
            write.flush().await.unwrap();
        };
        let (_, (), done) = tokio::join!(serve, write, read.read_to_end(&mut back));
        done.unwrap();
        assert!(back == sent, "{} bytes came back of {}", back.len(), sent.len());
    });
}

#[test]
fn a_slow_handshake_ends() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { tls_handshake_seconds_max: 1, ..Limits::default() };
        let (mut conn, _far) = conn(dir.path(), limits);
        assert_eq!(conn.start_tls().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(conn.fill().await.unwrap(), 0);
    });
}
