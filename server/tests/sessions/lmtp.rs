//! LMTP sessions, scripted: what the RFCs show, every cut of the input, hostile clients.

use crate::site::{Site, on_a_core, untraced};
use config::{LayoutKind, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn lmtp(layout: LayoutKind) -> Site {
    Site::new(Protocol::Lmtp, layout, |_| {})
}

const MESSAGE: &str = "From: a@example.org\r\nSubject: t\r\n\r\nbody\r\n.dot\r\n";
const WIRE: &str = "From: a@example.org\r\nSubject: t\r\n\r\nbody\r\n..dot\r\n.\r\n";
const TO_JO: &str = "MAIL FROM:<a@example.org>\r\nRCPT TO:<jo@example.org>\r\n";

/// The answers' codes, in order, without the greeting's and LHLO's.
fn codes(said: &str) -> Vec<String> {
    let code = |line: &str| {
        let mut words = line.split(' ');
        let (reply, next) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let enhanced = next.split('.').count() == 3 && next.starts_with(['2', '4', '5']);
        if enhanced { format!("{reply} {next}") } else { reply.to_owned() }
    };
    let lines = said.lines().filter(|l| l.as_bytes().get(3) == Some(&b' '));
    lines.map(code).skip(2).collect()
}

async fn say(site: &Site, script: &str) -> Vec<String> {
    codes(&site.say(&format!("LHLO client\r\n{script}QUIT\r\n")).await)
}

/// RFC 4954.
#[test]
fn clients_have_to_log_in_where_users_are_named() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        assert_eq!(say(&site, "AUTH PLAIN AGpvAGdlaGVpbQ==\r\n").await[0], "502 5.5.1");
        let site = Site::new(Protocol::Lmtp, layout, |config| {
            config.lmtp.users = vec!["jo".to_owned()];
        });
        let plain = "AGpvAGdlaGVpbQ==";
        let script = format!(
            "{TO_JO}AUTH FROB\r\nAUTH PLAIN !\r\nAUTH PLAIN AGpvAHdyb25n\r\nAUTH PLAIN\r\n*\r\n\
             AUTH PLAIN AGJvc3MAZ2VoZWlt\r\nAUTH LOGIN\r\nam8=\r\nZ2VoZWlt\r\n\
             AUTH PLAIN {plain}\r\n{TO_JO}AUTH PLAIN {plain}\r\nDATA\r\n{WIRE}"
        );
        let expected = [
            "530 5.7.0",
            "503 5.5.1",
            "504 5.5.4",
            "501 5.5.2",
            "535 5.7.8",
            "334",
            "501 5.0.0",
            "535 5.7.8",
            "334",
            "334",
            "235 2.7.0",
            "503 5.5.1",
            "250 2.0.0",
            "250 2.1.5",
            "503 5.5.1",
            "354",
            "250 2.0.0",
            "221 2.0.0",
        ];
        assert_eq!(say(&site, &script).await, expected);
        assert!(site.messages("jo", "INBOX").await[0].contains(" with LMTPA id "));
        let said = site.say("LHLO client\r\nQUIT\r\n").await;
        assert!(said.contains("250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n"), "{said}");
        // Without TLS, from elsewhere or where that is forbidden.
        site.listener(|listener| listener.plain_login = config::PlainLogin::Never);
        let said = site.say(&format!("LHLO client\r\nAUTH PLAIN {plain}\r\nQUIT\r\n")).await;
        assert!(!said.contains("AUTH") && said.contains("538 5.7.11"), "{said}");
    });
}

#[test]
fn the_session_of_rfc_2033_section_4_2() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let script = format!(
            "LHLO foo.edu\r\nMAIL FROM:<chris@bar.com>\r\nRCPT TO:<jo@foo.edu>\r\n\
             RCPT TO:<green@foo.edu>\r\nRCPT TO:<mo@example.org>\r\nDATA\r\n{WIRE}QUIT\r\n"
        );
        let said = site.say(&script).await;
        assert_eq!(
            said,
            "220 mail.example.org Cursus LMTP ready\r\n250-mail.example.org\r\n250-PIPELINING\r\n\
             250-SIZE 104857600\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-IGNOREQUOTA\r\n\
             250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n250 2.0.0 sender ok\r\n\
             250 2.1.5 recipient ok\r\n550 5.1.1 no such user\r\n250 2.1.5 recipient ok\r\n\
             354 send the message, end it with a dot\r\n250 2.0.0 <jo@foo.edu> stored\r\n\
             250 2.0.0 <mo@example.org> stored\r\n221 2.0.0 bye\r\n"
        );
        for user in ["jo", "mo@example.org"] {
            let messages = site.messages(user, "INBOX").await;
            assert_eq!(messages.len(), 1);
            assert_eq!(untraced(&messages[0]), MESSAGE);
            assert!(
                messages[0].starts_with("Return-Path: <chris@bar.com>\r\nReceived: from foo.edu")
            );
            assert!(!messages[0].contains("Delivered-To"), "{}", messages[0]);
        }
    });
}

#[test]
fn every_cut_of_a_session_gives_the_same_answers_and_messages() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let chunk = "\r\n.\r\nQUIT\r\n";
        let script = format!(
            "LHLO x\r\nmail from:<> size=99 body=8bitmime\r\nRCPT TO:<jo>\r\nRCPT TO:<x@y>\r\n\
             DATA\r\nA: \u{e4}\r\n\r\n.\rx\r\n..\r\n\r.\n.\n\r\n.\r\nnoop\r\n{TO_JO}\
             BDAT {}\r\n{chunk}BDAT 3 LAST\r\nA\r\nQUIT\r\n",
            chunk.len()
        );
        let said = site.say_cut_everywhere(script.as_bytes()).await;
        assert_eq!(
            codes(&said),
            [
                "250 2.0.0",
                "250 2.1.5",
                "550 5.1.1",
                "354",
                "250 2.0.0",
                "250 2.0.0",
                "250 2.0.0",
                "250 2.1.5",
                "250 2.0.0",
                "250 2.0.0",
                "221 2.0.0"
            ]
        );
        let messages = site.messages("jo", "INBOX").await;
        assert_eq!(messages.len(), 2 * (script.len() + 1));
        let by_data = "A: \u{e4}\r\n\r\n\rx\r\n.\r\n\r.\r\n.\r\n\r\n";
        for pair in messages.chunks(2) {
            assert_eq!(untraced(&pair[0]), by_data);
            assert_eq!(untraced(&pair[1]), format!("{chunk}A\r\n"));
        }
    });
}

#[test]
fn a_detail_selects_a_mailbox_that_exists_where_the_owner_allows_it() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        site.user("jo").await.create("Lists", &[]).await.unwrap();
        site.user("mo@example.org").await.create("Lists", &[]).await.unwrap();
        for to in ["jo+Lists@a", "jo+lists@a", "jo+none@a", "mo+Lists@example.org", "jo+@a"] {
            let script = format!("MAIL FROM:<>\r\nRCPT TO:<{to}>\r\nDATA\r\n{WIRE}");
            let expected: &[&str] = match to {
                "jo+@a" => &["250 2.0.0", "550 5.1.1", "503 5.5.1", "500 5.5.1"],
                _ => &["250 2.0.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"],
            };
            assert_eq!(say(&site, &script).await[..expected.len()], *expected, "{to}");
        }
        assert_eq!(site.messages("jo", "Lists").await.len(), 2);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
        assert_eq!(site.messages("mo@example.org", "Lists").await.len(), 0);
        assert_eq!(site.messages("mo@example.org", "INBOX").await.len(), 1);
    });
}

/// Where the right `p` decides: details of users, and shared mailboxes.
#[test]
fn mail_by_address_goes_where_everybody_may_post() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Lmtp, layout, |config| {
            config.lmtp.detail = config::Detail::Post;
            config.lmtp.post_user = "bb".to_owned();
            config.sharing.shared_user = "shared".to_owned();
        });
        let options = engine::UserOptions::default();
        let shared = site.services.store.user("shared", &options).await.unwrap();
        let jo = site.user("jo").await;
        for (user, name) in [(&jo, "Lists"), (&jo, "Closed"), (&shared, "a"), (&shared, "a/news")] {
            user.create(name, &[]).await.unwrap();
        }
        let give = async |user: &engine::User, name: &str, who: engine::Identifier| {
            let entry = engine::AclEntry { negative: false, who };
            let rights = engine::RightsChange::Replace(engine::Rights::POST);
            user.set_acl(name, entry, rights).await.unwrap();
        };
        give(&jo, "Lists", engine::Identifier::Anyone).await;
        give(&jo, "Closed", engine::Identifier::User("bob".into())).await;
        give(&shared, "a/news", engine::Identifier::Anonymous).await;
        let to: String =
            ["jo+lists", "jo+closed", "bb+a.news", "bb+a/news", "bb+a", "bb+none", "bb"]
                .map(|local| format!("RCPT TO:<{local}@example.org>\r\n"))
                .concat();
        let codes = say(&site, &format!("MAIL FROM:<>\r\n{to}DATA\r\n{WIRE}")).await;
        let (yes, no) = ("250 2.1.5", "550 5.1.1");
        assert_eq!(codes[1..8], [yes, yes, yes, yes, no, no, no], "{codes:?}");
        for (user, name, count) in [("jo", "Lists", 1), ("jo", "INBOX", 1), ("jo", "Closed", 0)] {
            assert_eq!(site.messages(user, name).await.len(), count, "{name}");
        }
        let news = shared.mailbox("a/news").await.unwrap().refresh().await.unwrap();
        assert_eq!(news.exists(), 1, "two addresses of one mailbox get one copy");
    });
}

#[test]
fn two_addresses_of_one_mailbox_get_one_copy_and_two_answers() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let script = format!("{TO_JO}RCPT TO:<JO@other.org>\r\nDATA\r\n{WIRE}");
        let codes = say(&site, &script).await;
        assert_eq!(codes[3..6], ["354", "250 2.0.0", "250 2.0.0"]);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
    });
}

#[test]
fn trouble_with_an_account_is_temporary() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let codes = say(&site, "MAIL FROM:<>\r\nRCPT TO:<bad@example.org>\r\nDATA\r\n").await;
        assert_eq!(codes, ["250 2.0.0", "451 4.3.0", "503 5.5.1", "221 2.0.0"]);
    });
}

#[test]
fn a_message_at_its_size_limit_and_one_past() {
    on_a_core(|layout| async move {
        let limit = 64 * 1024;
        let site = Site::new(Protocol::Lmtp, layout, |c| c.limits.message_bytes_max = limit);
        let declared = format!(
            "MAIL FROM:<> SIZE={}\r\nMAIL FROM:<> SIZE={limit}\r\nRCPT TO:<jo>\r\nRSET\r\n",
            limit + 1
        );
        let codes = say(&site, &declared).await;
        assert_eq!(codes, ["552 5.3.4", "250 2.0.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"]);
        let line = "0123456789abcdef\r\n";
        let long = line.repeat(limit as usize / line.len() + 1);
        let script = format!("{TO_JO}RCPT TO:<mo@example.org>\r\nDATA\r\n{long}.\r\n{TO_JO}");
        let codes = say(&site, &script).await;
        assert_eq!(
            codes[3..],
            ["354", "552 5.3.4", "552 5.3.4", "250 2.0.0", "250 2.1.5", "221 2.0.0"]
        );
        let short = line.repeat(limit as usize / line.len() - 50);
        let codes = say(&site, &format!("{TO_JO}DATA\r\n{short}.\r\n")).await;
        assert_eq!(codes[2..], ["354", "250 2.0.0", "221 2.0.0"]);
        assert_eq!(untraced(&site.messages("jo", "INBOX").await[0]), short);
        assert_eq!(site.messages("mo@example.org", "INBOX").await.len(), 0);
    });
}

#[test]
fn a_full_mailbox_refuses_and_the_other_recipients_still_get_it() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let body = "0123456789abcdef\r\n".repeat(60);
        let one = format!("MAIL FROM:<>\r\nRCPT TO:<full>\r\nDATA\r\n{body}.\r\n");
        let codes = say(&site, &format!("{one}{one}")).await;
        assert_eq!(codes[3], "250 2.0.0");
        assert_eq!(codes[7], "552 5.2.2");
        let codes =
            say(&site, "MAIL FROM:<> SIZE=2000\r\nRCPT TO:<full>\r\nRCPT TO:<jo>\r\n").await;
        assert_eq!(codes[1..3], ["552 5.2.2", "250 2.1.5"]);
        let script = format!("{TO_JO}RCPT TO:<full>\r\nDATA\r\n{body}.\r\n");
        let codes = say(&site, &script).await;
        assert_eq!(codes[3..6], ["354", "250 2.0.0", "552 5.2.2"]);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
        assert_eq!(site.messages("full", "INBOX").await.len(), 1);
    });
}

/// Cyrus's word, for what has to arrive: of one recipient, the others' limits count.
#[test]
fn a_full_mailbox_takes_what_ignores_its_quota() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let body = "0123456789abcdef\r\n".repeat(60);
        let one = format!("MAIL FROM:<>\r\nRCPT TO:<full>\r\nDATA\r\n{body}.\r\n");
        let codes = say(&site, &format!("{one}{one}")).await;
        assert_eq!((&*codes[3], &*codes[7]), ("250 2.0.0", "552 5.2.2"));
        let script = format!(
            "MAIL FROM:<> SIZE=2000\r\nRCPT TO:<full>\r\nRCPT TO:<full> IGNOREQUOTA\r\n\
             RCPT TO:<full> SIZE=1\r\nRCPT TO:<jo>\r\nDATA\r\n{body}.\r\n"
        );
        let codes = say(&site, &script).await;
        let expected = ["552 5.2.2", "250 2.1.5", "555 5.5.4", "250 2.1.5", "354", "250 2.0.0"];
        assert_eq!(codes[1..7], expected);
        assert_eq!(site.messages("full", "INBOX").await.len(), 2);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
    });
}

#[test]
fn a_message_that_breaks_off_leaves_nothing() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        for broken in
            ["DATA\r\nA: b\r\n\r\nbody\r\n.", "DATA\r\n", "BDAT 4 LAST\r\nabc", "BDAT 3\r\nabc"]
        {
            let said = site.say(&format!("LHLO x\r\n{TO_JO}{broken}")).await;
            assert!(!said.contains("stored"), "{said}");
        }
        assert_eq!(site.messages("jo", "INBOX").await.len(), 0);
    });
}

#[test]
fn chunks_are_consumed_even_where_none_may_come() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let codes =
            say(&site, "BDAT 6\r\nQUIT\r\nMAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").await;
        assert_eq!(codes, ["503 5.5.1", "250 2.0.0", "503 5.5.1", "250 2.0.0", "221 2.0.0"]);
        let script = format!("{TO_JO}BDAT 2\r\nA:RCPT TO:<jo>\r\nDATA\r\nBDAT 0 LAST\r\n");
        let codes = say(&site, &script).await;
        assert_eq!(codes[2..], ["250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0", "221 2.0.0"]);
        assert_eq!(untraced(&site.messages("jo", "INBOX").await[0]), "A:");
    });
}

#[test]
fn commands_out_of_order_are_refused() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let said = site.say("MAIL FROM:<>\r\nEHLO x\r\nQUIT\r\n").await;
        assert!(said.contains("503 5.5.1 send LHLO") && said.contains("500 5.5.1 this is LMTP"));
        let codes =
            say(&site, "RCPT TO:<jo>\r\nDATA\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nVRFY jo\r\n").await;
        assert_eq!(codes[..5], ["503 5.5.1", "503 5.5.1", "250 2.0.0", "503 5.5.1", "252 2.0.0"]);
        let codes = say(&site, "MAIL FROM:<> BODY=BINARYMIME\r\nMAIL FROM:<\u{e4}@b>\r\n").await;
        assert_eq!(codes[..2], ["555 5.5.4", "553 5.6.7"]);
    });
}

#[test]
fn utf8_addresses_arrive_under_smtputf8() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let script = format!(
            "MAIL FROM:<\u{e4}@example.org> SMTPUTF8\r\nRCPT TO:<jo@b\u{fc}cher.example>\r\nDATA\r\n{WIRE}"
        );
        let codes = say(&site, &script).await;
        assert_eq!(codes[..4], ["250 2.0.0", "250 2.1.5", "354", "250 2.0.0"]);
        let message = &site.messages("jo", "INBOX").await[0];
        assert!(
            message
                .starts_with("Return-Path: <\u{e4}@example.org>\r\nDelivered-To: jo@b\u{fc}cher")
        );
        assert!(message.contains("with UTF8LMTP id "), "{message}");
    });
}

#[test]
fn hostile_bytes_end_politely() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let long = "x".repeat(protocol::lmtp::LINE_BYTES_MAX + 1);
        let codes = say(&site, &format!("{long}\r\n")).await;
        assert_eq!(codes, ["500 5.5.2", "221 2.0.0"]);
        let garbage: Vec<u8> =
            (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let said = site.talk(&[&garbage, &b"\n".repeat(100)]).await;
        assert!(said.ends_with("421 4.5.1 too many bad commands\r\n"), "{said}");
        let many = "RCPT TO:<jo>\r\n".repeat(1001);
        let codes = say(&site, &format!("MAIL FROM:<>\r\n{many}")).await;
        assert_eq!(codes[1000..1003], ["250 2.1.5", "452 4.5.3", "221 2.0.0"]);
    });
}

#[test]
fn first_deliveries_to_a_new_user_may_come_at_once() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let script = format!("LHLO x\r\n{TO_JO}DATA\r\n{WIRE}QUIT\r\n");
        let talks: [_; 16] = std::array::from_fn(|_| site.say(&script));
        for said in join_all(talks).await {
            assert!(said.contains("stored"), "{said}");
        }
        assert_eq!(site.messages("jo", "INBOX").await.len(), 16);
    });
}

/// Waits for all, polling each in turn.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut done = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[test]
fn a_stopping_server_takes_the_message_that_has_begun_and_no_other() {
    on_a_core(|layout| async move {
        let site = lmtp(layout);
        let mut client = site.connect();
        client.write_all(format!("LHLO x\r\n{TO_JO}DATA\r\n").as_bytes()).await.unwrap();
        let mut said = vec![0; 1024];
        let mut len = 0;
        while !String::from_utf8_lossy(&said[..len]).contains("354 ") {
            len += client.read(&mut said[len..]).await.unwrap();
        }
        site.services.shared().drain();
        tokio::task::yield_now().await;
        client.write_all(WIRE.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(
            said,
            "250 2.0.0 <jo@example.org> stored\r\n421 4.3.2 server stops, come again\r\n"
        );
        assert_eq!(site.messages("jo", "INBOX").await.len(), 1);
    });
}

#[test]
fn an_idle_session_is_small() {
    on_a_core(|layout| async move {
        let bytes = lmtp(layout).session_bytes();
        assert!(bytes <= 2560, "{bytes}");
    });
}
