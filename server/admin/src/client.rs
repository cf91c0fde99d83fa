//! The admin socket's client side. Blocking: the operator's command does one thing at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wire::{Answer, AnswerLine, Failure, FailureCode, Reply, Request, RequestLine, VERSION};

/// A connection to a running server.
pub struct Client {
    reader: BufReader<UnixStream>,
}

/// Why an answer didn't come.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection broke.
    #[error("admin socket: {0}")]
    Io(#[from] io::Error),
    /// The answer isn't one.
    #[error("admin socket: answer not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// The server says no.
    #[error("{0}")]
    Failure(#[from] Failure),
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `NotFound` and `ConnectionRefused` mean that no server runs.
    pub fn connect(socket: &Path) -> io::Result<Client> {
        Ok(Client { reader: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: Request) -> Result<Reply, ClientError> {
        self.ask_with(request, &mut io::empty())
    }

    /// Asks for the octets of messages ([`Request::Read`]); `sink` gets those of each that is
    /// there, with its place among those asked for and how many they are.
    pub fn read(
        &mut self,
        request: Request,
        sink: &mut dyn FnMut(usize, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let octets = match self.ask(request)? {
            Reply::Bodies { octets } => octets,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        };
        for (place, octets) in octets.into_iter().enumerate() {
            let Some(octets) = octets else { continue };
            let mut body = (&mut self.reader).take(octets);
            sink(place, octets, &mut body)?;
            io::copy(&mut body, &mut io::sink())?;
            if body.limit() > 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }

    /// Asks with the bytes that follow the request, which `body` yields.
    pub fn ask_with(
        &mut self,
        request: Request,
        body: &mut dyn Read,
    ) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(&RequestLine { v: VERSION, request })?;
        line.push(b'\n');
        let socket = self.reader.get_mut();
        socket.write_all(&line)?;
        io::copy(body, socket)?;
        let mut answer = String::new();
        if self.reader.read_line(&mut answer)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let answer: AnswerLine = serde_json::from_str(&answer)?;
        if answer.v != VERSION {
            let message = format!("the server speaks version {}, this is {VERSION}", answer.v);
            return Err(Failure::new(FailureCode::Version, message).into());
        }
        match answer.answer {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(failure) => Err(failure.into()),
        }
    }
}
