//! What the reader of mbox files needs of its crate.

#[path = "../../../../tools/src/mailfiles/line_ends.rs"]
#[allow(dead_code)]
pub mod line_ends;
#[path = "../../../../tools/src/mailfiles/mbox.rs"]
#[allow(dead_code)]
pub mod mbox;

/// As the crate has it.
#[derive(Clone, Debug, Default)]
#[allow(dead_code)]
pub struct Found {
    pub source: String,
    pub octets: Vec<u8>,
    pub flags: Vec<String>,
    pub internal_date: Option<i64>,
    pub mailbox: Option<String>,
}

/// As the crate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(dead_code)]
pub struct Damage {
    pub source: String,
    pub offset: Option<u64>,
    pub what: String,
}
