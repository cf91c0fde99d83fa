//! Files of quota roots, and records of `quotas.db`.
//!
//! To 2.4: used octets and limit, a line each. 2.5: more fields, with names in front of them. 3.x: a
//! dlist `%(S (used limit) M (used) AS (used) NF (used) MODSEQ n)`. A limit of -1, or none, is no
//! limit. Storage and annotations have their limits in KiB.

use super::dlist::{self, Value};
use super::{Damage, text};

const FORMAT: &str = "quota root";
const KIB: u64 = 1024;

/// What a root's mailboxes hold of something, and may hold: in octets, or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// What is there.
    pub used: u64,
    /// What may be there; a multiple of 1024 where octets are counted.
    pub limit: Option<u64>,
}

/// A quota root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Octets of messages.
    pub storage: Resource,
    /// Messages.
    pub messages: Resource,
    /// Octets of annotations.
    pub annotations: Resource,
    /// Mailboxes.
    pub mailboxes: Resource,
    /// Highest MODSEQ of the user when the file was written.
    pub modseq: u64,
}

impl Quota {
    /// Reads a file or value.
    ///
    /// # Errors
    /// What is neither form.
    pub fn read(bytes: &[u8]) -> Result<Quota, Damage> {
        if bytes.starts_with(b"%(") { Self::newer(bytes) } else { Self::lines(bytes) }
    }

    fn resource(&mut self, name: &str) -> Option<(&mut Resource, u64)> {
        match name {
            "S" | "STORAGE" => Some((&mut self.storage, KIB)),
            "M" | "MESSAGE" => Some((&mut self.messages, 1)),
            "AS" | "X-ANNOTATION-STORAGE" | "ANNOTATION-STORAGE" => {
                Some((&mut self.annotations, KIB))
            }
            "NF" | "X-NUM-FOLDERS" | "MAILBOX" => Some((&mut self.mailboxes, 1)),
            _ => None,
        }
    }

    fn newer(bytes: &[u8]) -> Result<Quota, Damage> {
        let value = dlist::read(bytes)?;
        let mut quota = Quota::default();
        for (key, value) in value.map().unwrap_or_default() {
            let key = text(FORMAT, 0, key)?;
            if key == "MODSEQ" {
                quota.modseq = value.number().unwrap_or(0);
            } else if let Some((resource, unit)) = quota.resource(key) {
                let numbers = value.list().unwrap_or_default();
                let at = |i: usize| numbers.get(i).and_then(Value::number);
                let used = at(0).ok_or_else(|| Damage::new(FORMAT, 0, "what is used", key))?;
                *resource =
                    Resource { used, limit: at(1).and_then(|limit| limit.checked_mul(unit)) };
            }
        }
        Ok(quota)
    }

    fn lines(bytes: &[u8]) -> Result<Quota, Damage> {
        let text = text(FORMAT, 0, bytes)?;
        let mut quota = Quota::default();
        let mut words = text.split_ascii_whitespace().peekable();
        let mut name = "S";
        loop {
            let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
            let (Some(used), Some(limit)) = (number(), number()) else {
                return Err(Damage::new(FORMAT, 0, "two numbers", text.to_owned()));
            };
            if let Some((resource, unit)) = quota.resource(name) {
                let limit = u64::try_from(limit).ok().and_then(|limit| limit.checked_mul(unit));
                *resource = Resource { used: u64::try_from(used).unwrap_or(0), limit };
            }
            // Old files may have one more number, the upper half of what is used.
            while words.peek().is_some_and(|word| word.parse::<i64>().is_ok()) {
                words.next();
            }
            name = match words.next() {
                Some(next) => next,
                None => return Ok(quota),
            };
        }
    }

    /// The file in the form of 3.x.
    pub fn write(&self) -> Vec<u8> {
        let resource = |resource: Resource, unit: u64| {
            let limit = resource.limit.map(|limit| Value::from_number(limit.div_ceil(unit)));
            let used = Value::from_number(resource.used);
            Value::List(std::iter::once(used).chain(limit).collect())
        };
        let fields = [
            ("S", resource(self.storage, KIB)),
            ("M", resource(self.messages, 1)),
            ("AS", resource(self.annotations, KIB)),
            ("NF", resource(self.mailboxes, 1)),
            ("MODSEQ", Value::from_number(self.modseq)),
        ];
        let fields = fields.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value));
        let mut out = dlist::write(&Value::Map(fields.collect()));
        out.push(b'\n');
        out
    }
}
