use super::*;
use crate::message::{Ingest, LineEnds};
use protocol::types::{SeqNum, SystemFlags};

struct Fake {
    record: Record,
    stored: Vec<u8>,
    extras: Option<Vec<u8>>,
    reads: usize,
    read_max: usize,
}

impl Source for Fake {
    type Error = std::convert::Infallible;

    fn record(&self) -> Record {
        self.record
    }

    fn extras(&mut self) -> Result<Option<&[u8]>, Self::Error> {
        Ok(self.extras.as_deref())
    }

    fn save_date(&mut self) -> Result<Option<i64>, Self::Error> {
        Ok(Some(86_400 * 200))
    }

    fn line_ends(&self) -> LineEnds {
        LineEnds::Lf
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        self.reads += 1;
        let rest = self.stored.get(at as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len()).min(self.read_max);
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

const MESSAGE: &[u8] = b"Date: Mon, 02 Jan 2006 23:04:05 -0700\r\nFrom: Al <al@example.org>\r\n\
    Subject: =?utf-8?q?caf=C3=A9?= time\r\nX-Odd: strange value\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\
    Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n\
    8PI=\r\n--b\r\nContent-Type: application/pdf; name=invoice.pdf\r\n\r\nSECRET\r\n--b\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nNested Words\r\n--b--\r\n";

fn fake(message: &[u8]) -> Fake {
    let mut ingest = Ingest::new(LineEnds::Lf);
    let mut stored = Vec::new();
    ingest.feed(message, &mut stored);
    let facts = ingest.finish(&mut stored);
    let record = Record {
        uid: Uid(7),
        seq: SeqNum(3),
        flags: SystemFlags::SEEN,
        keywords: 0b10,
        recent: false,
        modseq: ModSeq(9),
        internal_date: 86_400 * 100,
        sent_date: facts.sent_date.unwrap_or(0) as u32,
        size: facts.size,
    };
    Fake { record, stored, extras: Some(facts.extras), reads: 0, read_max: usize::MAX }
}

fn program(key: &SearchKey) -> Program {
    let bit = |keyword: &Keyword| (Some(keyword) == Keyword::new("work").as_ref()).then_some(1);
    let context = Context {
        uid_largest: Uid(10),
        seq_largest: 5,
        saved: &[(2, 3), (7, 7)],
        collation: Collation::default(),
        now: 0,
        keyword_bit: &bit,
    };
    Program::new(key, &context)
}

fn ask(source: &mut Fake, key: &SearchKey) -> bool {
    let answer = program(key).matches(source, &mut Scratch::default());
    answer.unwrap_or_else(|never| match never {})
}

fn s(text: &str) -> String {
    text.to_owned()
}

#[test]
fn strings_are_found_in_what_the_message_means() {
    use SearchKey::{Body, From, Header, Subject, Text};
    let cases = [
        (Subject(s("CAF\u{c9} t")), true),
        (From(s("AL@example")), true),
        (SearchKey::To(s("")), false),
        (Header(s("x-odd"), s("VALUE")), true),
        (Header(s("x-odd"), s("")), true),
        (Header(s("x-none"), s("")), false),
        (Header(s("date"), s("2006")), true),
        (Body(s("\u{43f}\u{440}")), true),
        (Body(s("nested words")), true),
        (Body(s("secret")), false),
        (Body(s("inner")), false),
        (Body(s("preamble")), false),
        (Text(s("inner")), true),
        (Text(s("invoice")), true),
        (Text(s("strange")), true),
        (Text(s("\u{43f}")), true),
        (Text(s("absent")), false),
    ];
    for (key, expected) in cases {
        let mut source = fake(MESSAGE);
        assert_eq!(ask(&mut source, &key), expected, "{key:?}");
        source.read_max = 5;
        assert_eq!(ask(&mut source, &key), expected, "{key:?} by short reads");
        source.extras = None;
        assert_eq!(ask(&mut source, &key), expected, "{key:?} without extras");
        source.extras = Some(vec![1, 2, 3]);
        assert_eq!(ask(&mut source, &key), expected, "{key:?} with damaged extras");
    }
}

#[test]
fn a_large_file_is_searched_in_pieces() {
    let mut message = b"Content-Type: text/plain\r\nSubject: big\r\n\r\n".to_vec();
    for _ in 0..20_000 {
        message.extend_from_slice(b"a line of hay in a large stack\r\n");
    }
    message.extend_from_slice(b"the n\xc3\xa9edle\r\n");
    let mut source = fake(&message);
    assert!(ask(&mut source, &SearchKey::Body(s("the n\u{c9}edle"))));
    assert!(ask(&mut source, &SearchKey::Text(s("large stack\nthe"))));
    assert!(!ask(&mut source, &SearchKey::Body(s("no needle"))));
    source.extras = None;
    assert!(ask(&mut source, &SearchKey::Header(s("x"), s("")).negated()));
    assert!(ask(&mut source, &SearchKey::Body(s("edle"))));
}

#[test]
fn the_index_is_asked_before_cache_and_file() {
    let cheap = SearchKey::Flag(Flag::System(SystemFlags::DELETED));
    let dear = SearchKey::Body(s("nested"));
    let mut source = fake(MESSAGE);
    assert!(!ask(&mut source, &SearchKey::And(vec![dear.clone(), cheap.clone()])));
    assert_eq!(source.reads, 0);
    assert!(!ask(&mut source, &SearchKey::Or(Box::new(cheap.clone()), Box::new(cheap))));
    assert!(ask(&mut source, &SearchKey::Subject(s("time"))));
    assert_eq!(source.reads, 0);
    assert!(ask(&mut source, &dear));
    assert!(source.reads > 0);
}

#[test]
fn ids_and_dates_of_saving_are_found() {
    let mut source = fake(MESSAGE);
    let ids = crate::message::Extras::open(source.extras.as_ref().unwrap()).unwrap().ids();
    let hex = |id: [u8; 16]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let email = format!("M{}", hex(ids.unwrap().content));
    let thread = format!("T{}", hex(ids.unwrap().thread));
    let date = |year, month, day| Date { year, month, day };
    let cases = [
        (SearchKey::EmailId(email.clone()), true),
        (SearchKey::EmailId(thread.clone()), false),
        (SearchKey::EmailId(email.to_uppercase()), false),
        (SearchKey::EmailId(s("M")), false),
        (SearchKey::ThreadId(thread), true),
        (SearchKey::ThreadId(email), false),
        (SearchKey::SaveDateSupported, true),
        (SearchKey::SavedOn(date(1970, 7, 20)), true),
        (SearchKey::SavedBefore(date(1970, 7, 20)), false),
        (SearchKey::SavedBefore(date(1970, 7, 21)), true),
        (SearchKey::SavedSince(date(1970, 7, 20)), true),
        (SearchKey::SavedSince(date(1970, 7, 21)), false),
    ];
    for (key, expected) in &cases {
        assert_eq!(ask(&mut source, key), *expected, "{key:?}");
    }
    assert_eq!(source.reads, 0);
    source.extras = None;
    for (key, expected) in &cases {
        assert_eq!(ask(&mut source, key), *expected, "{key:?} without extras");
    }
}

#[test]
fn needs_are_those_of_the_dearest_key() {
    let needs = |key: SearchKey| program(&key).needs();
    assert_eq!(needs(SearchKey::All), Needs::Index);
    assert_eq!(needs(SearchKey::Subject(s("x")).negated()), Needs::Cache);
    assert_eq!(needs(SearchKey::Header(s("received"), s("x"))), Needs::Bytes);
    assert_eq!(needs(SearchKey::Body(s("x"))), Needs::Bytes);
    assert_eq!(needs(SearchKey::Body(s(""))), Needs::Index);
}

#[test]
fn dates_compare_by_day() {
    let date = |year, month, day| Date { year, month, day };
    let mut source = fake(MESSAGE);
    // As written it was the second, in UTC the third.
    assert!(ask(&mut source, &SearchKey::SentOn(date(2006, 1, 2))));
    assert!(!ask(&mut source, &SearchKey::SentOn(date(2006, 1, 3))));
    assert!(!ask(&mut source, &SearchKey::SentBefore(date(2006, 1, 2))));
    assert!(ask(&mut source, &SearchKey::SentSince(date(2006, 1, 2))));
    let far = program(&SearchKey::SentBefore(date(2010, 1, 1)));
    assert_eq!(far.decide_by_index(&source.record), Some(true));
    assert!(ask(&mut source, &SearchKey::On(date(1970, 4, 11))));
    assert!(!ask(&mut source, &SearchKey::Before(date(1970, 4, 11))));
    assert!(ask(&mut source, &SearchKey::Since(date(1970, 4, 11))));
}

#[test]
fn sets_flags_sizes_and_combinations() {
    use protocol::types::{SetRange, SetValue};
    let set = |first, last| SequenceSet { ranges: vec![SetRange { first, last }] };
    let (star, n) = (SetValue::Star, SetValue::Number);
    let keyword = |name| SearchKey::Flag(Flag::Keyword(Keyword::new(name).unwrap()));
    let cases = [
        (SearchKey::UidSet(set(n(7), star)), true),
        (SearchKey::SeqSet(set(n(4), star)), false),
        (SearchKey::SavedResult, true),
        (keyword("WORK"), true),
        (keyword("work"), true),
        (keyword("play").negated(), true),
        (SearchKey::Flag(Flag::System(SystemFlags::SEEN)).negated(), false),
        (SearchKey::ModSeq(ModSeq(9)), true),
        (SearchKey::ModSeq(ModSeq(10)), false),
        (SearchKey::Larger(MESSAGE.len() as u64), false),
        (SearchKey::Smaller(MESSAGE.len() as u64 + 1), true),
        (SearchKey::Recent, false),
        (SearchKey::And(vec![]), true),
        (SearchKey::And(vec![SearchKey::All, SearchKey::Recent.negated()]), true),
        (SearchKey::Or(Box::new(SearchKey::Recent), Box::new(SearchKey::All)), true),
    ];
    for (key, expected) in cases {
        assert_eq!(ask(&mut fake(MESSAGE), &key), expected, "{key:?}");
    }
}
