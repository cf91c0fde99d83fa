//! Readers of the cache: any blob decodes or is refused, and no extras make their reader panic or
//! name a section that ends before it starts.
#![no_main]

use engine::format::cache;
use engine::message::Extras;
use libfuzzer_sys::fuzz_target;
use protocol::mime::header::FieldSet;
use protocol::mime::{Field, SectionText};

fuzz_target!(|data: &[u8]| {
    let _ = cache::decode(data, 0, 1);
    let mut blob = Vec::new();
    cache::encode(&mut blob, 7, 1, data);
    assert_eq!(cache::decode(&blob, 7, 1), Some(data));

    let Ok(extras) = Extras::open(data) else { return };
    let areas = [extras.envelope(), extras.body(), extras.body_structure(), extras.headers()];
    assert!(areas.iter().map(|area| area.len()).sum::<usize>() <= data.len());
    let _ = (extras.sent_day(), extras.ids());
    assert!(extras.preview().is_none_or(|preview| preview.len() <= data.len()));
    let kept: usize = extras.fields().map(|(_, raw)| raw.len()).sum();
    assert!(kept <= extras.headers().len());
    assert!(extras.values(Field::Subject).all(|value| value.len() <= extras.headers().len()));
    let mut out = Vec::new();
    if extras.select(FieldSet::ALL, &mut out, |_, _| {}) {
        assert!(out.len() <= extras.headers().len() + 2);
    }
    for part in extras.parts() {
        assert!(part.header.start <= part.header.end && part.body.start <= part.body.end);
    }
    for path in [&[][..], &[1], &[2], &[1, 1], &[2, 1, 3]] {
        use SectionText::{Header, Mime, Text, Whole};
        for text in [Whole, Header, Text, Mime] {
            if let Some(section) = extras.section(path, text) {
                assert!(section.stored.start <= section.stored.end);
            }
        }
    }
});
