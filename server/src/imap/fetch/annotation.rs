//! ANNOTATION of FETCH: RFC 5257 sections 4.3 and 4.4.

use engine::{Annotation, annotation_part};
use protocol::imap::annotation::{AnnotationAttribute, AnnotationSide};
use protocol::imap::encode;

use super::super::annotations::EntryPattern;

/// One ANNOTATION item.
pub(in super::super) struct AnnotationItem {
    entries: Vec<EntryPattern>,
    attributes: Vec<AnnotationAttribute>,
    /// Body parts that it names, as the entries without wildcards say.
    parts: Vec<Vec<u32>>,
}

impl AnnotationItem {
    pub(super) fn new(entries: &[String], attributes: &[AnnotationAttribute]) -> AnnotationItem {
        let entries: Vec<EntryPattern> = entries.iter().map(|e| EntryPattern::new(e)).collect();
        let named = entries.iter().filter_map(EntryPattern::name);
        let parts = named.filter_map(annotation_part).filter(|part| !part.is_empty()).collect();
        AnnotationItem { entries, attributes: attributes.to_vec(), parts }
    }

    /// Whether an entry without wildcards has no possible name: the client's mistake.
    pub(in super::super) fn is_bad(entries: &[String]) -> bool {
        let bad = |name: &str| annotation_part(name).is_none();
        entries.iter().any(|entry| EntryPattern::new(entry).name().is_some_and(bad))
    }

    /// Body parts that it names.
    pub(super) fn parts(&self) -> &[Vec<u32>] {
        &self.parts
    }

    /// `ANNOTATION (…)` of a message. Entries that are named come with NIL where they have no value,
    /// those that match only where they have one.
    pub(super) fn write(&self, out: &mut Vec<u8>, there: &[Annotation], utf8: bool) {
        out.extend_from_slice(b"ANNOTATION (");
        let mut told: Vec<&str> = Vec::new();
        let mut space = false;
        for pattern in &self.entries {
            if let Some(name) = pattern.name() {
                let found = there.iter().find(|annotation| annotation.entry == name);
                if !told.contains(&name) {
                    told.push(name);
                    self.write_entry(out, &mut space, name, found, utf8);
                }
                continue;
            }
            for found in there.iter().filter(|annotation| pattern.matches(&annotation.entry)) {
                let name = found.entry.as_str();
                if self.has_value(found) && !told.contains(&name) {
                    told.push(name);
                    self.write_entry(out, &mut space, name, Some(found), utf8);
                }
            }
        }
        out.push(b')');
    }

    fn has_value(&self, found: &Annotation) -> bool {
        self.attributes.iter().any(|attribute| match attribute.side {
            AnnotationSide::Either => true,
            AnnotationSide::Private => found.private.is_some(),
            AnnotationSide::Shared => found.shared.is_some(),
        })
    }

    fn write_entry(
        &self,
        out: &mut Vec<u8>,
        space: &mut bool,
        name: &str,
        found: Option<&Annotation>,
        utf8: bool,
    ) {
        if std::mem::replace(space, true) {
            out.push(b' ');
        }
        encode::astring(out, name.as_bytes(), false);
        out.extend_from_slice(b" (");
        let mut first = true;
        for AnnotationAttribute { size, side } in &self.attributes {
            let private = found.and_then(|found| found.private.as_deref());
            let shared = found.and_then(|found| found.shared.as_deref());
            let sides = [
                (AnnotationSide::Private, "priv", private),
                (AnnotationSide::Shared, "shared", shared),
            ];
            for (one, suffix, value) in sides {
                if *side != AnnotationSide::Either && *side != one {
                    continue;
                }
                if !std::mem::replace(&mut first, false) {
                    out.push(b' ');
                }
                let stem = if *size { "size" } else { "value" };
                encode::print(out, format_args!("{stem}.{suffix} "));
                match size {
                    true => {
                        encode::print(out, format_args!("\"{}\"", value.map_or(0, <[u8]>::len)))
                    }
                    false => encode::nstring8(out, value, utf8),
                }
            }
        }
        out.push(b')');
    }
}

impl std::fmt::Debug for AnnotationItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.entries.iter().map(EntryPattern::name).collect();
        f.debug_struct("AnnotationItem").field("entries", &names).finish_non_exhaustive()
    }
}
