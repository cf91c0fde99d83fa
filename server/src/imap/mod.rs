//! IMAP sessions: RFC 3501, RFC 9051 and the extensions that [`capability`] lists.
//!
//! | module | says |
//! |---|---|
//! | `session` | one client: its state, from greeting to end, how it is answered |
//! | `input` | what it sends: the next command or line, and the waiting for it |
//! | `dispatch` | from a command to its answer |
//! | `promised` | a mailbox selected before its messages were read |
//! | `sync` | telling how the selected mailbox differs from what the client knows |
//! | `capability` | what we offer, when |
//! | `limit` | how many messages one command works on |
//! | `progress` | telling that a long command goes on |
//! | `reply` | tagged answers; the store's errors as response codes |
//! | `selected` | the selected mailbox: its view, sets |
//! | `names`, `sharing` | whose mailbox a name is, and what the user may do there |
//! | `notify` | what is told without having been asked for |
//! | `contexts` | searches whose results the client is kept told of |
//! | `fetch` | what FETCH reads from where, and how it is written |
//! | `filters` | named searches |
//! | `annotations` | annotations as commands name them |
//! | `pattern` | names with wildcards |
//! | `outbox` | sending what is put into a mailbox |
//! | `url` | messages that IMAP URLs name |
//! | `cmd` | a file per command |
//!
//! Invariants:
//!
//! - Commands are taken one at a time in the order sent, so pipelining is safe; output is sent when
//!   no further command is waiting or the queue is high.
//! - Sequence numbers change only at sync points, between commands: never within FETCH, STORE or
//!   SEARCH, nor at the end of their forms without UID.
//! - A tagged OK for a change is written after the engine's commit point.
//! - A client's mistake is answered and the session goes on; clients never see paths.

mod annotations;
mod capability;
mod cmd;
mod contexts;
mod dispatch;
mod fetch;
mod filters;
mod input;
mod limit;
mod names;
mod notify;
mod outbox;
mod progress;
mod promised;
mod reply;
mod selected;
mod session;
mod sharing;
mod sync;
mod url;

pub use session::run;
