//! Taking a message in: what is served is what came, with bare LF made CRLF, in both forms; cuts
//! and a later rescan change nothing. The first byte chooses the cuts.
#![no_main]

use engine::message::{Crlf, Extras, Ingest, Ingested, LineEnds, Rescan};
use libfuzzer_sys::fuzz_target;

fn ingest(line_ends: LineEnds, wire: &[u8], piece_bytes: usize) -> (Vec<u8>, Ingested) {
    let mut ingest = Ingest::new(line_ends);
    let mut stored = Vec::new();
    wire.chunks(piece_bytes).for_each(|piece| ingest.feed(piece, &mut stored));
    let facts = ingest.finish(&mut stored);
    (stored, facts)
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, wire)) = data.split_first() else { return };
    let piece_bytes = usize::from(choice) + 1;
    let mut canonical = Vec::new();
    for &b in wire {
        if b == b'\n' && canonical.last() != Some(&b'\r') {
            canonical.push(b'\r');
        }
        canonical.push(b);
    }
    for line_ends in [LineEnds::Lf, LineEnds::Crlf] {
        let (stored, facts) = ingest(line_ends, wire, wire.len().max(1));
        assert_eq!(ingest(line_ends, wire, piece_bytes), (stored.clone(), facts.clone()));
        let mut served = Vec::new();
        let mut crlf = Crlf::new(line_ends);
        stored.chunks(piece_bytes).for_each(|piece| crlf.convert(piece, &mut served));
        assert_eq!(served, canonical);
        assert_eq!((facts.size as usize, facts.stored as usize), (served.len(), stored.len()));
        assert_eq!(facts.verbatim, served == stored);
        let mut rescan = Rescan::new(line_ends);
        stored.chunks(piece_bytes).for_each(|piece| rescan.feed(piece));
        assert_eq!(rescan.finish(), facts);
        let extras = Extras::open(&facts.extras).expect("extras that were just written");
        assert!(extras.parts().all(|part| part.body.end as usize <= stored.len()));
    }
});
