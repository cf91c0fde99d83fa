//! The `cursusd` under test, in a directory of its own, killed and started again at will.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

pub(crate) const USER: &str = "check";
pub(crate) const PASSWORD: &str = "pw";
/// SHA-512 crypt of [`PASSWORD`] with few rounds: logins are not what is tested.
const PASSWORD_HASH: &str = "{SHA512-CRYPT}$6$rounds=1000$powercut$\
    g3j7DSMf.vmCntXCAfv540SI5l5ARvhoqSjix4Z5tIiQRS5tlKQp5E.obQFwPW2kn9RCC5JtfGTmLqkTpHKOw.";
const START_SECONDS_MAX: u64 = 60;
const STOP_SECONDS_MAX: u64 = 60;

pub(crate) struct Server {
    binary: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
    pub(crate) imap: SocketAddr,
    pub(crate) imaps: SocketAddr,
    pub(crate) lmtp: SocketAddr,
    certificate: CertificateDer<'static>,
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

impl Server {
    /// Writes configuration, account and certificate; `early`: STOREs are answered before their sync.
    pub(crate) fn new(binary: &Path, dir: &Path, layout: &str, early: bool) -> io::Result<Server> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(io::Error::other)?;
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&cert, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        fs::write(dir.join("users"), format!("{USER}:{PASSWORD_HASH}\n"))?;
        let (imap, imaps, lmtp) = (free_port()?, free_port()?, free_port()?);
        let login = "plain_login = \"loopback\"\n";
        let listener = |protocol: &str, address: SocketAddr, tls: &str, more: &str| {
            format!(
                "[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"{tls}\"\n{more}"
            )
        };
        // A small log and frequent checkpoints: they happen while clients look.
        let text = format!(
            "state_dir = \"{dir}/state\"\n\
             [[partition]]\nname = \"default\"\npath = \"{dir}/spool\"\nlayout = \"{layout}\"\n\
             [store]\nlog_bytes_max = 16777216\ncheckpoint_seconds = 1\n\
             [imap]\nstore_sync = \"{sync}\"\n\
             [server]\ncores = 2\ndrain_seconds_max = 1\n\
             {}{}{}\
             [tls]\ncertificate = \"{cert}\"\nkey = \"{key}\"\n\
             [auth]\nusers_file = \"{dir}/users\"\n[admin]\nsocket = \"{dir}/admin.sock\"\n",
            listener("imap", imap, "none", login),
            listener("imap", imaps, "implicit", ""),
            listener("lmtp", lmtp, "none", ""),
            dir = dir.display(),
            sync = if early { "after-answer" } else { "before-answer" },
            cert = cert.display(),
            key = key.display(),
        );
        fs::write(dir.join("cursus.toml"), text)?;
        let certificate = made.cert.der().clone();
        let (binary, dir) = (binary.to_owned(), dir.to_owned());
        Ok(Server { binary, dir, child: None, imap, imaps, lmtp, certificate })
    }

    /// A TLS client that trusts this server alone.
    pub(crate) fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    pub(crate) fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("cursusd.log"))?;
        let child = Command::new(&self.binary)
            .arg("--config")
            .arg(self.dir.join("cursus.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", self.binary.display())))?;
        let child = self.child.insert(child);
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("cursusd ended at start: {status}")));
            }
            let greets = TcpStream::connect(self.imap).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(START_SECONDS_MAX)))?;
                stream.read(&mut [0; 64])
            });
            match greets {
                Ok(count) if count > 0 => return Ok(()),
                _ if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
                _ => return Err(io::Error::other("cursusd does not greet")),
            }
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// SIGTERM; it must end by itself and well.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        Command::new("kill").arg(child.id().to_string()).status()?;
        let until = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        while Instant::now() < until {
            if let Some(status) = child.try_wait()? {
                let well = status.success();
                return well.then_some(()).ok_or_else(|| io::Error::other(format!("{status}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        Err(io::Error::other("cursusd does not stop"))
    }

    /// Lines of its log that no run should have.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read(self.dir.join("cursusd.log")).unwrap_or_default();
        let bad = ["panicked at", "a defect of the server", "Fatal:"];
        let text = String::from_utf8_lossy(&log);
        text.lines().filter(|l| bad.iter().any(|b| l.contains(b))).map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing outlives the check.
        let _ = self.kill();
    }
}
