//! POP3 sessions, scripted: what the RFCs show, every cut of the input, hostile clients.

use crate::site::{Site, on_a_core};
use config::{LayoutKind, PlainLogin, Protocol, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn pop3(layout: LayoutKind) -> Site {
    Site::new(Protocol::Pop3, layout, |_| {})
}

const FIRST: &str = "Subject: one\r\n\r\n.dot\r\n..dots\r\nlast\r\n";
const SECOND: &str = "Subject: two\r\n\r\nbody\r\n";
const LOGIN: &str = "USER jo\r\nPASS geheim\r\n";

async fn with_two(layout: LayoutKind) -> Site {
    let site = pop3(layout);
    site.store("jo", "INBOX", FIRST).await;
    site.store("jo", "INBOX", SECOND).await;
    site
}

/// What the server says behind the greeting and the two answers to a good login.
fn behind_login(said: &str) -> &str {
    let (_, rest) = said.split_once("messages\r\n").expect(said);
    rest
}

#[test]
fn the_session_of_rfc_1939_section_10() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let said = site
            .say(&format!(
                "{LOGIN}STAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n"
            ))
            .await;
        assert!(said.starts_with("+OK Cursus POP3 ready\r\n+OK send PASS\r\n+OK 2 messages\r\n"));
        let (a, b) = (FIRST.len(), SECOND.len());
        let sum = a + b;
        assert_eq!(
            behind_login(&said),
            format!(
                "+OK 2 {sum}\r\n+OK 2 messages ({sum} octets)\r\n1 {a}\r\n2 {b}\r\n.\r\n\
                 +OK {a} octets\r\nSubject: one\r\n\r\n..dot\r\n...dots\r\nlast\r\n.\r\n\
                 +OK message 1 deleted\r\n+OK {b} octets\r\n{SECOND}.\r\n\
                 +OK message 2 deleted\r\n+OK bye\r\n"
            )
        );
        assert!(site.messages("jo", "INBOX").await.is_empty());
    });
}

#[test]
fn every_cut_of_a_session_gives_the_same_answers() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let script = "capa\r\nAUTH PLAIN\r\nAGpvAGdlaGVpbQ==\r\nUIDL\r\nTOP 1 1\r\nDELE 2\r\n\
                      LIST\r\nRETR 1\r\nNOOP x\r\nRSET\r\nSTAT\r\nQUIT\r\n";
        let said = site.say_cut_everywhere(script.as_bytes()).await;
        assert!(said.ends_with(&format!("+OK 2 {}\r\n+OK bye\r\n", FIRST.len() + SECOND.len())));
        assert!(said.contains("\r\n+ \r\n+OK 2 messages\r\n"), "{said}");
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
    });
}

#[test]
fn top_gives_the_header_and_so_many_lines() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let said = site.say(&format!("{LOGIN}TOP 1 0\r\nTOP 1 1\r\nTOP 2 99\r\nQUIT\r\n")).await;
        let ok = "+OK top of message follows\r\n";
        assert_eq!(
            behind_login(&said),
            format!(
                "{ok}Subject: one\r\n\r\n.\r\n{ok}Subject: one\r\n\r\n..dot\r\n.\r\n\
                 {ok}{SECOND}.\r\n+OK bye\r\n"
            )
        );
    });
}

#[test]
fn uidl_is_unique_and_the_same_in_the_next_session() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let script = format!("{LOGIN}UIDL\r\nUIDL 2\r\nDELE 1\r\nQUIT\r\n");
        let said = site.say(&script).await;
        let lines: Vec<&str> = behind_login(&said).lines().collect();
        let (one, two) = (lines[1].split_once(' ').unwrap().1, lines[2].split_once(' ').unwrap().1);
        assert_eq!((one.len(), two.len()), (16, 16));
        assert_ne!(one, two);
        assert_eq!(lines[4], format!("+OK 2 {two}"));
        let said = site.say(&format!("{LOGIN}UIDL\r\nQUIT\r\n")).await;
        assert!(said.contains(&format!("\r\n1 {two}\r\n.\r\n")), "{said}");
    });
}

#[test]
fn only_quit_removes_messages() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let said =
            site.say(&format!("{LOGIN}DELE 1\r\nSTAT\r\nLIST 1\r\nRETR 1\r\nDELE 1\r\n")).await;
        let gone = "-ERR message is deleted\r\n";
        let left = format!("+OK message 1 deleted\r\n+OK 1 {}\r\n{gone}{gone}{gone}", SECOND.len());
        assert_eq!(behind_login(&said), left);
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
        site.say(&format!("{LOGIN}DELE 1\r\nRSET\r\nQUIT\r\n")).await;
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
        site.say(&format!("{LOGIN}DELE 1\r\nQUIT\r\n")).await;
        assert_eq!(site.messages("jo", "INBOX").await, [SECOND]);
    });
}

#[test]
fn a_maildrop_is_one_sessions() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let mut first = site.connect();
        first.write_all(LOGIN.as_bytes()).await.unwrap();
        let mut said = vec![0; 256];
        let mut len = 0;
        while !String::from_utf8_lossy(&said[..len]).contains("2 messages") {
            len += first.read(&mut said[len..]).await.unwrap();
        }
        let busy = site.say(&format!("{LOGIN}QUIT\r\n")).await;
        assert!(busy.contains("\r\n-ERR [IN-USE] "), "{busy}");
        first.write_all(b"QUIT\r\n").await.unwrap();
        first.read_to_end(&mut said).await.unwrap();
        assert!(site.say(&format!("{LOGIN}QUIT\r\n")).await.contains("+OK 2 messages"));
    });
}

#[test]
fn the_snapshot_holds_still_while_mail_comes_and_goes() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let mut client = site.connect();
        client.write_all(LOGIN.as_bytes()).await.unwrap();
        let mut said = vec![0; 256];
        let mut len = 0;
        while !String::from_utf8_lossy(&said[..len]).contains("2 messages") {
            len += client.read(&mut said[len..]).await.unwrap();
        }
        site.store("jo", "INBOX", SECOND).await;
        let inbox = site.user("jo").await.mailbox("INBOX").await.unwrap();
        let view = inbox.refresh().await.unwrap();
        let first = view.uid(protocol::types::SeqNum(1)).unwrap();
        inbox.expunge(&view, vec![first]).await.unwrap();
        client.write_all(b"LIST 2\r\nLIST 3\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        let size = SECOND.len();
        assert_eq!(
            said,
            format!(
                "+OK 2 {size}\r\n-ERR no such message\r\n+OK {size} octets\r\n{SECOND}.\r\n\
                 +OK message 1 deleted\r\n+OK bye\r\n"
            )
        );
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
    });
}

#[test]
fn logins_by_every_mechanism() {
    on_a_core(|layout| async move {
        let site = pop3(layout);
        for script in [
            "AUTH PLAIN AGpvAGdlaGVpbQ==\r\n",
            "auth plain\r\nAGpvAGdlaGVpbQ==\r\n",
            "AUTH LOGIN\r\nam8=\r\nZ2VoZWlt\r\n",
            "AUTH LOGIN am8=\r\nZ2VoZWlt\r\n",
            "USER JO\r\nPASS geheim\r\n",
        ] {
            let said = site.say(&format!("{script}STAT\r\nQUIT\r\n")).await;
            assert!(said.ends_with("+OK 0 messages\r\n+OK 0 0\r\n+OK bye\r\n"), "{script}: {said}");
        }
        for (script, answer) in [
            ("USER jo\r\nPASS wrong\r\n", "-ERR [AUTH] "),
            ("USER nobody\r\nPASS geheim\r\n", "-ERR [AUTH] "),
            ("USER bad\r\nPASS geheim\r\n", "-ERR [SYS/TEMP] "),
            ("PASS geheim\r\n", "-ERR send USER first"),
            ("AUTH PLAIN\r\n*\r\n", "-ERR authentication cancelled"),
            ("AUTH PLAIN !\r\n", "-ERR expected base64"),
            ("AUTH PLAIN =\r\n", "-ERR bad authentication exchange"),
            ("AUTH GSSAPI\r\n", "-ERR unknown mechanism"),
            ("STAT\r\n", "-ERR log in first"),
        ] {
            let said = site.say(&format!("{script}QUIT\r\n")).await;
            assert!(said.contains(&format!("\r\n{answer}")), "{script}: {said}");
            assert!(said.ends_with("+OK bye\r\n"), "{script}: {said}");
        }
    });
}

#[test]
fn without_tls_a_login_needs_leave() {
    on_a_core(|layout| async move {
        let site = pop3(layout);
        site.listener(|l| l.plain_login = PlainLogin::Never);
        let said = site.say("CAPA\r\nUSER jo\r\nAUTH PLAIN AGpvAGdlaGVpbQ==\r\nQUIT\r\n").await;
        assert!(said.contains("\r\nSTLS\r\n"), "{said}");
        assert!(!said.contains("\r\nUSER\r\n") && !said.contains("SASL"), "{said}");
        assert_eq!(said.matches("-ERR logins need TLS").count(), 2, "{said}");
        site.listener(|l| l.tls = TlsMode::None);
        let said = site.say("CAPA\r\nSTLS\r\nQUIT\r\n").await;
        assert!(!said.contains("\r\nSTLS\r\n") && said.contains("-ERR TLS isn't"), "{said}");
    });
}

#[test]
fn commands_hidden_behind_stls_are_not_run() {
    on_a_core(|layout| async move {
        let site = pop3(layout);
        let said = site.say("STLS\r\nUSER jo\r\nPASS geheim\r\n").await;
        assert_eq!(said, "+OK Cursus POP3 ready\r\n+OK begin TLS\r\n");
    });
}

#[test]
fn hostile_bytes_end_politely() {
    on_a_core(|layout| async move {
        let site = pop3(layout);
        let long = "x".repeat(protocol::pop3::LINE_BYTES_MAX + 1);
        let said = site.say(&format!("{long}\r\nQUIT\r\n")).await;
        assert!(said.ends_with("-ERR line too long\r\n+OK bye\r\n"), "{said}");
        let garbage: Vec<u8> =
            (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let said = site.talk(&[&garbage, &b"\n".repeat(100)]).await;
        assert!(said.ends_with("-ERR too many bad commands\r\n"), "{said}");
        let wrong = "USER jo\r\nPASS x\r\n".repeat(10);
        let said = site.say(&wrong).await;
        assert_eq!(said.matches("-ERR [AUTH]").count(), 5, "{said}");
    });
}

#[test]
fn a_large_message_is_whole_under_a_slow_reader() {
    on_a_core(|layout| async move {
        let site = pop3(layout);
        let message = format!("Subject: big\r\n\r\n{}", "0123456789.\r\n..\r\n".repeat(100_000));
        site.store("jo", "INBOX", &message).await;
        let mut client = site.connect();
        client.write_all(format!("{LOGIN}RETR 1\r\nQUIT\r\n").as_bytes()).await.unwrap();
        let (mut said, mut part) = (Vec::new(), vec![0; 10_000]);
        loop {
            let read = client.read(&mut part).await.unwrap();
            if read == 0 {
                break;
            }
            said.extend_from_slice(&part[..read]);
            tokio::task::yield_now().await;
        }
        let said = String::from_utf8(said).unwrap();
        let wire = message.replace("\r\n..", "\r\n...");
        let expected = format!("+OK {} octets\r\n{wire}.\r\n+OK bye\r\n", message.len());
        assert!(behind_login(&said) == expected, "the message differs");
    });
}

#[test]
fn a_byte_now_and_then_does_not_put_off_the_login() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Pop3, layout, |c| c.limits.login_seconds_max = 1);
        let mut client = site.connect();
        let begun = std::time::Instant::now();
        while client.write_all(b"N").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert!(begun.elapsed().as_secs() < 10, "the session is still there");
        }
        assert!(begun.elapsed().as_millis() >= 900);
    });
}

#[test]
fn a_stopping_server_says_so_and_removes_nothing() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let mut client = site.connect();
        client.write_all(format!("{LOGIN}DELE 1\r\n").as_bytes()).await.unwrap();
        let mut said = vec![0; 256];
        let mut len = 0;
        while !String::from_utf8_lossy(&said[..len]).contains("deleted") {
            len += client.read(&mut said[len..]).await.unwrap();
        }
        site.services.shared().drain();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "-ERR [SYS/TEMP] server stops\r\n");
        assert_eq!(site.messages("jo", "INBOX").await.len(), 2);
    });
}

#[test]
fn an_idle_session_is_small() {
    on_a_core(|layout| async move {
        let bytes = pop3(layout).session_bytes();
        assert!(bytes <= 2560, "{bytes}");
    });
}

#[test]
fn apop_answers_the_greeting() {
    on_a_core(|layout| async move {
        use tokio::io::AsyncBufReadExt as _;
        let site = Site::new(Protocol::Pop3, layout, |c| c.pop3.apop = true);
        let said = async |user: &str, password: &str| {
            let mut client = tokio::io::BufReader::new(site.connect());
            let mut line = String::new();
            client.read_line(&mut line).await.unwrap();
            let stamp = &line[line.find('<').unwrap()..=line.find('>').unwrap()];
            let kind = auth::hash::HashKind::Md5;
            let digest = auth::hash::hex(&kind.digest(format!("{stamp}{password}").as_bytes()));
            let text = format!("APOP {user} {digest}\r\nSTAT\r\nQUIT\r\n");
            client.get_mut().write_all(text.as_bytes()).await.unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            (stamp.to_owned(), said)
        };
        let (first, good) = said("jo", "geheim").await;
        assert!(good.starts_with("+OK 0 messages\r\n+OK 0 0\r\n"), "{good}");
        let (second, bad) = said("jo", "Geheim").await;
        assert!(bad.starts_with("-ERR [AUTH]"), "{bad}");
        assert_ne!(first, second);
        assert!(said("nobody", "geheim").await.1.starts_with("-ERR [AUTH]"));
        let off = pop3(layout);
        let said = off.say("APOP jo c4c9334bac560ecc979e58001b3e22fb\r\nQUIT\r\n").await;
        assert!(said.starts_with("+OK Cursus POP3 ready\r\n-ERR APOP isn't"), "{said}");
    });
}

#[test]
fn passwords_in_clear_have_the_setting_of_plain() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Pop3, layout, |c| {
            c.auth.mechanisms = vec![config::SaslMechanism::ScramSha256];
        });
        let said = site.say("CAPA\r\nUSER jo\r\nPASS geheim\r\nQUIT\r\n").await;
        assert!(
            said.contains("SASL SCRAM-SHA-256\r\n") && !said.contains("\r\nUSER\r\n"),
            "{said}"
        );
        assert!(said.contains("-ERR passwords in clear"), "{said}");
    });
}

#[test]
fn uidls_take_the_form_of_another_server() {
    on_a_core(|layout| async move {
        for form in ["courier", "cyrus", "dovecot", "courier-0", "x-%u"] {
            let site = Site::new(Protocol::Pop3, layout, |c| c.pop3.uidl = form.into());
            site.store("jo", "INBOX", FIRST).await;
            let said = site.say(&format!("{LOGIN}UIDL 1\r\nQUIT\r\n")).await;
            let inbox = site.user("jo").await.mailbox("INBOX").await.unwrap();
            let view = inbox.refresh().await.unwrap();
            let uid = view.uid(protocol::types::SeqNum(1)).unwrap();
            let (v, u) = (view.uid_validity().0, uid.0);
            let expected = match form {
                "courier" => format!("UID{u}-{v}"),
                "cyrus" => format!("{v}.{u}"),
                "dovecot" => format!("{u:08x}{v:08x}"),
                "courier-0" => view.file_name(uid).unwrap(),
                _ => format!("x-{u}"),
            };
            assert!(said.contains(&format!("\r\n+OK 1 {expected}\r\n")), "{form}: {said}");
        }
    });
}

#[test]
fn login_delay_and_expire_are_told_and_kept() {
    on_a_core(|layout| async move {
        let site = Site::new(Protocol::Pop3, layout, |c| {
            c.pop3.login_delay_seconds = 600;
            c.pop3.expire_days = Some(0);
        });
        site.store("jo", "INBOX", FIRST).await;
        site.store("jo", "INBOX", SECOND).await;
        let said = site.say(&format!("CAPA\r\n{LOGIN}RETR 1\r\nTOP 2 0\r\nQUIT\r\n")).await;
        assert!(said.contains("\r\nLOGIN-DELAY 600\r\n"), "{said}");
        assert!(said.contains("\r\nEXPIRE 0\r\n"), "{said}");
        assert_eq!(site.messages("jo", "INBOX").await, [SECOND], "retrieved is removed");
        let said = site.say(&format!("{LOGIN}QUIT\r\n")).await;
        assert!(said.contains("-ERR [LOGIN-DELAY]"), "{said}");
        let said = pop3(layout).say("CAPA\r\nQUIT\r\n").await;
        assert!(said.contains("\r\nEXPIRE NEVER\r\n") && !said.contains("DELAY"), "{said}");
    });
}

#[test]
fn languages_and_utf8() {
    on_a_core(|layout| async move {
        const MESSAGE: &str = "Subject: Grüße\r\n\r\nKörper.\r\n";
        const ASCII: &str = "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n\r\nKörper.\r\n";
        let site = pop3(layout);
        site.store("jo", "INBOX", MESSAGE).await;
        let said = site.say("CAPA\r\nLANG\r\nLANG *\r\nLANG en\r\nLANG MUL\r\nQUIT\r\n").await;
        assert!(said.contains("\r\nUTF8 USER\r\n") && said.contains("\r\nLANG\r\n"), "{said}");
        let listed = "follow\r\nen English\r\nde Deutsch\r\ni-default English\r\n.\r\n";
        assert!(said.contains(&format!("{listed}+OK i-default ")), "{said}");
        assert!(
            said.ends_with(
                "+OK en Language changed\r\n-ERR this language isn't spoken here, \
            see LANG\r\n+OK bye\r\n"
            ),
            "{said}"
        );
        let said = site.say("LANG de-AT\r\nUSER jo\r\nPASS x\r\nLANG x\r\nQUIT\r\n").await;
        assert!(
            said.ends_with(
                "+OK de Sprache gewechselt\r\n+OK Jetzt PASS\r\n\
                 -ERR [AUTH] Falscher Name oder falsches Passwort\r\n\
                 -ERR Diese Sprache wird nicht gesprochen, siehe LANG\r\n+OK Auf Wiedersehen\r\n"
            ),
            "{said}"
        );
        let said = site.say(&format!("{LOGIN}RETR 1\r\nTOP 1 0\r\nQUIT\r\n")).await;
        assert!(said.contains(ASCII) && !said.contains("Grüße"), "{said}");
        let said = site.say(&format!("UTF8\r\n{LOGIN}RETR 1\r\nUTF8\r\nQUIT\r\n")).await;
        assert!(said.contains(MESSAGE), "{said}");
        assert!(said.contains("-ERR you are logged in already"), "{said}");
    });
}

#[test]
fn last_is_the_highest_number_that_was_read() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let said = site
            .say(&format!("{LOGIN}LAST\r\nRETR 1\r\nLAST\r\nRSET\r\nLAST\r\nRETR 1\r\nQUIT\r\n"))
            .await;
        let behind = behind_login(&said);
        assert!(behind.starts_with("+OK 0\r\n"), "{said}");
        assert!(behind.contains("\r\n.\r\n+OK 1\r\n+OK 2 messages\r\n+OK 0\r\n"), "{said}");
        let said = site.say(&format!("{LOGIN}LAST\r\nQUIT\r\n")).await;
        assert!(behind_login(&said).starts_with("+OK 1\r\n"), "{said}");
    });
}

#[test]
fn what_imap_expunged_can_be_listed_but_not_read() {
    on_a_core(|layout| async move {
        let site = with_two(layout).await;
        let mut client = site.connect();
        client.write_all(format!("{LOGIN}NOOP\r\n").as_bytes()).await.unwrap();
        let mut said = vec![0; 512];
        let mut len = 0;
        while !String::from_utf8_lossy(&said[..len]).contains("2 messages\r\n+OK\r\n") {
            len += client.read(&mut said[len..]).await.unwrap();
        }
        let inbox = site.user("jo").await.mailbox("INBOX").await.unwrap();
        let view = inbox.refresh().await.unwrap();
        let first = view.uid(protocol::types::SeqNum(1)).unwrap();
        inbox.expunge(&view, vec![first]).await.unwrap();
        site.store("jo", "INBOX", FIRST).await;
        client
            .write_all(b"STAT\r\nLIST 1\r\nUIDL 3\r\nDELE 1\r\nDELE 2\r\nQUIT\r\n")
            .await
            .unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(
            said.starts_with("+OK 2 ") && said.contains("\r\n-ERR no such message\r\n"),
            "{said}"
        );
        assert!(
            said.ends_with("+OK message 1 deleted\r\n+OK message 2 deleted\r\n+OK bye\r\n"),
            "{said}"
        );
        // What came meanwhile is there for the next session, and nothing else.
        assert_eq!(site.messages("jo", "INBOX").await, [FIRST]);
    });
}
