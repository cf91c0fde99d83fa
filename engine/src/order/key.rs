//! What SORT compares of a message, as octets in their order.
//!
//! The key of a message is one string of octets for all criteria: each criterion's value in a form
//! that compares octet by octet and tells its own end, one behind the other. REVERSE turns every bit
//! of a value.

use protocol::imap::sort::{SortCriterion, SortKey};
use protocol::mime::address::{self, Address};
use protocol::mime::{Field, charset, date, encoded_word, subject};

use crate::annotation::SortValues;
use crate::collation::Collation;
use crate::search::{Fields, Record};

/// So many octets of a string are compared; strings that differ only behind them are equal.
pub(crate) const STRING_BYTES_MAX: usize = 2048;
/// Behind a string: less than all that is in one.
const END: u8 = 0;
/// Names of addresses that are looked at for a display name, in bytes.
const ADDRESS_BYTES_MAX: usize = 16 << 10;

/// Makes keys for a list of criteria.
#[derive(Debug)]
pub(crate) struct KeyMaker {
    criteria: Vec<SortCriterion>,
    collation: Collation,
    wants_fields: bool,
    /// Forms of annotations.
    values: SortValues,
}

/// Buffers of a [`KeyMaker`]'s user.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(super) text: String,
    pub(super) form: Vec<u8>,
}

impl KeyMaker {
    /// With the values of the annotations that `criteria` name by their places.
    pub(crate) fn new(
        criteria: &[SortCriterion],
        collation: Collation,
        values: SortValues,
    ) -> KeyMaker {
        let by_record = |key: SortKey| {
            use SortKey::{Annotation, Arrival, Date, ModSeq, Relevancy, Size, Uid};
            matches!(key, Annotation(_) | Arrival | Date | ModSeq | Relevancy | Size | Uid)
        };
        let wants_fields = !criteria.iter().all(|criterion| by_record(criterion.key));
        KeyMaker { criteria: criteria.to_vec(), collation, wants_fields, values }
    }

    /// Whether a message's header fields are looked at. For a record whose date is at the end of
    /// what it can hold they are in any case.
    pub(crate) fn wants_fields(&self, sent_date: u32) -> bool {
        self.wants_fields
            || is_clamped(sent_date)
                && self.criteria.iter().any(|criterion| criterion.key == SortKey::Date)
    }

    /// Appends the key of a message to `out`; returns where in it the octet is that
    /// [`Batch::rate`](super::Batch::rate) sets when the relevancy is known.
    pub(crate) fn write(
        &self,
        record: &Record,
        fields: &Fields<'_>,
        room: &mut Room,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let mut rating = None;
        for SortCriterion { key, reverse } in &self.criteria {
            let start = out.len();
            match key {
                SortKey::Arrival => signed(record.internal_date, out),
                SortKey::Date => signed(sent_date(record, fields), out),
                SortKey::ModSeq => out.extend_from_slice(&record.modseq.0.to_be_bytes()),
                SortKey::Size => out.extend_from_slice(&record.size.to_be_bytes()),
                SortKey::Uid => out.extend_from_slice(&record.uid.0.to_be_bytes()),
                SortKey::Relevancy => {
                    // A second one can change nothing.
                    rating.get_or_insert(start);
                    out.push(0);
                }
                SortKey::Subject => {
                    let base = fields.first(Field::Subject, |value| {
                        let (base, _) = subject::base_in(value, &mut room.text);
                        room.form.clear();
                        self.collation.form(base, &mut room.form);
                        Some(())
                    });
                    string(base.map_or(&[], |()| &room.form), out);
                }
                SortKey::Annotation(place) => {
                    let values = self.values.0.get(usize::from(*place));
                    let form = values.and_then(|values| values.get(&record.uid));
                    string(form.map_or(&[], |form| form), out);
                }
                SortKey::Cc => self.mailbox(fields, Field::Cc, room, out),
                SortKey::From => self.mailbox(fields, Field::From, room, out),
                SortKey::To => self.mailbox(fields, Field::To, room, out),
                SortKey::DisplayFrom => self.display(fields, Field::From, room, out),
                SortKey::DisplayTo => self.display(fields, Field::To, room, out),
            }
            if *reverse {
                out[start..].iter_mut().for_each(|octet| *octet = !*octet);
            }
        }
        rating
    }

    /// Whether relevancy counts, and then whether it is reversed.
    pub(crate) fn by_relevancy(&self) -> Option<bool> {
        let mut criteria = self.criteria.iter();
        criteria.find(|c| c.key == SortKey::Relevancy).map(|c| c.reverse)
    }

    /// RFC 5256: the mailbox of the first address, as ENVELOPE has it.
    fn mailbox(&self, fields: &Fields<'_>, field: Field, room: &mut Room, out: &mut Vec<u8>) {
        room.form.clear();
        first_address(fields, field, |address| {
            let local = match address {
                Address::Mailbox { local, .. } => local,
                Address::GroupStart(name) => name,
                Address::GroupEnd => return,
            };
            self.collation.form(&charset::guess(local), &mut room.form);
        });
        string(&room.form, out);
    }

    /// RFC 5957 section 3.
    fn display(&self, fields: &Fields<'_>, field: Field, room: &mut Room, out: &mut Vec<u8>) {
        room.form.clear();
        first_address(fields, field, |address| {
            let Room { text, form } = room;
            text.clear();
            match address {
                Address::Mailbox { name, local, domain, .. } => {
                    text.push_str(&encoded_word::decode(name.unwrap_or_default()));
                    if text.is_empty() {
                        text.push_str(&charset::guess(local));
                        if let Some(domain) = domain.filter(|domain| !domain.is_empty()) {
                            text.push('@');
                            text.push_str(&charset::guess(domain));
                        }
                    }
                }
                Address::GroupStart(name) => text.push_str(&charset::guess(name)),
                Address::GroupEnd => {}
            }
            self.collation.form(text, form);
        });
        string(&room.form, out);
    }
}

/// Gives the first address of a field, if there is one.
fn first_address(fields: &Fields<'_>, field: Field, mut each: impl FnMut(Address<'_>)) {
    fields.first(field, |value| {
        let value = value.get(..value.len().min(ADDRESS_BYTES_MAX)).unwrap_or_default();
        let mut found = None;
        address::parse(first_of(value), |address| {
            if found.is_none() {
                each(address);
                found = Some(());
            }
        });
        found
    });
}

/// The value up to behind its first address, where that can be told at a glance.
fn first_of(value: &[u8]) -> &[u8] {
    match memchr::memchr(b',', value) {
        Some(comma) if comma > 0 && !value[..comma].iter().any(|b| b"\"(:;<\\".contains(b)) => {
            &value[..comma]
        }
        Some(comma) if value[..comma].ends_with(b">") => {
            let quoted = value[..comma].iter().any(|b| b"\"(:;\\".contains(b));
            if quoted { value } else { &value[..comma] }
        }
        _ => value,
    }
}

/// Whether a record's date may stand for one that it can't hold.
fn is_clamped(sent_date: u32) -> bool {
    sent_date == 0 || sent_date == u32::MAX
}

/// RFC 5256 section 2.2, in seconds since 1970.
pub(super) fn sent_date(record: &Record, fields: &Fields<'_>) -> i64 {
    if !is_clamped(record.sent_date) {
        return i64::from(record.sent_date);
    }
    let told = fields.first(Field::Date, |value| Some(date::parse(value).map(|date| date.unix)));
    told.flatten().unwrap_or(record.internal_date)
}

fn signed(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&((number as u64) ^ 1 << 63).to_be_bytes());
}

fn string(form: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(&form[..form.len().min(STRING_BYTES_MAX)]);
    // No message may hold NUL; one that does compares as if it were the next octet.
    out[from..].iter_mut().filter(|octet| **octet == END).for_each(|octet| *octet = 1);
    out.push(END);
}
