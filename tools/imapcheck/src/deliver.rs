//! A mail system that delivers by LMTP into the first mailbox while clients work.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::session::Shared;

const PAUSE: Duration = Duration::from_millis(3);
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Delivers until `stop`; what was answered 250 is in the ledger.
pub(crate) fn run(shared: &Arc<Shared>, lmtp: SocketAddr, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // A killed server is no fault of ours: connect again.
        let _ = connection(shared, lmtp, stop, &mut number);
        thread::sleep(Duration::from_millis(20));
    }
}

fn connection(
    shared: &Arc<Shared>,
    lmtp: SocketAddr,
    stop: &AtomicBool,
    number: &mut u64,
) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&lmtp, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    expect(&mut reader, "220")?;
    stream.write_all(b"LHLO check.example.org\r\n")?;
    expect(&mut reader, "250")?;
    while !stop.load(Ordering::Relaxed) {
        *number += 1;
        let marker = format!("lmtp-{number}");
        let head = format!("MAIL FROM:<>\r\nRCPT TO:<{}>\r\nDATA\r\n", shared.user);
        stream.write_all(head.as_bytes())?;
        for code in ["250", "250", "354"] {
            expect(&mut reader, code)?;
        }
        let text = format!("Subject: delivered\r\nX-Marker: {marker}\r\n\r\nBody.\r\n.\r\n");
        stream.write_all(text.as_bytes())?;
        expect(&mut reader, "250")?;
        shared.ledger.delivered(marker);
        thread::sleep(PAUSE);
    }
    stream.write_all(b"QUIT\r\n")
}

fn expect(reader: &mut impl BufRead, code: &str) -> io::Result<()> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !line.starts_with(code) {
            return Err(io::Error::other(format!("{code} was expected: {}", line.trim_end())));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
