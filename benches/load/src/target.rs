//! Where the server is and who we are there; how a connection comes to be.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};
use crate::wire::{Stream, Wire};

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tls {
    /// Not at all.
    None,
    /// By STARTTLS (IMAP) or STLS (POP3).
    Starttls,
    /// From the first byte.
    Implicit,
}

/// Options that say where the server is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetOptions {
    /// Host name or address of the server.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// TCP port; not needed with --socket.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Unix socket instead of TCP.
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// Encryption of the connection; certificates are not verified.
    #[arg(long, value_enum, default_value_t = Tls::None)]
    pub(crate) tls: Tls,
    /// Account name; `{n}` becomes the account's number, from 1 on.
    #[arg(long, default_value = "user{n}")]
    pub(crate) user: String,
    /// How many accounts the connections are spread over, in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) users: u32,
    /// Password of every account.
    #[arg(long, default_value = "load-test")]
    pub(crate) password: String,
    /// Leave TCP acknowledgements to the kernel, which may delay them by 40 ms: a server that waits
    /// for them with Nagle's algorithm then shows it. Otherwise what is read is acknowledged at once.
    #[arg(long)]
    pub(crate) delayed_ack: bool,
}

/// A server to ask; cheap to clone.
#[derive(Clone)]
pub(crate) struct Target {
    options: Arc<TargetOptions>,
    connector: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn new(options: &TargetOptions) -> Result<Self> {
        if options.port == 0 && options.socket.is_none() {
            return Err(Error::Usage("either --port or --socket is needed".to_owned()));
        }
        let connector = (options.tls != Tls::None).then(connector).transpose()?;
        Ok(Self { options: Arc::new(options.clone()), connector })
    }

    pub(crate) fn tls(&self) -> Tls {
        self.options.tls
    }

    pub(crate) fn password(&self) -> &str {
        &self.options.password
    }

    pub(crate) fn users(&self) -> u32 {
        self.options.users
    }

    /// The account of connection `connection` (from 0 on).
    pub(crate) fn user(&self, connection: u32) -> String {
        let number = connection % self.options.users + 1;
        self.options.user.replace("{n}", &number.to_string())
    }

    /// Connects; encrypts at once when TLS is implicit.
    pub(crate) async fn connect(&self) -> Result<Wire> {
        let stream = match &self.options.socket {
            Some(path) => Stream::Unix(UnixStream::connect(path).await?),
            None => {
                let stream = TcpStream::connect((self.options.host.as_str(), self.options.port));
                let stream = stream.await?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        let wire = Wire::new(stream, !self.options.delayed_ack);
        if self.options.tls == Tls::Implicit { self.encrypt(wire).await } else { Ok(wire) }
    }

    /// Starts TLS on a connection whose server agreed to it.
    pub(crate) async fn encrypt(&self, wire: Wire) -> Result<Wire> {
        let Some(connector) = &self.connector else { return Ok(wire) };
        let name = ServerName::try_from(self.options.host.clone())
            .map_err(|error| Error::Usage(format!("--host is no TLS server name: {error}")))?;
        match wire.into_stream() {
            Stream::Tcp(stream) => {
                let stream = connector.connect(name, stream).await?;
                Ok(Wire::new(Stream::Tls(Box::new(stream)), !self.options.delayed_ack))
            }
            _ => Err(Error::Usage("TLS is for TCP connections only".to_owned())),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.options.socket {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => write!(f, "{}:{}", self.options.host, self.options.port),
        }?;
        match self.options.tls {
            Tls::None => Ok(()),
            Tls::Starttls => write!(f, " (STARTTLS)"),
            Tls::Implicit => write!(f, " (TLS)"),
        }
    }
}

fn connector() -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // The first random number takes the library 50 ms; that would be measured as the server's.
    let random = provider.secure_random.fill(&mut [0]);
    random.map_err(|_| Error::Usage("the system gives no random numbers".to_owned()))?;
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Usage(format!("TLS is not usable: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts every certificate: a measurement names its server itself, and peers are self-signed.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
