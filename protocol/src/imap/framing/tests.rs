use super::*;
use proptest::prelude::*;

const SMALL: Limits = Limits { line_bytes_max: 60, literal_bytes_max: 20, command_bytes_max: 100 };

/// Feeds `input` in the given pieces; messages with `refuse` in their text are refused.
fn events<'i>(limits: Limits, pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<String> {
    let mut framer = Framer::new(limits);
    let mut out: Vec<String> = Vec::new();
    let mut message = String::new();
    let mut pending: Vec<u8> = Vec::new();
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let (used, event) = framer.next(&pending);
            let mut decision = None;
            let text = match event {
                None => None,
                Some(Event::MessageData(bytes)) => {
                    message.push_str(&String::from_utf8_lossy(bytes));
                    None
                }
                Some(event) => {
                    if let Event::AppendMessage { text, .. } = &event {
                        decision = Some(!text.windows(6).any(|w| w == b"refuse"));
                    }
                    Some(match event {
                        Event::Command(c) => format!("command {}", c.escape_ascii()),
                        Event::Line(l) => format!("line {}", l.escape_ascii()),
                        Event::AppendMessage { text, first, literal } => {
                            format!("message {first} {} {literal:?}", text.escape_ascii())
                        }
                        Event::AppendEnd(rest) => format!("end {}", rest.escape_ascii()),
                        Event::TooLong { head, excess } => {
                            format!("{excess:?} {}", String::from_utf8_lossy(&head[..2]))
                        }
                        other => format!("{other:?}"),
                    })
                }
            };
            let progress = used > 0 || text.is_some();
            if text.is_some() && !message.is_empty() {
                out.push(std::mem::take(&mut message));
            }
            let flood = text.as_deref() == Some("Flood");
            out.extend(text);
            match decision {
                Some(true) => framer.accept(),
                Some(false) => framer.refuse(),
                None => {}
            }
            pending.drain(..used);
            if flood {
                return out;
            }
            if !progress {
                break;
            }
        }
    }
    out
}

fn whole(limits: Limits, input: &[u8]) -> Vec<String> {
    events(limits, [input])
}

#[test]
fn commands_literals_and_line_ends() {
    let input = b"a NOOP\r\nb LOGIN {3}\r\nfoo {3+}\r\nb\r\n\nc NOOP\n";
    assert_eq!(
        whole(SMALL, input),
        [
            "command a NOOP",
            "Continue",
            r"command b LOGIN {3}\r\nfoo {3+}\r\nb\r\n",
            "command c NOOP"
        ]
    );
}

#[test]
fn append_streams_its_messages() {
    let input = b"a APPEND {1+}\r\nx (\\Seen) {5}\r\nhello {2+}\r\nyo ~{0}\r\n\r\nb NOOP\r\n";
    let literal =
        |bytes, synchronizing, binary| format!("{:?}", Literal { bytes, synchronizing, binary });
    assert_eq!(
        whole(SMALL, input),
        [
            format!(r"message true a APPEND {{1+}}\r\nx (\\Seen)  {}", literal(5, true, false)),
            "hello".to_owned(),
            format!("message false   {}", literal(2, false, false)),
            "yo".to_owned(),
            format!("message false   {}", literal(0, true, true)),
            "end ".to_owned(),
            "command b NOOP".to_owned(),
        ]
    );
}

#[test]
fn literals_of_annotations_are_no_messages() {
    let input = b"a APPEND x ANNOTATION (/a (v {2+}\r\n)( w \"(\\\"\")) {2+}\r\nhi \
        (\\Seen) ANNOTATION (/b (v {1}\r\nz)) CATENATE (TEXT {2+}\r\nho)\r\nb NOOP\r\n";
    let literal = format!("{:?}", Literal { bytes: 2, synchronizing: false, binary: false });
    let limits = Limits { line_bytes_max: 200, literal_bytes_max: 20, command_bytes_max: 400 };
    assert_eq!(
        whole(limits, input),
        [
            format!(
                r#"message true a APPEND x ANNOTATION (/a (v {{2+}}\r\n)( w \"(\\\"\"))  {literal}"#
            ),
            "hi".to_owned(),
            "Continue".to_owned(),
            format!(
                r"message false  (\\Seen) ANNOTATION (/b (v {{1}}\r\nz)) CATENATE (TEXT  {literal}"
            ),
            "ho".to_owned(),
            "end )".to_owned(),
            "command b NOOP".to_owned(),
        ]
    );
    let long = b"a APPEND x ANNOTATION (/a (v {21}\r\nb NOOP\r\n";
    assert_eq!(whole(limits, long), ["Literal a ", "command b NOOP"]);
}

#[test]
fn refused_messages_are_drained() {
    let nonsync = b"a APPEND refuse {5+}\r\nhello {3+}\r\nabc\r\nb NOOP\r\n";
    let got = whole(SMALL, nonsync);
    assert_eq!(got[1..], ["Refused", "command b NOOP"]);
    // After {n} the client gets the refusal and goes on with its next command.
    let sync = b"a APPEND refuse {5}\r\nb NOOP\r\n";
    assert_eq!(whole(SMALL, sync)[1..], ["Refused", "command b NOOP"]);
}

#[test]
fn a_line_at_the_limit_passes_and_one_past_it_does_not() {
    for end in ["\r\n", "\n"] {
        let fits = format!("a {}{end}b x{end}", "x".repeat(58));
        assert_eq!(whole(SMALL, fits.as_bytes()).len(), 2);
        assert!(whole(SMALL, fits.as_bytes())[0].starts_with("command a"));
        let long = format!("a {}{end}b x{end}", "x".repeat(59));
        assert_eq!(whole(SMALL, long.as_bytes()), ["Line a ", "command b x"]);
    }
}

#[test]
fn a_literal_at_the_limit_passes_and_one_past_it_does_not() {
    let fits = format!("a x {{20+}}\r\n{}\r\n", "y".repeat(20));
    assert!(whole(SMALL, fits.as_bytes())[0].starts_with("command a"));
    let long = format!("a x {{21+}}\r\n{} {{9+}}\r\n123456789\r\nb x\r\n", "y".repeat(21));
    assert_eq!(whole(SMALL, long.as_bytes()), ["Literal a ", "command b x"]);
    assert_eq!(whole(SMALL, b"a x {21}\r\nb x\r\n"), ["Literal a ", "command b x"]);
    let many = "a x {20+}\r\n12345678901234567890".to_owned()
        + &" {20+}\r\n12345678901234567890".repeat(3)
        + "\r\nb x\r\n";
    assert_eq!(whole(SMALL, many.as_bytes()), ["Command a ", "command b x"]);
}

#[test]
fn endless_text_and_giant_literals_end_the_connection() {
    let endless = vec![b'x'; TEXT_SKIP_BYTES_MAX as usize + 1];
    assert_eq!(whole(SMALL, &endless), ["Flood"]);
    assert_eq!(whole(SMALL, b"a x {99999999999999999999+}\r\n"), ["Flood"]);
}

#[test]
fn an_expected_line_is_not_read_as_a_command() {
    let mut framer = Framer::new(SMALL);
    framer.expect_line();
    assert_eq!(framer.next(b"AGZv{3}\r\na NOOP\r\n").1, Some(Event::Line(b"AGZv{3}")));
    assert_eq!(framer.next(b"a NOOP\r\n").1, Some(Event::Command(b"a NOOP")));
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,70}",
        "[a-d] APPEND (x|refuse) ",
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        (0u8..30, "\\+?").prop_map(|(n, plus)| format!("{{{n}{plus}}}\r\n")),
        (0u8..30).prop_map(|n| format!("~{{{n}}}\n")),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(pieces in prop::collection::vec(piece(), 0..12)) {
        let input = pieces.concat();
        let all = whole(SMALL, input.as_bytes());
        prop_assert_eq!(&events(SMALL, input.as_bytes().chunks(1)), &all);
        prop_assert_eq!(&events(SMALL, input.as_bytes().chunks(7)), &all);
        for at in 0..input.len() {
            let (a, b) = input.as_bytes().split_at(at);
            prop_assert_eq!(&events(SMALL, [a, b]), &all);
        }
    }
}
