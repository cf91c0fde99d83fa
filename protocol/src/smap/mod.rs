//! SMAP1, Courier's own mail access protocol: commands, message sets, search keys, words.
//!
//! A command is a line of words. A word with blanks or quotes is quoted, its quotes doubled. Folders
//! are lists of words, ended by an empty word or the line. Texts are UTF-8.

mod command;
mod search;
mod set;
mod text;
mod word;

pub use command::{Add, Attribute, Command, CommandError, Content, Entity, Store, StoreWhat};
pub use set::MessageSet;
pub use text::{TextDecoder, TextEnd};
pub use word::{Words, quoted};

/// Longest command line accepted, line end not counted; the description asks for 8,000.
pub const LINE_BYTES_MAX: usize = 8192;
