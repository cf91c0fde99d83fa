//! Commands in, values out: the RFCs' examples, round trips, limits, and input that means harm.

use super::super::command::*;
use super::super::search::{Date, SEARCH_DEPTH_MAX, SEARCH_KEYS_MAX, SearchKey};
use super::*;
use crate::types::{
    Flag, Keyword, ModSeq, PartialRange, SequenceSet, SetRange, SetValue, SystemFlags, UidValidity,
};
use proptest::prelude::*;

const REV1: Dialect = Dialect { utf8_names: false, no_charset: false };
const REV2: Dialect = Dialect { utf8_names: true, no_charset: false };

fn ok(text: &str) -> Body {
    let input = format!("t {text}");
    match command(input.as_bytes(), REV1) {
        Ok(command) => command.body,
        Err(error) => panic!("{text}: {}", error.kind),
    }
}

fn bad(text: &str) -> String {
    let input = format!("t {text}");
    match command(input.as_bytes(), REV1) {
        Ok(command) => panic!("{text}: {command:?}"),
        Err(error) => {
            assert_eq!(error.tag.as_ref().map(Tag::as_str), Some("t"), "{text}");
            error.kind.to_string()
        }
    }
}

fn set(text: &str) -> SequenceSet {
    token::sequence_set(text.as_bytes()).unwrap().1
}

#[test]
fn bare_commands_and_tags() {
    assert_eq!(ok("noop"), Body::Noop);
    assert_eq!(ok("CAPABILITY"), Body::Capability);
    assert_eq!(bad("NOOP x"), "Expected the end of the command at byte 6");
    assert_eq!(bad("FROB"), "Unknown command");
    assert_eq!(bad("UID NOOP"), "Unknown command");
    assert_eq!(ok("unauthenticate"), Body::Unauthenticate);
    assert_eq!(ok("LANGUAGE"), Body::Language(vec![]));
    assert_eq!(ok("language fr-CA \"en\""), Body::Language(vec!["fr-CA".into(), "en".into()]));
    assert_eq!(ok("COMPRESS deflate"), Body::Compress { algorithm: "DEFLATE".into() });
    assert_eq!(bad("COMPRESS"), "Expected a space at byte 10");
    assert_eq!(bad("UNAUTHENTICATE x"), "Expected the end of the command at byte 16");
    assert_eq!(command(b"", REV1).unwrap_err().tag, None);
    assert_eq!(command(b"+ NOOP", REV1).unwrap_err().tag, None);
    assert_eq!(bad(""), "Unknown command");
    let long = "x".repeat(Tag::BYTES_MAX);
    assert!(command(format!("{long} NOOP").as_bytes(), REV1).is_ok());
    assert!(command(format!("{long}x NOOP").as_bytes(), REV1).is_err());
}

#[test]
fn object_ids_dates_of_saving_and_previews() {
    let items = |text: &str| match ok(text) {
        Body::Fetch(fetch) => fetch.items,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        items("FETCH 1 (EMAILID THREADID SAVEDATE preview (lazy) PREVIEW)"),
        [
            FetchItem::EmailId,
            FetchItem::ThreadId,
            FetchItem::SaveDate,
            FetchItem::Preview { lazy: true },
            FetchItem::Preview { lazy: false },
        ]
    );
    assert_eq!(items("UID FETCH 1 PREVIEW (LAZY)"), [FetchItem::Preview { lazy: true }]);
    bad("FETCH 1 (PREVIEW (EAGER))");
    let key = |text: &str| match ok(text) {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key("SEARCH EMAILID M6d_9-9"), SearchKey::EmailId("M6d_9-9".into()));
    assert_eq!(key("SEARCH THREADID T1"), SearchKey::ThreadId("T1".into()));
    assert_eq!(key("SEARCH SAVEDATESUPPORTED"), SearchKey::SaveDateSupported);
    let day = Date { year: 2014, month: 12, day: 28 };
    assert_eq!(key("SEARCH SAVEDBEFORE 28-Dec-2014"), SearchKey::SavedBefore(day));
    let longest = "x".repeat(255);
    assert_eq!(key(&format!("SEARCH EMAILID {longest}")), SearchKey::EmailId(longest.clone()));
    bad(&format!("SEARCH EMAILID {longest}x"));
    bad("SEARCH EMAILID a.b");
    let status = ok("STATUS INBOX (MAILBOXID APPENDLIMIT)");
    let items = vec![StatusItem::MailboxId, StatusItem::AppendLimit];
    assert_eq!(status, Body::Status { mailbox: "INBOX".into(), items });
}

/// RFC 7162 sections 3.2.5 and 3.2.6.
#[test]
fn resynchronisation() {
    let qresync = |text: &str| match ok(text) {
        Body::Select { parameters, .. } => *parameters.qresync.expect(text),
        other => panic!("{other:?}"),
    };
    let known = |known: Option<&str>, matched: Option<(&str, &str)>| QResync {
        uid_validity: UidValidity(67890007),
        modseq: ModSeq(20050715194045000),
        known: known.map(set),
        matched: matched.map(|(seqs, uids)| (set(seqs), set(uids))),
    };
    let start = "SELECT INBOX (QRESYNC (67890007 20050715194045000";
    assert_eq!(qresync(&format!("{start}))")), known(None, None));
    let uids = "41,43:211,214:541";
    assert_eq!(qresync(&format!("{start} {uids}) CONDSTORE)")), known(Some(uids), None));
    let (seqs, theirs) = ("5000,9990:9992", "15000,29970,29973,29976");
    assert_eq!(
        qresync(&format!("{start} 1:29997 ({seqs} {theirs})))")),
        known(Some("1:29997"), Some((seqs, theirs)))
    );
    assert_eq!(qresync(&format!("{start} (1 2)))")), known(None, Some(("1", "2"))));
    for wrong in ["(QRESYNC)", "(QRESYNC (1))", "(QRESYNC (0 1))", "(QRESYNC (1 1 1:*))", "()"] {
        bad(&format!("SELECT INBOX {wrong}"));
    }
    let fetch = |text: &str| match ok(text) {
        Body::Fetch(fetch) => (fetch.changed_since, fetch.vanished),
        other => panic!("{other:?}"),
    };
    let since = Some(ModSeq(12345));
    assert_eq!(fetch("UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)"), (since, true));
    assert_eq!(fetch("UID FETCH 1 (FLAGS) (VANISHED CHANGEDSINCE 12345)"), (since, true));
    assert_eq!(fetch("FETCH 1 FLAGS (CHANGEDSINCE 12345)"), (since, false));
    bad("FETCH 1 FLAGS (CHANGEDSINCE 12345 VANISHED)");
    bad("UID FETCH 1 FLAGS (VANISHED)");
    bad("UID FETCH 1 FLAGS ()");
}

/// RFC 9394 sections 3.1 and 3.3, RFC 10022 section 3.
#[test]
fn windows_and_batches() {
    let window = |from_end, first, last| Some(PartialRange { from_end, first, last });
    let options = |text: &str| match ok(text) {
        Body::Search(search) => search.options.unwrap(),
        other => panic!("{other:?}"),
    };
    let search = options("UID SEARCH RETURN (PARTIAL -1:-100 SAVE) UNDELETED UNKEYWORD $Junk");
    assert_eq!((search.partial, search.save, search.all), (window(true, 1, 100), true, false));
    assert_eq!(options("SEARCH RETURN (MIN PARTIAL 500:1) 1").partial, window(false, 500, 1));
    for wrong in ["PARTIAL", "PARTIAL 0:1", "PARTIAL 1:*", "PARTIAL -1:1", "PARTIAL 1:-1"] {
        bad(&format!("SEARCH RETURN ({wrong}) ALL"));
    }
    bad("SEARCH RETURN (ALL PARTIAL 1:2) ALL");
    bad("SEARCH RETURN (PARTIAL 1:2 ALL) ALL");
    bad("SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL");
    let fetch = |text: &str| match ok(text) {
        Body::Fetch(fetch) => (fetch.partial, fetch.changed_since),
        other => panic!("{other:?}"),
    };
    let since = Some(ModSeq(98305));
    let (start, last) = ("UID FETCH 25900:26600 (UID FLAGS)", window(true, 1, 30));
    assert_eq!(fetch(&format!("{start} (PARTIAL -1:-30 CHANGEDSINCE 98305)")), (last, since));
    assert_eq!(fetch(&format!("{start} (CHANGEDSINCE 98305 PARTIAL -1:-30)")), (last, since));
    bad("FETCH 1:* (UID) (PARTIAL 1:5)");
    let batches = |size, wanted| Body::UidBatches(UidBatches { size, wanted });
    assert_eq!(ok("UIDBATCHES 2000"), batches(2000, None));
    assert_eq!(ok("UIDBATCHES 2000 10:20"), batches(2000, Some((10, 20))));
    for wrong in ["UIDBATCHES", "UIDBATCHES 0", "UIDBATCHES 500 10", "UIDBATCHES 500 0:1"] {
        bad(wrong);
    }
    bad("UID UIDBATCHES 500");
    let key = |text: &str| match ok(text) {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key("SEARCH UIDAFTER 1"), SearchKey::UidSet(set("2:4294967295")));
    assert_eq!(key("SEARCH UIDBEFORE 25000"), SearchKey::UidSet(set("1:24999")));
    assert_eq!(key("SEARCH UIDBEFORE 1"), SearchKey::All.negated());
    assert_eq!(key("SEARCH UIDAFTER 4294967295"), SearchKey::All.negated());
}

#[test]
fn login_takes_every_kind_of_string() {
    let login = Body::Login { user: "mrc".into(), password: b"se\"cret".to_vec() };
    assert_eq!(ok(r#"LOGIN mrc "se\"cret""#), login);
    assert_eq!(ok("LOGIN {3}\r\nmrc {7+}\r\nse\"cret"), login);
    assert_eq!(bad("LOGIN mrc \"x"), "Expected the closing quote at byte 14");
    assert_eq!(bad("LOGIN a"), "Expected a space at byte 9");
    assert_eq!(bad("LOGIN a {1}\r\n\0"), "Expected a literal without NUL at byte 16");
}

#[test]
fn authenticate_with_and_without_initial_response() {
    let auth = |initial| Body::Authenticate { mechanism: "PLAIN".into(), initial };
    assert_eq!(ok("AUTHENTICATE plain"), auth(None));
    assert_eq!(ok("AUTHENTICATE PLAIN ="), auth(Some(vec![])));
    assert_eq!(ok("AUTHENTICATE PLAIN AGEAYg=="), auth(Some(b"\0a\0b".to_vec())));
    assert_eq!(ok("AUTHENTICATE PLAIN "), auth(None));
    assert_eq!(bad("AUTHENTICATE PLAIN  "), "Expected base64 at byte 22");
    assert_eq!(bad("AUTHENTICATE PLAIN !!"), "Expected base64 at byte 23");
}

#[test]
fn mailbox_names_are_utf8_inside() {
    let delete = |mailbox: &str| Body::Delete { mailbox: mailbox.into() };
    assert_eq!(ok("DELETE inbox"), delete("INBOX"));
    assert_eq!(ok("DELETE Inbox/x"), delete("INBOX/x"));
    assert_eq!(ok("DELETE inboxes"), delete("inboxes"));
    assert_eq!(ok("DELETE Entw&APw-rfe"), delete("Entwürfe"));
    assert_eq!(bad("DELETE a&b"), "expected '-' at the end of a base64 run in a mailbox name");
    let rev2 = command("t DELETE \"Entwürfe & &APw-\"".as_bytes(), REV2).unwrap();
    assert_eq!(rev2.body, delete("Entwürfe & &APw-"));
    let latin1 = command(b"t DELETE {1}\r\n\xfc", REV2).unwrap_err();
    assert_eq!(latin1.kind, DecodeErrorKind::MailboxName(None));
}

#[test]
fn select_create_enable_id() {
    let select = |read_only, condstore| Body::Select {
        mailbox: "a".into(),
        read_only,
        parameters: SelectParameters { condstore, ..SelectParameters::default() },
    };
    assert_eq!(ok("SELECT a"), select(false, false));
    assert_eq!(ok("EXAMINE a (CONDSTORE)"), select(true, true));
    assert_eq!(bad("SELECT a (FROB)"), "Expected CONDSTORE, QRESYNC or ANNOTATE at byte 12");
    assert_eq!(
        ok("CREATE x (USE (\\Sent \\Drafts))"),
        Body::Create {
            mailbox: "x".into(),
            partition: None,
            special_use: vec!["\\Sent".into(), "\\Drafts".into()]
        }
    );
    assert_eq!(
        ok("ENABLE condstore X-GOOD"),
        Body::Enable(vec!["CONDSTORE".into(), "X-GOOD".into()])
    );
    assert_eq!(ok("ID NIL"), Body::Id(vec![]));
    assert_eq!(
        ok(r#"ID ("name" "x" "os" NIL)"#),
        Body::Id(vec![("name".into(), Some("x".into())), ("os".into(), None)])
    );
    let pairs = |n: usize| format!("ID ({})", vec![r#""a" "b""#; n].join(" "));
    assert!(matches!(ok(&pairs(ID_PAIRS_MAX)), Body::Id(_)));
    assert!(bad(&pairs(ID_PAIRS_MAX + 1)).starts_with("Expected at most 30 pairs"));
}

#[test]
fn list_in_all_its_forms() {
    let basic = List { patterns: vec!["*".into()], ..List::default() };
    assert_eq!(ok(r#"LIST "" *"#), Body::List(basic.clone()));
    let list = |text| match ok(text) {
        Body::List(list) => list,
        other => panic!("{other:?}"),
    };
    let subscribed = list(r#"LIST (SUBSCRIBED RECURSIVEMATCH) "" "*""#);
    assert!(subscribed.extended && subscribed.select_subscribed && subscribed.recursive_match);
    let several = list(r#"LIST "" ("INBOX" "Drafts" "Sent/%")"#);
    assert_eq!(several.patterns, ["INBOX", "Drafts", "Sent/%"]);
    let all = r#"LIST () "" % RETURN (SUBSCRIBED CHILDREN SPECIAL-USE STATUS (MESSAGES UNSEEN))"#;
    let returned = list(all);
    assert!(returned.return_subscribed && returned.return_children && returned.return_special_use);
    assert_eq!(returned.return_status, [StatusItem::Messages, StatusItem::Unseen]);
    assert!(list(r#"LIST "" % RETURN ()"#).extended);
    assert!(bad(r#"LIST (RECURSIVEMATCH) "" %"#).starts_with("Expected SUBSCRIBED beside"));
    assert!(bad(r#"LIST "" % RETURN (FROB)"#).starts_with("Expected SUBSCRIBED, CHILDREN"));
    let patterns = |n| format!(r#"LIST "" ({})"#, vec!["a"; n].join(" "));
    assert_eq!(list(&patterns(100)).patterns.len(), 100);
    assert!(bad(&patterns(101)).starts_with("Expected at most 100 patterns"));
}

#[test]
fn fetch_items_sections_and_modifiers() {
    let fetch = |text| match ok(text) {
        Body::Fetch(fetch) => fetch,
        other => panic!("{other:?}"),
    };
    assert_eq!(fetch("FETCH 1 FAST").items.len(), 3);
    assert_eq!(fetch("FETCH 1 full").items.len(), 5);
    let all = fetch(
        "UID FETCH 1:*,7 (UID BODY BODYSTRUCTURE BODY[] BODY.PEEK[1.2.HEADER.FIELDS (To \"Cc\")]<0.10> \
         BODY[1.MIME] BODY[TEXT] BODY[3] BINARY.PEEK[1]<5.6> BINARY.SIZE[2] RFC822.HEADER MODSEQ) \
         (CHANGEDSINCE 12345)",
    );
    assert!(all.uid);
    assert_eq!(all.set, SetArgument::Set(set("1:*,7")));
    assert_eq!(all.changed_since, Some(ModSeq(12345)));
    assert_eq!(
        all.items[4],
        FetchItem::Section {
            peek: true,
            section: Section {
                part: vec![1, 2],
                text: SectionText::HeaderFields(vec!["To".into(), "Cc".into()])
            },
            partial: Some(Partial { offset: 0, length: 10 }),
        }
    );
    assert_eq!(
        all.items[8],
        FetchItem::Binary {
            peek: true,
            part: vec![1],
            partial: Some(Partial { offset: 5, length: 6 })
        }
    );
    assert_eq!(all.items[9], FetchItem::BinarySize { part: vec![2] });
    assert_eq!(fetch("FETCH $ FLAGS").set, SetArgument::Saved);
    for text in [
        "FETCH 0 FLAGS",
        "FETCH 4294967296 FLAGS",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 (FLAGS) (VANISHED)",
        "FETCH 1 ()",
        "FETCH 1 (FAST)",
        "FETCH 1, FLAGS",
    ] {
        bad(text);
    }
}

#[test]
fn store_and_its_flags() {
    let store = |text| match ok(text) {
        Body::Store(store) => store,
        other => panic!("{other:?}"),
    };
    let add = store("STORE 2:4 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Deleted $Junk \\recent $junk)");
    assert_eq!(add.unchanged_since, Some(ModSeq(12)));
    assert_eq!((add.mode, add.silent), (StoreMode::Add, true));
    assert_eq!(add.flags.system, SystemFlags::DELETED);
    assert_eq!(add.flags.keywords, [Keyword::new("$Junk").unwrap()]);
    let bare = store("UID STORE 1 -FLAGS \\Seen \\Draft");
    assert_eq!(bare.flags.system, SystemFlags::SEEN.union(SystemFlags::DRAFT));
    assert_eq!(store("STORE 1 FLAGS ()").mode, StoreMode::Replace);
    assert!(bad("STORE 1 FLAGS (\\Frob)").starts_with("Expected a known system flag"));
}

/// The first text of an APPEND with a literal behind it: the head and what comes of it.
fn begin(text: &str) -> (AppendHead, AppendText, Vec<AppendItem>) {
    AppendText::begin(text.as_bytes(), true, REV1).unwrap_or_else(|e| panic!("{text}: {}", e.kind))
}

#[test]
fn append_heads_and_what_is_between_messages() {
    let text = AppendItem::Text { utf8: false };
    let (head, mut reader, items) =
        begin("A003 APPEND saved-messages (\\Seen x) \"17-Jul-1996 02:44:25 -0700\" ");
    assert_eq!((head.tag.as_str(), head.mailbox.as_str()), ("A003", "saved-messages"));
    let [AppendItem::Message(options), last] = &items[..] else { panic!("{items:?}") };
    assert_eq!((options.flags.system, last), (SystemFlags::SEEN, &text));
    assert_eq!(options.internal_date, Some(837_596_665));
    assert_eq!(reader.next(b"", false), Ok(vec![]));
    let (head, mut reader, items) = begin("a append {5}\r\ninbox ");
    assert_eq!(head.mailbox, "INBOX");
    let message = AppendItem::Message(AppendOptions::default());
    assert_eq!(items, [message.clone(), text.clone()]);
    // MULTIAPPEND
    let dated = reader.next(b" \" 1-Jan-1970 00:00:01 +0000\" ", true).unwrap();
    let one = AppendOptions { internal_date: Some(1), ..AppendOptions::default() };
    assert_eq!(dated, [AppendItem::Message(one), text]);
    for wrong in [
        " \"31-Feb-1994 00:00:00 +0000\" ",
        " \"01-Feb-1994 24:00:00 +0000\" ",
        "x",
        " CATENATE (",
        " CATENATE (TEXT",
        " CATENATE (FROB ",
        " UTF8 ",
    ] {
        assert!(begin("a APPEND x ").1.next(wrong.as_bytes(), true).is_err(), "{wrong}");
    }
    assert!(AppendText::begin(b"a APPEND x (\\Seen)", false, REV1).is_err());
    assert!(bad("APPEND x (\\Seen)").starts_with("Expected a message literal"));
    assert!(is_append(b"a UID replace 4 x") && !is_append(b"a UID COPY 4 x"));
}

/// RFC 4467 section 9, RFC 5524 section 6.
#[test]
fn url_commands() {
    let rump = "imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred";
    let pair = (rump.to_owned(), "INTERNAL".to_owned());
    assert_eq!(ok(&format!("GENURLAUTH \"{rump}\" internal")), Body::GenUrlAuth(vec![pair]));
    assert!(bad("GENURLAUTH x").starts_with("Expected "));
    let reset = |mailbox: Option<&str>, mechanisms: &[&str]| Body::ResetKey {
        mailbox: mailbox.map(str::to_owned),
        mechanisms: mechanisms.iter().map(|&m| m.to_owned()).collect(),
    };
    assert_eq!(ok("RESETKEY"), reset(None, &[]));
    assert_eq!(ok("RESETKEY inbox"), reset(Some("INBOX"), &[]));
    assert_eq!(ok("RESETKEY x INTERNAL"), reset(Some("x"), &["INTERNAL"]));
    let simple = |url: &str| UrlFetch { url: url.to_owned(), items: None };
    assert_eq!(ok("URLFETCH a \"b\""), Body::UrlFetch(vec![simple("a"), simple("b")]));
    let items = vec![UrlItem::Structure, UrlItem::Binary, UrlItem::Body];
    let extended = UrlFetch { url: "a".into(), items: Some(items) };
    let text = "URLFETCH (\"a\" BODYPARTSTRUCTURE BINARY BODY) b ({1}\r\nc)";
    let none = UrlFetch { url: "c".into(), items: Some(vec![]) };
    assert_eq!(ok(text), Body::UrlFetch(vec![extended, simple("b"), none]));
    assert!(bad("URLFETCH (a FROB)").starts_with("Expected "));
    assert!(bad("URLFETCH").starts_with("Expected "));
}

/// RFC 4469 section 5, RFC 6855 section 4, RFC 8508 section 4.2.
#[test]
fn parts_of_a_message() {
    let message = || AppendItem::Message(AppendOptions::default());
    let text = |utf8| AppendItem::Text { utf8 };
    let url = |url: &str| AppendItem::Url(url.to_owned());
    let (head, mut reader, items) = begin("A011 UID REPLACE 3002 Drafts CATENATE (TEXT ");
    assert_eq!((head.replaced, &*head.mailbox), (Some(Replaced::Uid(3002)), "Drafts"));
    assert_eq!(items, [message(), text(false)]);
    assert_eq!(
        reader.next(b" URL \"/Drafts/;UID=3002\")", false),
        Ok(vec![url("/Drafts/;UID=3002")])
    );
    let (head, mut reader, items) = begin("a replace 4 {1}\r\nx CATENATE (URL /x/;UID=1 URL ");
    assert_eq!(head.replaced, Some(Replaced::Seq(4)));
    assert_eq!(items, [message(), url("/x/;UID=1"), AppendItem::UrlLiteral]);
    assert_eq!(reader.next(b" UTF8 (", true), Ok(vec![text(true)]));
    assert_eq!(
        reader.next(b") URL b) CATENATE (TEXT ", true).unwrap(),
        [url("b"), message(), text(false)]
    );
    assert_eq!(reader.next(b")", false), Ok(vec![]));
    let (_, mut reader, items) = begin("a APPEND x UTF8 (");
    assert_eq!(items, [message(), text(true)]);
    assert_eq!(reader.next(b") UTF8 (", true), Ok(vec![message(), text(true)]));
    assert_eq!(reader.next(b")", false), Ok(vec![]));
    let whole =
        AppendText::begin(b"a APPEND x CATENATE (URL a URL b) CATENATE (URL c)", false, REV1);
    assert_eq!(whole.unwrap().2, [message(), url("a"), url("b"), message(), url("c")]);
    for wrong in ["", " TEXT x)", ") x", " URL a", ")) "] {
        let mut reader = begin("a APPEND x CATENATE (TEXT ").1;
        assert!(reader.next(wrong.as_bytes(), false).is_err(), "{wrong}");
    }
}

fn search_key(text: &str) -> SearchKey {
    match ok(&format!("SEARCH {text}")) {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn search_keys_options_and_charsets() {
    let flag = |f| SearchKey::Flag(Flag::System(f));
    assert_eq!(
        search_key("FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\""),
        SearchKey::And(vec![
            flag(SystemFlags::FLAGGED),
            SearchKey::Since(Date { year: 1994, month: 2, day: 1 }),
            SearchKey::From("Smith".into()).negated(),
        ])
    );
    assert_eq!(
        search_key("OR (SEEN $) UID 3:5,*"),
        SearchKey::Or(
            Box::new(SearchKey::And(vec![flag(SystemFlags::SEEN), SearchKey::SavedResult])),
            Box::new(SearchKey::UidSet(set("3:5,*")))
        )
    );
    assert_eq!(
        search_key(r#"MODSEQ "/flags/\\draft" all 620162338"#),
        SearchKey::ModSeq(ModSeq(620_162_338))
    );
    let text = |input: &[u8]| match command(input, REV1).unwrap().body {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text(b"t SEARCH CHARSET KOI8-R TEXT {6}\r\n\xd0\xd2\xc9\xd7\xc5\xd4"),
        SearchKey::Text("привет".into())
    );
    assert_eq!(text("t SEARCH TEXT {2}\r\nü".as_bytes()), SearchKey::Text("ü".into()));
    assert!(command(b"t SEARCH CHARSET UTF-8 TEXT {1}\r\n\xfc", REV1).is_err());
}

#[test]
fn search_return_options() {
    let options = |text| match ok(text) {
        Body::Search(search) => search.options,
        other => panic!("{other:?}"),
    };
    assert_eq!(options("SEARCH ALL"), None);
    let all = SearchReturn { all: true, ..SearchReturn::default() };
    assert_eq!(options("SEARCH RETURN () ALL"), Some(all));
    let several = SearchReturn { min: true, count: true, save: true, ..SearchReturn::default() };
    assert_eq!(options("UID SEARCH RETURN (MIN COUNT SAVE) CHARSET UTF-8 ALL"), Some(several));
    assert!(bad("SEARCH RETURN (FROB) ALL").contains("a RETURN option that is known"));
    let kind = |text: &str| command(text.as_bytes(), REV1).unwrap_err().kind;
    assert_eq!(kind("t SEARCH CHARSET X-FROB ALL"), DecodeErrorKind::Charset);
    assert_eq!(kind("t SEARCH CHARSET UTF-16 ALL"), DecodeErrorKind::Charset);
}

#[test]
fn search_nests_to_its_limit_and_no_deeper() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("OR ALL ", "")] {
        let nested = |n: usize| format!("SEARCH {}ALL{}", open.repeat(n), close.repeat(n));
        assert!(matches!(ok(&nested(SEARCH_DEPTH_MAX - 2)), Body::Search(_)), "{open}");
        assert!(bad(&nested(SEARCH_DEPTH_MAX - 1)).starts_with("Expected search keys nested"));
        bad(&nested(100_000));
    }
    let wide = |n| format!("SEARCH{}", " ALL".repeat(n));
    assert!(matches!(ok(&wide(SEARCH_KEYS_MAX)), Body::Search(_)));
    assert!(bad(&wide(SEARCH_KEYS_MAX + 1)).starts_with("Expected at most 2000 search keys"));
}

/// The shortest wire form of a key.
fn write_key(key: &SearchKey, out: &mut String) {
    use std::fmt::Write;
    let quote = |s: &str| format!("{{{}+}}\r\n{s}", s.len());
    let day = |d: &Date| {
        let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"][usize::from(d.month) - 1];
        format!("{}-{month}-{:04}", d.day, d.year)
    };
    match key {
        SearchKey::All => out.push_str("ALL"),
        SearchKey::And(keys) => {
            out.push('(');
            for (i, key) in keys.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                write_key(key, out);
            }
            out.push(')');
        }
        SearchKey::Or(a, b) => {
            out.push_str("OR ");
            write_key(a, out);
            out.push(' ');
            write_key(b, out);
        }
        SearchKey::Not(key) => {
            out.push_str("NOT ");
            write_key(key, out);
        }
        SearchKey::Flag(Flag::Keyword(k)) => write!(out, "KEYWORD {k}").unwrap(),
        SearchKey::Flag(Flag::System(f)) => {
            let name = SystemFlags::NAMES.iter().find(|(flag, _)| flag == f).unwrap().1;
            out.push_str(&name[1..]);
        }
        SearchKey::SeqSet(set) => write!(out, "{}", wire_set(set)).unwrap(),
        SearchKey::UidSet(set) => write!(out, "UID {}", wire_set(set)).unwrap(),
        SearchKey::SavedResult => out.push('$'),
        SearchKey::SentOn(d) => write!(out, "SENTON {}", day(d)).unwrap(),
        SearchKey::Larger(n) => write!(out, "LARGER {n}").unwrap(),
        SearchKey::ModSeq(n) => write!(out, "MODSEQ {n}").unwrap(),
        SearchKey::Header(a, b) => write!(out, "HEADER {} {}", quote(a), quote(b)).unwrap(),
        SearchKey::Body(s) => write!(out, "BODY {}", quote(s)).unwrap(),
        other => panic!("not generated: {other:?}"),
    }
}

fn wire_set(set: &SequenceSet) -> String {
    let range = |r: &SetRange| format!("{}:{}", r.first, r.last);
    set.ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

fn any_set() -> impl Strategy<Value = SequenceSet> {
    let value = || prop_oneof![(1u32..).prop_map(SetValue::Number), Just(SetValue::Star)];
    let range = (value(), value()).prop_map(|(first, last)| SetRange { first, last });
    prop::collection::vec(range, 1..4).prop_map(|ranges| SequenceSet { ranges })
}

fn any_key() -> impl Strategy<Value = SearchKey> {
    let text = || "[^\0]{0,8}";
    let leaf = prop_oneof![
        Just(SearchKey::All),
        Just(SearchKey::SavedResult),
        Just(SearchKey::Flag(Flag::System(SystemFlags::FLAGGED))),
        "[a-z$]{1,9}".prop_map(|k| SearchKey::Flag(Flag::Keyword(Keyword::new(&k).unwrap()))),
        any_set().prop_map(SearchKey::SeqSet),
        any_set().prop_map(SearchKey::UidSet),
        (0u16..9999, 1u8..7, 1u8..29).prop_map(|(year, month, day)| SearchKey::SentOn(Date {
            year,
            month,
            day
        })),
        (0u64..1 << 63).prop_map(SearchKey::Larger),
        (0u64..1 << 63).prop_map(|n| SearchKey::ModSeq(ModSeq(n))),
        (text(), text()).prop_map(|(a, b)| SearchKey::Header(a, b)),
        text().prop_map(SearchKey::Body),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(SearchKey::And),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| SearchKey::Or(Box::new(a), Box::new(b))),
            inner.prop_map(SearchKey::negated),
        ]
    })
}

proptest! {
    #[test]
    fn a_search_key_written_out_decodes_to_itself(key in any_key()) {
        let mut text = "t SEARCH ".to_owned();
        write_key(&key, &mut text);
        match command(text.as_bytes(), REV1).map(|c| c.body) {
            Ok(Body::Search(search)) => prop_assert_eq!(search.key, key),
            other => prop_assert!(false, "{}: {:?}", text, other),
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>(), name in "(UID )?[A-Z]{2,9}") {
        let names = ["FETCH 1 ", "UID STORE 1 ", "SEARCH ", "LIST ", "ID ", "STATUS ", "APPEND "];
        for name in names.into_iter().chain([name.as_str()]) {
            let input = [b"t ", name.as_bytes(), &bytes[..]].concat();
            let _ = command(&input, REV1);
            for literal in [false, true] {
                if let Ok((_, mut reader, _)) = AppendText::begin(&input, literal, REV2) {
                    let _ = reader.next(&bytes, literal);
                }
            }
        }
    }
}

/// RFC 5464 section 4.
#[test]
fn metadata_commands() {
    let get = |text: &str| match ok(text) {
        Body::GetMetadata(get) => get,
        other => panic!("{text}: {other:?}"),
    };
    let plain = get("GETMETADATA \"\" /shared/comment");
    assert_eq!((plain.mailbox, plain.entries.len()), (None, 1));
    let many = get("GETMETADATA \"INBOX\" /private/comment /shared/comment");
    assert_eq!(many.entries, ["/private/comment", "/shared/comment"]);
    for text in [
        "GETMETADATA \"INBOX\" (MAXSIZE 1024) (/shared/comment /private/comment)",
        "GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment /private/comment)",
    ] {
        let get = get(text);
        assert_eq!((get.max_size, get.entries.len()), (Some(1024), 2), "{text}");
    }
    let deep = get("GETMETADATA (maxsize 1 depth infinity) INBOX (\"/private/*\")");
    assert_eq!((deep.depth, deep.entries), (MetadataDepth::Infinity, vec!["/private/*".into()]));
    assert_eq!(get("GETMETADATA INBOX (DEPTH 1) (/private/f)").depth, MetadataDepth::One);
    assert_eq!(bad("GETMETADATA (DEPTH 2) INBOX /a"), "Expected 0, 1 or infinity at byte 21");
    assert_eq!(bad("GETMETADATA (FOO 2) INBOX /a"), "Expected MAXSIZE or DEPTH at byte 15");
    assert_eq!(bad("GETMETADATA INBOX"), "Expected a space at byte 19");
    let changes = |text: &str| match ok(text) {
        Body::SetMetadata { changes, .. } => changes,
        other => panic!("{text}: {other:?}"),
    };
    let set = changes("SETMETADATA INBOX (/private/comment {3}\r\na\r\n /shared/c NIL)");
    assert_eq!(set[0], ("/private/comment".into(), Some(b"a\r\n".to_vec())));
    assert_eq!(set[1], ("/shared/c".into(), None));
    let binary = changes("SETMETADATA \"\" (/shared/c ~{2}\r\n\0a)");
    assert_eq!(binary[0].1, Some(b"\0a".to_vec()));
    assert_eq!(bad("SETMETADATA INBOX ()"), "Expected the name of an entry at byte 21");
}

/// RFC 9208 section 7.
#[test]
fn quota_commands() {
    assert_eq!(ok("getquota \"\""), Body::GetQuota { root: String::new() });
    let limits = vec![("STORAGE".to_owned(), 510), ("X-Y".to_owned(), 1)];
    let root = "#user/alice".to_owned();
    assert_eq!(ok("SETQUOTA \"#user/alice\" (storage 510 x-y 1)"), Body::SetQuota { root, limits });
    assert_eq!(ok("SETQUOTA a ()"), Body::SetQuota { root: "a".into(), limits: vec![] });
    assert_eq!(bad("SETQUOTA a (STORAGE x)"), "Expected a number at byte 22");
}

/// RFC 5465 sections 3.1 and 6.
#[test]
fn notify_commands() {
    let groups = |text: &str| match ok(text) {
        Body::Notify(Notify::Set { status, groups }) => (status, groups),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(ok("NOTIFY NONE"), Body::Notify(Notify::None));
    let (status, found) = groups(
        "notify set status (selected MessageNew (uid body.peek[header.fields (from to subject)]) \
         MessageExpunge) (subtree Lists MessageNew)",
    );
    assert!(status);
    assert_eq!(found[0].filter, MailboxFilter::Selected { delayed: false });
    assert!(matches!(&found[0].events[..],
        [NotifyEvent::MessageNew(items), NotifyEvent::MessageExpunge] if items.len() == 2));
    assert_eq!(found[1].filter, MailboxFilter::Subtree(vec!["Lists".into()]));
    let (status, found) = groups(
        "notify set (mailboxes (inbox \"a b\") (Messagenew messageExpunge FlagChange)) \
         (personal (SubscriptionChange x-new)) (selected-delayed NONE)",
    );
    assert!(!status);
    assert_eq!(found[0].filter, MailboxFilter::Mailboxes(vec!["INBOX".into(), "a b".into()]));
    assert_eq!(found[1].events, [NotifyEvent::SubscriptionChange, NotifyEvent::Unknown]);
    assert_eq!(found[2].events, []);
    assert_eq!(
        bad("NOTIFY SET (all NONE)"),
        "Expected a mailbox filter such as SELECTED or PERSONAL at byte 14"
    );
    assert_eq!(bad("NOTIFY"), "Expected a space at byte 8");
    assert_eq!(bad("NOTIFY SET (personal ())"), "Expected an event at byte 24");
}
