//! The one pass over a message at delivery, and the same pass over a file that is there already.

use memchr::{memchr, memchr_iter};
use protocol::mime::header::Block;
use protocol::mime::{Field, Limits, Parser, address, date, subject};

use super::extras::{self, Findings};
use super::{Crlf, LineEnds, preview, thread};

/// Octets that are looked at together: what is kept of them meanwhile, with a place for each LF,
/// stays small and near. Pieces that are longer are cut.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// What the pass over a message found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// Served octets: RFC822.SIZE.
    pub size: u32,
    /// Octets of the file.
    pub stored: u32,
    /// Served octets of the header with the empty line that ends it.
    pub header_size: u32,
    /// BLAKE3 of the served bytes, its first 128 bits.
    pub content_id: [u8; 16],
    /// The Date field in seconds since 1970; `None` when missing or not to be understood.
    pub sent_date: Option<i64>,
    /// CRC-32 of the base subject (RFC 5256) in lower case.
    pub subject_hash: u32,
    /// CRC-32 of the first From address in lower case; 0 when there is none.
    pub from_hash: u32,
    /// What the cache keeps: see [`super::Extras`].
    pub extras: Vec<u8>,
    /// The stored bytes are the served bytes.
    pub verbatim: bool,
}

/// One message on its way from the wire into a file.
pub struct Ingest {
    line_ends: LineEnds,
    pass: Pass,
    /// The last two wire bytes, in canonical form.
    last: [u8; 2],
    /// A CR at the end of the last piece is not yet written, since an LF may follow.
    cr_held: bool,
    /// Scratch for pieces that hold a bare LF.
    canonical: Vec<u8>,
    /// Scratch: where the LFs of the piece are, in the form that it has by then.
    line_feeds: Vec<usize>,
}

impl Ingest {
    /// Starts a message for a layout with these line ends.
    pub fn new(line_ends: LineEnds) -> Ingest {
        Ingest {
            line_ends,
            pass: Pass::new(line_ends),
            last: [0; 2],
            cr_held: false,
            canonical: Vec::new(),
            line_feeds: Vec::new(),
        }
    }

    /// Takes the next piece of the message and appends to `out` what is to be stored of it. A CR
    /// at its end may come out with the next piece.
    pub fn feed(&mut self, wire: &[u8], out: &mut Vec<u8>) {
        wire.chunks(PIECE_BYTES_MAX).for_each(|piece| self.feed_piece(piece, out));
    }

    fn feed_piece(&mut self, wire: &[u8], out: &mut Vec<u8>) {
        let Some(&last) = wire.last() else { return };
        let mut canonical = std::mem::take(&mut self.canonical);
        canonical.clear();
        find_line_feeds(wire, &mut self.line_feeds);
        let line_feeds = &mut self.line_feeds;
        let served = if make_canonical(self.last[1], wire, line_feeds, &mut canonical) {
            canonical.as_slice()
        } else {
            wire
        };
        self.pass.hasher.update(served);
        let start = out.len();
        match self.line_ends {
            LineEnds::Crlf => out.extend_from_slice(served),
            LineEnds::Lf => self.store_with_lf(served, out),
        }
        self.pass.feed_stored(&out[start..], &self.line_feeds);
        let before = match served {
            [.., before, _] => *before,
            _ => self.last[1],
        };
        self.last = [before, last];
        self.canonical = canonical;
    }

    /// Ends the message; what was held back goes to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Ingested {
        if self.cr_held {
            out.push(b'\r');
            self.pass.feed_stored(b"\r", &[]);
        }
        self.pass.finish()
    }

    /// Appends `served`, which has no bare LF, with the CRs taken off that stand before an LF and
    /// not behind another CR.
    fn store_with_lf(&mut self, served: &[u8], out: &mut Vec<u8>) {
        out.reserve(served.len() + 1);
        let from = out.len();
        let mut start = 0;
        if std::mem::take(&mut self.cr_held) && (served[0] != b'\n' || self.last[0] == b'\r') {
            out.push(b'\r');
        }
        for line_feed in &mut self.line_feeds {
            let lf = *line_feed;
            let stays = match lf {
                // The CR was in the piece before, and was dealt with above.
                0 => true,
                1 => self.last[1] == b'\r',
                _ => served[lf - 2] == b'\r',
            };
            if !stays {
                out.extend_from_slice(&served[start..lf - 1]);
                start = lf;
            }
            *line_feed = out.len() - from + (lf - start);
        }
        self.cr_held = served.ends_with(b"\r");
        out.extend_from_slice(&served[start..served.len() - usize::from(self.cr_held)]);
    }
}

/// Makes `line_feeds` the places of the LFs in `piece`: what makes it canonical, what stores or
/// serves it and the parser all go by lines, and this is the one search.
fn find_line_feeds(piece: &[u8], line_feeds: &mut Vec<usize>) {
    line_feeds.clear();
    line_feeds.reserve(piece.len() / 32);
    line_feeds.extend(memchr_iter(b'\n', piece));
}

/// Writes `wire` to `out`, which is empty, with each bare LF as CRLF, if it has any; `line_feeds`
/// move along. `before` is the byte before it.
fn make_canonical(before: u8, wire: &[u8], line_feeds: &mut [usize], out: &mut Vec<u8>) -> bool {
    let mut start = 0;
    for line_feed in line_feeds {
        let lf = *line_feed;
        let previous = if lf == 0 { before } else { wire[lf - 1] };
        if previous != b'\r' {
            out.extend_from_slice(&wire[start..lf]);
            out.push(b'\r');
            start = lf;
        }
        *line_feed = out.len() + (lf - start);
    }
    if out.is_empty() {
        return false;
    }
    out.extend_from_slice(&wire[start..]);
    true
}

/// The pass over a file as it is stored: for rebuilds, recovery and what other programs delivered.
pub struct Rescan {
    crlf: Crlf,
    pass: Pass,
    /// Scratch: where the LFs of the piece are.
    line_feeds: Vec<usize>,
    /// Scratch: the piece as it is served.
    served: Vec<u8>,
}

impl Rescan {
    /// Starts a file of that form.
    pub fn new(line_ends: LineEnds) -> Rescan {
        Rescan {
            crlf: Crlf::new(line_ends),
            pass: Pass::new(line_ends),
            line_feeds: Vec::new(),
            served: Vec::new(),
        }
    }

    /// Takes the next piece of the file.
    pub fn feed(&mut self, stored: &[u8]) {
        stored.chunks(PIECE_BYTES_MAX).for_each(|piece| self.feed_piece(piece));
    }

    fn feed_piece(&mut self, stored: &[u8]) {
        find_line_feeds(stored, &mut self.line_feeds);
        self.pass.feed_stored(stored, &self.line_feeds);
        self.served.clear();
        self.crlf.convert_lines(stored, self.line_feeds.iter().copied(), &mut self.served);
        self.pass.hasher.update(&self.served);
    }

    /// Ends the file.
    pub fn finish(self) -> Ingested {
        self.pass.finish()
    }
}

/// What both directions share: the parser sees stored bytes, the hash served ones.
struct Pass {
    parser: Parser,
    hasher: blake3::Hasher,
    /// The first stored bytes, for the preview.
    beginning: Vec<u8>,
    has_nul: bool,
}

impl Pass {
    fn new(line_ends: LineEnds) -> Pass {
        let parser = Parser::new(Limits::default());
        let parser = match line_ends {
            LineEnds::Lf => parser.bare_lf_as_crlf(),
            LineEnds::Crlf => parser,
        };
        Pass { parser, hasher: blake3::Hasher::new(), beginning: Vec::new(), has_nul: false }
    }

    /// Takes the next piece, which has LFs at `line_feeds`.
    fn feed_stored(&mut self, stored: &[u8], line_feeds: &[usize]) {
        let room = preview::BEGINNING_BYTES_MAX - self.beginning.len();
        self.beginning.extend_from_slice(&stored[..stored.len().min(room)]);
        self.has_nul |= memchr(0, stored).is_some();
        self.parser.feed_lines(stored, line_feeds.iter().copied());
    }

    fn finish(self) -> Ingested {
        let structure = self.parser.finish();
        let mut content_id = [0; 16];
        content_id.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        let end = structure.end();
        let facts = HeaderFacts::of(structure.header());
        let findings = Findings {
            sent_day: facts.date.map(|date| date.local_day),
            content_id,
            thread_id: thread::id(structure.header()).unwrap_or(content_id),
            preview: &preview::make(&structure, &self.beginning),
            has_nul: self.has_nul,
        };
        Ingested {
            size: end.served,
            stored: end.stored,
            header_size: structure.parts().first().map_or(0, |part| part.body_start.served),
            content_id,
            sent_date: facts.date.map(|date| date.unix),
            subject_hash: facts.subject_hash,
            from_hash: facts.from_hash,
            extras: extras::encode(&structure, &findings),
            verbatim: end.served == end.stored,
        }
    }
}

struct HeaderFacts {
    date: Option<date::MailDate>,
    subject_hash: u32,
    from_hash: u32,
}

impl HeaderFacts {
    fn of(header: &Block) -> HeaderFacts {
        let subject = header.value(Field::Subject).map(|value| {
            let base = subject::base(value).text.to_lowercase();
            crc32fast::hash(base.as_bytes())
        });
        HeaderFacts {
            date: header.value(Field::Date).and_then(date::parse),
            subject_hash: subject.unwrap_or_default(),
            from_hash: header.value(Field::From).map_or(0, first_address_hash),
        }
    }
}

fn first_address_hash(value: &[u8]) -> u32 {
    let mut hash = 0;
    address::parse(value, |item| {
        if let address::Address::Mailbox { local, domain, .. } = item
            && hash == 0
        {
            let mut text = [local, b"@", domain.unwrap_or_default()].concat();
            text.make_ascii_lowercase();
            hash = crc32fast::hash(&text);
        }
    });
    hash
}

#[cfg(test)]
mod tests {
    use super::super::Extras;
    use super::*;

    fn ingest(line_ends: LineEnds, pieces: &[&[u8]]) -> (Vec<u8>, Ingested) {
        let mut ingest = Ingest::new(line_ends);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| ingest.feed(piece, &mut out));
        let facts = ingest.finish(&mut out);
        (out, facts)
    }

    fn serve(line_ends: LineEnds, stored: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Crlf::new(line_ends).convert(stored, &mut out);
        out
    }

    const ODD: &[&[u8]] = &[
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\r\n",
        b"\r\r\r\n\n\r",
        b"Subject: x\r\n\r\nbody\r\r\n\r\r\r\nend\rmid\0\r\n.\r\n",
        b"Subject: x\n\nbody\n\r\n\r\r",
        b"Date: Mon, 02 Jan 2006 15:04:05 -0700\r\nFrom: A <a@B.org>\r\nSubject: Re: caf\xe9\r\n\
          Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\r\n--b\r\nX: y\r\n\r\n\
          two\n\n--b--\r\n",
    ];

    fn canonical(wire: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = 0;
        for &b in wire {
            if b == b'\n' && before != b'\r' {
                out.push(b'\r');
            }
            out.push(b);
            before = b;
        }
        out
    }

    #[test]
    fn what_is_served_is_what_came_with_bare_lf_made_crlf() {
        for wire in ODD {
            for line_ends in [LineEnds::Lf, LineEnds::Crlf] {
                let (stored, facts) = ingest(line_ends, &[wire]);
                let served = serve(line_ends, &stored);
                assert_eq!(served, canonical(wire), "{wire:?} {line_ends:?}");
                assert_eq!(facts.size as usize, served.len());
                assert_eq!(facts.stored as usize, stored.len());
                assert_eq!(facts.content_id, blake3::hash(&served).as_bytes()[..16]);
                assert_eq!(facts.verbatim, stored == served);
            }
        }
    }

    #[test]
    fn cuts_make_no_difference() {
        for wire in ODD {
            for line_ends in [LineEnds::Lf, LineEnds::Crlf] {
                let whole = ingest(line_ends, &[wire]);
                for a in 0..=wire.len() {
                    for b in a..=wire.len().min(a + 2) {
                        let pieces = [&wire[..a], &wire[a..b], &wire[b..]];
                        assert_eq!(ingest(line_ends, &pieces), whole, "{wire:?} cut at {a}, {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_piece_longer_than_is_looked_at_is_cut_anywhere() {
        for before in 0..4 {
            let mut wire = b"Subject: x\r\n\r\n".to_vec();
            wire.resize(PIECE_BYTES_MAX - before, b'x');
            wire.extend_from_slice(b"\r\r\nmid\n\r\nend");
            wire.resize(2 * PIECE_BYTES_MAX - before, b'y');
            wire.extend_from_slice(b"\r\n");
            for line_ends in [LineEnds::Lf, LineEnds::Crlf] {
                let halves = wire.split_at(wire.len() / 2);
                let whole = ingest(line_ends, &[&wire]);
                assert_eq!(whole, ingest(line_ends, &[halves.0, halves.1]));
                let mut rescan = Rescan::new(line_ends);
                rescan.feed(&whole.0);
                assert_eq!(rescan.finish(), whole.1);
            }
        }
    }

    #[test]
    fn rescan_agrees_with_ingest() {
        for wire in ODD {
            for line_ends in [LineEnds::Lf, LineEnds::Crlf] {
                let (stored, facts) = ingest(line_ends, &[wire]);
                for size in [1, 2, 7, 1000] {
                    let mut rescan = Rescan::new(line_ends);
                    stored.chunks(size).for_each(|piece| rescan.feed(piece));
                    assert_eq!(rescan.finish(), facts, "{wire:?}");
                }
            }
        }
    }

    #[test]
    fn both_forms_have_the_same_content_id_and_differ_in_offsets_only() {
        for wire in ODD {
            let (_, lf) = ingest(LineEnds::Lf, &[wire]);
            let (_, crlf) = ingest(LineEnds::Crlf, &[wire]);
            assert_eq!(lf.content_id, crlf.content_id);
            let (a, b) = (Extras::open(&lf.extras).unwrap(), Extras::open(&crlf.extras).unwrap());
            assert_eq!(a.body_structure(), b.body_structure());
            assert_eq!(a.envelope(), b.envelope());
            assert_eq!(a.headers(), b.headers());
        }
    }

    #[test]
    fn facts_of_the_header() {
        let (_, facts) = ingest(LineEnds::Lf, &[ODD[8]]);
        assert_eq!(facts.sent_date, Some(1_136_239_445));
        assert_eq!(facts.subject_hash, crc32fast::hash("caf\u{e9}".as_bytes()));
        assert_eq!(facts.from_hash, crc32fast::hash(b"a@b.org"));
    }
}
