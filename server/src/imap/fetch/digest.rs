//! `DIGEST.SHA1`, which Cyrus has: what two messages have the same of if they are the same octet by
//! octet, for programs that compare servers. It is made of the file each time that it is asked for.

use sha1::{Digest, Sha1};

use super::super::reply::End;
use super::super::session::Session;
use super::plan::Message;
use super::section::cut_short;

/// `DIGEST.SHA1 725e3288cd828a2944d76b827a99136199d3bb84`
pub(super) async fn write(session: &mut Session, message: &Message<'_>) -> Result<(), End> {
    let size = u64::from(message.record.size);
    let mut hash = Sha1::new();
    let mut reader = message.file.served(0, message.file.stored_size(), 0, size);
    let mut read = 0;
    while read < size {
        match reader.next().await {
            Ok(Some(piece)) => {
                read += piece.len() as u64;
                hash.update(&piece);
                // A piece at a time, so that a long message does not hold up the core.
                tokio::task::yield_now().await;
            }
            Ok(None) => return Err(cut_short(session, message, "file is shorter than its index")),
            Err(error) => return Err(cut_short(session, message, &error.to_string())),
        }
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    session.conn.out.push(format!("DIGEST.SHA1 {digest}").as_bytes());
    Ok(())
}
