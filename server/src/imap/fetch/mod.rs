//! What FETCH reads from where, and how it is written.
//!
//! | module | says |
//! |---|---|
//! | `ahead` | files asked for before their turn, where the disk is waited for |
//! | `plan` | items, and what each message needs: index record, cache blob, message file |
//! | `annotation` | annotations |
//! | `marking` | what becomes `\Seen` |
//! | `part` | a section's bytes for CATENATE and URLFETCH |
//! | `section` | `BODY[…]` and its older names, streamed from the message file |
//! | `binary` | `BINARY[…]`, decoded |
//! | `digest` | `DIGEST.SHA1`, made of the message file |
//!
//! Invariants: a message whose answer is in index and cache costs no await; never more than one
//! piece of a message is in memory besides the queue; the size in a literal's announcement is kept
//! or the connection ends.

pub(super) mod ahead;
mod annotation;
mod binary;
mod digest;
mod marking;
mod part;
mod plan;
mod section;

pub(super) use annotation::AnnotationItem;
pub(super) use marking::Marks;
pub(super) use part::{Part, write_url};
pub(super) use plan::{Beside, Plan, Sent, write_message};
