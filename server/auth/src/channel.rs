//! What a mechanism may know about the connection that it runs over.

/// The connection, as far as authentication cares.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The server's name, for challenges that carry one.
    pub host: String,
    /// `tls-exporter` (RFC 9266); `None` without TLS 1.3.
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929): the hash of our certificate; `None` without TLS.
    pub end_point: Option<Vec<u8>>,
    /// Whether the list that the client saw had a SCRAM mechanism with `-PLUS`: then a client that
    /// believes otherwise has been shown another list.
    pub offers_plus: bool,
    /// The users that a verified client certificate names, the best first: for EXTERNAL.
    pub certificate_users: Vec<String>,
}

impl Channel {
    /// The channel binding of that name.
    pub fn binding(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            "tls-server-end-point" => self.end_point.as_deref(),
            _ => None,
        }
    }
}
