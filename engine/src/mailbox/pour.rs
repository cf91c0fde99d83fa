//! The bytes of a message from one file into another, in the form of the other's layout: a Maildir
//! has bare line ends, the cyrus layout CRLF.

use std::path::Path;

use super::message::line_ends;
use crate::error::{Error, Result};
use crate::io::StoredFile;
use crate::layout::LayoutKind;
use crate::message::{Crlf, Ingest};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Pours `input` into the empty `output`, dates it (seconds since 1970) and
/// syncs it; its name is the caller's to make durable. Returns the octets written.
///
/// # Errors
/// [`Error::Io`] with the path that is at fault.
pub(crate) fn pour(
    (input, from, its_form): (&dyn StoredFile, &Path, LayoutKind),
    (output, to, form): (&dyn StoredFile, &Path, LayoutKind),
    internal_date: i64,
) -> Result<u32> {
    let crosses = its_form != form;
    let mut serve = Crlf::new(line_ends(its_form));
    let mut ingest = Ingest::new(line_ends(form));
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut written) = (0, 0);
    let (mut served, mut stored) = (Vec::new(), Vec::new());
    let mut put = |bytes: &[u8]| -> Result<()> {
        output.write_at(bytes, written).map_err(Error::io("write", to))?;
        written += bytes.len() as u64;
        Ok(())
    };
    loop {
        let n = input.read_at(&mut piece, at).map_err(Error::io("read", from))?;
        if n == 0 {
            break;
        }
        at += n as u64;
        if !crosses {
            put(&piece[..n])?;
            continue;
        }
        served.clear();
        stored.clear();
        serve.convert(&piece[..n], &mut served);
        ingest.feed(&served, &mut stored);
        put(&stored)?;
    }
    if crosses {
        stored.clear();
        ingest.finish(&mut stored);
        put(&stored)?;
    }
    output.set_mtime(internal_date).map_err(Error::io("date", to))?;
    output.sync_all().map_err(Error::io("sync", to))?;
    Ok(written.min(u64::from(u32::MAX)) as u32)
}
