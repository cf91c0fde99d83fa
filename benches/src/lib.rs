//! What the benches share: the messages that the load generator sends too, so that the figures of a
//! bench and of a whole server speak of the same mail; and the hot paths that are both timed by
//! criterion and counted in instructions.

use engine::format::frame::{Append, FlagChange, Frame, Source};
use engine::layout::NameFlags;
use load::message::{Generator, MESSAGE_BYTES_MEAN};
use protocol::imap::decode::{self, Dialect};
use protocol::imap::encode::{self, ListLine};
use protocol::imap::framing::{Event, Framer, Limits};
use protocol::types::{Keyword, ModSeq, SequenceSet, SetRange, SetValue, SystemFlags, Uid};

/// What a mail program says after it has connected, and once a minute.
pub const SESSION: &[u8] = b"a1 LOGIN \"someone@example.org\" \"a password\"\r\n\
a2 SELECT \"INBOX\"\r\n\
a3 UID FETCH 1:* (UID FLAGS)\r\n\
a4 UID FETCH 1017:1120 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date \
Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])\r\n\
a5 UID SEARCH CHARSET UTF-8 SINCE 1-Jan-2025 NOT DELETED OR SUBJECT {9}\r\nquarterly FROM boss\r\n\
a6 UID STORE 1017,1019:1023 +FLAGS.SILENT (\\Seen $Junk)\r\n\
a7 FETCH 17 (BODY.PEEK[1.2.HEADER]<0.2048> ENVELOPE BODYSTRUCTURE)\r\n\
a8 NOOP\r\n";
/// Commands in [`SESSION`].
pub const SESSION_COMMANDS: u64 = 8;

/// The first `count` messages of seed 1, in CRLF form.
pub fn messages(count: u64) -> Vec<Vec<u8>> {
    let generator = Generator::new(1, MESSAGE_BYTES_MEAN);
    (0..count)
        .map(|serial| {
            let mut message = Vec::new();
            generator.write(serial, &mut message);
            message
        })
        .collect()
}

/// Frames and decodes every command of [`SESSION`]; hands back how many there were.
pub fn decode_session(framer: &mut Framer, mut input: &[u8]) -> u64 {
    let mut decoded = 0;
    while !input.is_empty() {
        let (used, event) = framer.next(input);
        match event {
            Some(Event::Command(text)) => {
                decode::command(text, Dialect::default()).expect("a command");
                decoded += 1;
            }
            Some(Event::Continue) => {}
            other => unreachable!("only commands are here: {other:?}"),
        }
        input = &input[used..];
    }
    decoded
}

/// A framer as a session has it after its login.
pub fn framer() -> Framer {
    Framer::new(Limits::AFTER_LOGIN)
}

/// The frames of one delivery and of one STORE of 100 messages.
pub fn frames() -> Vec<Frame> {
    let append = Append {
        uid: Uid(1_000_000),
        modseq: ModSeq(7_000_000),
        internal_date: 1_700_000_000,
        save_date: 1_700_000_001,
        flags: SystemFlags::empty(),
        keywords: 0,
        size: 15_000,
        stored: 14_700,
        header_size: 1_500,
        sent_date: 1_699_999_990,
        subject_hash: 0x1234_5678,
        from_hash: 0x9abc_def0,
        content_id: [7; 16],
        source: Source::Staged("cursus.11.2f".to_owned()),
        base: b"1700000000.M123456P77Q9.mail.example.org,S=14700,W=15000".to_vec(),
        other_letters: Vec::new(),
        name_flags: 0,
        in_new: true,
    };
    let changes = (0..100)
        .map(|n| FlagChange {
            uid: Uid(1 + 3 * n),
            flags: SystemFlags::SEEN,
            keywords: 0,
            before: NameFlags::default(),
        })
        .collect();
    vec![Frame::Append(append), Frame::Flags { modseq: ModSeq(7_000_001), changes }]
}

/// A set such as a client with a sparse cache sends: `count` single numbers, every third.
pub fn sparse_set(count: u32) -> SequenceSet {
    let number = |n| SetValue::Number(1 + 3 * n);
    SequenceSet {
        ranges: (0..count).map(|n| SetRange { first: number(n), last: number(n) }).collect(),
    }
}

/// Writes `count` FETCH responses of UID and FLAGS.
pub fn fetch_lines(out: &mut Vec<u8>, keywords: &[Keyword], count: u32) {
    for n in 1..=count {
        out.extend_from_slice(b"* ");
        encode::number(out, u64::from(n));
        out.extend_from_slice(b" FETCH (UID ");
        encode::number(out, u64::from(n) + 1_000_000);
        out.extend_from_slice(b" FLAGS ");
        let flags = if n % 3 == 0 { SystemFlags::empty() } else { SystemFlags::SEEN };
        let keywords = if n % 7 == 0 { keywords } else { &[] };
        encode::flags(out, flags, keywords, None);
        out.extend_from_slice(b")\r\n");
    }
}

/// Writes the LIST lines of `names`.
pub fn list_lines(out: &mut Vec<u8>, names: &[String]) {
    for name in names {
        let attributes = vec!["\\HasNoChildren"];
        encode::list(out, &ListLine { attributes, name, ..ListLine::default() }, false);
    }
}

/// Names of `count` mailboxes, some of them beyond ASCII.
pub fn names(count: usize) -> Vec<String> {
    let word = ["Projects", "Büro", "Архив", "Lists"];
    (0..count).map(|n| format!("{}/{:05}", word[n % word.len()], n)).collect()
}
