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
    let core = NetCore {
        pool: BufferPool::new(),
        deflate: DeflatePool::default(),
        busy_poll: Rc::default(),
        tls: Arc::new(TlsSwitch::new(&config).unwrap()),
    };
    let listener = Listener {
        tls: TlsMode::Starttls,
        plain_login: PlainLogin::Never,
        ..Listener::new(Protocol::Imap, ListenerAddress::from("127.0.0.1:0".to_owned()))
    };
    let socket = Socket::Unix(near);
    (Conn::new(socket, Peer::Unix, Arc::new(listener), &limits, Rc::new(core), None), far)
}

fn tls_client(dir: &std::path::Path, names: &[&str]) -> tokio_rustls::TlsConnector {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let certificate = rustls_pki_types::CertificateDer::from_pem_file(dir.join("self-signed.crt"));
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
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
        let client = tls_client(dir.path(), &["imap"]);
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

/// RFC 7301 section 3.2; who names none is served.
#[test]
fn a_client_that_asks_for_another_protocol_is_refused() {
    let cases: [(&[&str], bool); 5] = [
        (&["imap"], true),
        (&["http/1.1", "imap"], true),
        (&[], true),
        (&["http/1.1"], false),
        (&["pop3"], false),
    ];
    for (names, served) in cases {
        local(async {
            let dir = tempfile::tempdir().unwrap();
            let (mut conn, far) = conn(dir.path(), Limits::default());
            let client = tls_client(dir.path(), names);
            let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
            let (near, far) = tokio::join!(conn.start_tls(), client.connect(name, far));
            assert_eq!((near.is_ok(), far.is_ok()), (served, served), "{names:?}");
        });
    }
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

/// A client's end of a compressed connection.
struct Squeezed {
    deflate: zlib_rs::Deflate,
    inflate: zlib_rs::Inflate,
}

impl Squeezed {
    fn new() -> Squeezed {
        let deflate = zlib_rs::Deflate::new(6, false, 15);
        Squeezed { deflate, inflate: zlib_rs::Inflate::new(false, 15) }
    }

    fn squeeze(&mut self, bytes: &[u8], flush: zlib_rs::DeflateFlush) -> Vec<u8> {
        let (before, mut out) = (self.deflate.total_out(), vec![0; bytes.len() * 2 + 64]);
        self.deflate.compress(bytes, &mut out, flush).unwrap();
        out.truncate((self.deflate.total_out() - before) as usize);
        out
    }

    fn expand(&mut self, bytes: &[u8], most: usize) -> Vec<u8> {
        let (before, mut out) = (self.inflate.total_out(), vec![0; most]);
        self.inflate.decompress(bytes, &mut out, zlib_rs::InflateFlush::NoFlush).unwrap();
        out.truncate((self.inflate.total_out() - before) as usize);
        out
    }
}

/// Fills and consumes until `text` was read.
async fn expect(conn: &mut Conn, text: &[u8]) {
    let mut read = Vec::new();
    while read.len() < text.len() {
        if conn.input().is_empty() {
            assert_ne!(conn.fill().await.unwrap(), 0);
        }
        read.extend_from_slice(conn.input());
        conn.consume(conn.input().len());
    }
    assert!(read == text, "{} bytes for {}", read.len(), text.len());
}

#[test]
fn compression_carries_much_both_ways_and_an_idle_connection_keeps_its_window_alone() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut conn, mut far) = conn(dir.path(), Limits::default());
        let pool = conn.core.deflate.clone();
        conn.start_compression(3).await.unwrap();
        let mut client = Squeezed::new();
        let words: Vec<u8> = (0..300_000u32).flat_map(|n| (n % 7919).to_le_bytes()).collect();
        let mut answers = Vec::new();
        for round in 0..3 {
            let text = &words[round * 100_000..][..100_000];
            let wire = client.squeeze(text, zlib_rs::DeflateFlush::SyncFlush);
            let mut far_read = vec![0; 1 << 20];
            let send = async {
                // In pieces that fit into the socket.
                for piece in wire.chunks(9_000) {
                    far.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(send, expect(&mut conn, text));
            conn.out.push(text);
            conn.flush().await.unwrap();
            let n = far.read(&mut far_read).await.unwrap();
            answers.extend_from_slice(&client.expand(&far_read[..n], 1 << 20));
            assert!(pool.lent() > 0);
            let waiting = timeout(KEEP_IDLE * 2, conn.fill()).await;
            assert!(waiting.is_err() && pool.lent() == 0, "{} lent in round {round}", pool.lent());
        }
        assert!(answers == words[..300_000], "{} bytes came back", answers.len());
    });
}

#[test]
fn a_decompression_bomb_fills_no_more_than_the_input_may_hold() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { command_bytes_max: 40_000, ..Limits::default() };
        let (mut conn, mut far) = conn(dir.path(), limits);
        conn.start_compression(3).await.unwrap();
        let bomb = Squeezed::new().squeeze(&vec![0; 10 << 20], zlib_rs::DeflateFlush::SyncFlush);
        assert!(bomb.len() < BUFFER_BYTES, "{}", bomb.len());
        far.write_all(&bomb).await.unwrap();
        while conn.input().len() < 40_000 {
            conn.fill().await.unwrap();
        }
        assert_eq!(conn.fill().await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(conn.input().len(), 40_000);
        conn.consume(40_000);
        expect(&mut conn, &vec![0; (10 << 20) - 40_000]).await;
    });
}

/// A stream may refer to bytes that it never sent. It then sees zeros, and no other client's bytes.
#[test]
fn a_lent_decompressor_has_forgotten_whom_it_served() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, mut far) = conn(dir.path(), Limits::default());
        first.start_compression(3).await.unwrap();
        let secret = b"secret secret secret secret".repeat(2000);
        let wire = Squeezed::new().squeeze(&secret, zlib_rs::DeflateFlush::SyncFlush);
        far.write_all(&wire).await.unwrap();
        expect(&mut first, &secret).await;
        let core = first.core.clone();
        drop(first);
        let (mut second, mut far) = conn(dir.path(), Limits::default());
        core.busy_poll.joined();
        second.core = core;
        second.start_compression(3).await.unwrap();
        // A block with the fixed codes, in the order of its bits: not the last (0), kind 1 (10);
        // length code 285, which is 258 bytes (11000101); distance code 29 with all 13 further
        // bits set, which is 32,768 bytes back (11101); the block's end; a stored block's head.
        let bits =
            "0".to_owned() + "10" + "11000101" + "11101" + "1111111111111" + "0000000" + "000";
        let mut wire = vec![0u8; 5];
        for (at, bit) in bits.chars().enumerate() {
            wire[at / 8] |= u8::from(bit == '1') << (at % 8);
        }
        wire.extend_from_slice(&[0, 0, 0xff, 0xff]);
        far.write_all(&wire).await.unwrap();
        expect(&mut second, &[0; 258]).await;
    });
}

#[test]
fn what_is_not_compressed_ends_a_compressed_connection() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut conn, mut far) = conn(dir.path(), Limits::default());
        conn.start_compression(3).await.unwrap();
        far.write_all(b"\xffnoop\r\nnoop\r\nnoop\r\n").await.unwrap();
        assert_eq!(conn.fill().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    });
}

/// With every kind of flush, and with what follows cut at every byte.
#[test]
fn bytes_behind_the_end_of_compression_are_plain() {
    use zlib_rs::DeflateFlush;
    for flush in [DeflateFlush::SyncFlush, DeflateFlush::FullFlush, DeflateFlush::Finish] {
        let mut client = Squeezed::new();
        let mut wire = client.squeeze(b"a NOOP\r\n", DeflateFlush::SyncFlush);
        wire.extend(client.squeeze(b"b UNAUTHENTICATE\r\n", flush));
        wire.extend_from_slice(b"c LOGIN jo x\r\n");
        for cut in 1..wire.len() {
            local(async {
                let dir = tempfile::tempdir().unwrap();
                let (mut conn, mut far) = conn(dir.path(), Limits::default());
                conn.start_compression(3).await.unwrap();
                let (now, later) = wire.split_at(cut);
                let send = async {
                    far.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    far.write_all(later).await.unwrap();
                };
                let serve = async {
                    expect(&mut conn, b"a NOOP\r\n").await;
                    expect(&mut conn, b"b UNAUTHENTICATE\r\n").await;
                    conn.out.push(b"b OK\r\n");
                    conn.end_compression().await.unwrap();
                    expect(&mut conn, b"c LOGIN jo x\r\n").await;
                };
                tokio::join!(send, serve);
                conn.out.push(b"c OK\r\n");
                conn.flush().await.unwrap();
                let mut answer = vec![0; 1000];
                let n = far.read(&mut answer).await.unwrap();
                let mut inflate = Squeezed::new().inflate;
                let mut out = [0; 100];
                let status =
                    inflate.decompress(&answer[..n], &mut out, zlib_rs::InflateFlush::NoFlush);
                assert_eq!(status, Ok(zlib_rs::Status::StreamEnd), "cut at {cut}");
                assert_eq!(&out[..inflate.total_out() as usize], b"b OK\r\n");
                assert_eq!(&answer[inflate.total_in() as usize..n], b"c OK\r\n");
            });
        }
    }
}
