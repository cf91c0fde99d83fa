//! URLs that their owners authorise: URLAUTH (RFC 4467), URLAUTH=BINARY (RFC 5524), URL-PARTIAL
//! (RFC 5550).

use crate::site::imap::{assert_lines, say_as};
use crate::site::{Site, on_a_core};
use config::{LayoutKind, Protocol};

const PARTS: &str = "Subject: two\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\
    Content-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=\r\n--x\r\n\
    Content-Type: text/html\r\n\r\n<b>x</b>\r\n--x--\r\n";

async fn site(layout: LayoutKind) -> Site {
    let site = Site::new(Protocol::Imap, layout, |config| {
        config.imap.submission_users = vec!["mo@example.org".into()];
    });
    site.store("jo", "INBOX", PARTS).await;
    site
}

const HERE: &str = "imap://jo@mail.example.org/INBOX/;UID=1";

/// What GENURLAUTH makes of a rump.
async fn authorise(site: &Site, rump: &str) -> String {
    let said = say_as(site, "jo", &format!("a775 GENURLAUTH \"{rump}\" INTERNAL\r\n")).await;
    let line = said.split_once("* GENURLAUTH \"").unwrap_or_else(|| panic!("{said}")).1;
    assert_lines(&said, &["a775 OK"]);
    line.split_once('"').unwrap().0.to_owned()
}

async fn fetch(site: &Site, user: &str, url: &str) -> String {
    say_as(site, user, &format!("a776 URLFETCH \"{url}\"\r\n")).await
}

/// RFC 4467 section 7.
#[test]
fn an_authorised_url_gives_what_it_names_to_whom_it_names() {
    on_a_core(|layout| async move {
        let site = site(layout).await;
        for (access, jo, mo) in [
            ("anonymous", true, true),
            ("authuser", true, true),
            ("user+jo", true, false),
            ("user+MO@example.org", false, true),
            ("submit+jo", false, true),
        ] {
            let rump = format!("{HERE}/;SECTION=2;URLAUTH={access}");
            let url = authorise(&site, &rump).await;
            assert!(url.starts_with(&format!("{rump}:internal:")), "{url}");
            for (user, may) in [("jo", jo), ("mo@example.org", mo)] {
                let said = fetch(&site, user, &url).await;
                let literal = format!("* URLFETCH \"{url}\" {{8}}\r\n<b>x</b>\r\na776 OK");
                let nil = format!("* URLFETCH \"{url}\" NIL\r\na776 OK");
                assert!(
                    said.contains(if may { &literal } else { &nil }),
                    "{access} {user}: {said}"
                );
            }
        }
        let url =
            authorise(&site, &format!("{HERE}/;SECTION=2/;PARTIAL=3.1;URLAUTH=authuser")).await;
        assert!(fetch(&site, "jo", &url).await.contains("\" {1}\r\nx\r\n"));
        // Not by following a URL does a message become seen.
        let said = say_as(&site, "jo", "1 SELECT INBOX\r\n2 FETCH 1 FLAGS\r\n").await;
        assert_lines(&said, &["* OK [URLMECH INTERNAL]", "1 OK", "* 1 FETCH (FLAGS ("]);
        assert!(!said.contains("(\\Seen"), "{said}");
    });
}

/// RFC 4467 sections 7 and 8.
#[test]
fn what_was_not_authorised_or_is_over_gives_nothing() {
    on_a_core(|layout| async move {
        let site = site(layout).await;
        let good = authorise(&site, &format!("{HERE};URLAUTH=authuser")).await;
        let past = format!("{HERE};EXPIRE=2020-01-01T00:00:00Z;URLAUTH=authuser");
        let past = authorise(&site, &past).await;
        let future = format!("{HERE};EXPIRE=2999-01-01T00:00:00Z;URLAUTH=authuser");
        let future = authorise(&site, &future).await;
        let missing =
            authorise(&site, "imap://jo@mail.example.org/INBOX/;UID=7;URLAUTH=authuser").await;
        let nil = |url: &str| format!("* URLFETCH \"{url}\" NIL");
        for url in [
            past,
            missing,
            good.replace(";UID=1", ";UID=2"),
            good.replace("authuser", "anonymous"),
            good.replace("mail.example.org", "other.example.org"),
            good.replace("jo@", "mo%40example.org@"),
            good.replace("jo@", "nobody@"),
            good.replace("imap://jo@mail.example.org", ""),
            good.replace("/INBOX", "/Nowhere"),
            good.replace(":internal:", ":xsample:"),
            good[..good.len() - 2].to_owned(),
            HERE.to_owned(),
            "http://example.org".to_owned(),
        ] {
            assert_lines(&fetch(&site, "jo", &url).await, &[&nil(&url), "a776 OK"]);
        }
        for url in [&good, &future] {
            assert!(fetch(&site, "jo", url).await.contains("Subject: two"));
        }
        // Keys are the mailbox's, and live as long.
        say_as(&site, "jo", "1 CREATE x\r\n2 RESETKEY x INTERNAL\r\n").await;
        assert!(fetch(&site, "jo", &good).await.contains("Subject: two"));
        let said =
            say_as(&site, "jo", "1 RESETKEY INBOX\r\n2 RESETKEY\r\n3 RESETKEY x FROB\r\n").await;
        assert_lines(&said, &["1 OK [URLMECH INTERNAL]", "2 OK [URLMECH INTERNAL]", "3 NO "]);
        assert_lines(&fetch(&site, "jo", &good).await, &[&nil(&good)]);
    });
}

/// RFC 4467 section 7: each check of GENURLAUTH.
#[test]
fn genurlauth_takes_urls_of_ones_own_mail_alone() {
    on_a_core(|layout| async move {
        let site = site(layout).await;
        for (rump, mechanism) in [
            (HERE.to_owned(), "INTERNAL"),
            (format!("{HERE};URLAUTH=frob"), "INTERNAL"),
            (format!("{HERE};URLAUTH=authuser"), "XSAMPLE"),
            ("imap://mail.example.org/INBOX/;UID=1;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("imap://mo@mail.example.org/INBOX/;UID=1;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("imap://jo@other.example.org/INBOX/;UID=1;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("imap://jo@mail.example.org/Nowhere/;UID=1;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("imap://jo@mail.example.org/INBOX;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("/INBOX/;UID=1;URLAUTH=authuser".to_owned(), "INTERNAL"),
            ("INBOX".to_owned(), "INTERNAL"),
        ] {
            let said =
                say_as(&site, "jo", &format!("1 GENURLAUTH \"{rump}\" {mechanism}\r\n")).await;
            assert_lines(&said, &["1 BAD "]);
            assert!(!said.contains("* GENURLAUTH"), "{said}");
        }
    });
}

/// RFC 5524 section 3.
#[test]
fn extended_urlfetch_tells_structure_and_decoded_octets() {
    on_a_core(|layout| async move {
        let site = site(layout).await;
        let url = authorise(&site, &format!("{HERE}/;SECTION=1;URLAUTH=anonymous")).await;
        let said = say_as(
            &site,
            "jo",
            &format!(
                "1 URLFETCH (\"{url}\" BODYPARTSTRUCTURE BINARY)\r\n2 URLFETCH (\"{url}\" BODY)\r\n\
                 3 URLFETCH (\"{HERE}\" BODY) \"{url}\"\r\n"
            ),
        )
        .await;
        let structure = "(BODYPARTSTRUCTURE (\"text\" \"plain\" ";
        let one = said.split_once("1 OK").unwrap().0;
        assert!(one.starts_with(&format!("* URLFETCH \"{url}\" {structure}")), "{said}");
        assert!(one.ends_with(") (BINARY {11}\r\nhello world)\r\n"), "{said}");
        assert!(
            said.contains(&format!("\"{url}\" (BODY {{16}}\r\naGVsbG8gd29ybGQ=)\r\n2 OK")),
            "{said}"
        );
        assert_lines(
            &said,
            &[
                "2 OK",
                &format!("* URLFETCH \"{HERE}\" NIL"),
                &format!("* URLFETCH \"{url}\" {{16}}"),
                "3 OK",
            ],
        );
    });
}
