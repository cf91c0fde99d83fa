//! IMAP URLs: RFC 5092 (with the errata on relative ones), URLAUTH of RFC 4467, PARTIAL of RFC 5550.
//!
//! Mailbox names and user names are UTF-8 here, with their percent-encoding undone; a URL itself is
//! kept by whoever needs its text, as a URLAUTH token covers the text as written.

use std::fmt;

use super::command::Section;
use super::decode;
use crate::types::{Uid, UidValidity};

/// Longest URL that is read, in bytes.
pub const URL_BYTES_MAX: usize = 16 << 10;

/// Where a URL is not one that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlError {
    /// What should have been there.
    pub expected: &'static str,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} in the URL", self.expected)
    }
}

fn expected<T>(expected: &'static str) -> Result<T, UrlError> {
    Err(UrlError { expected })
}

/// An IMAP URL, absolute or relative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapUrl {
    /// Absent: relative to the connection's server.
    pub server: Option<UrlServer>,
    /// Absent: the mailbox that is selected, or in an absolute URL the server itself.
    pub mailbox: Option<String>,
    /// `;UIDVALIDITY=`
    pub uid_validity: Option<UidValidity>,
    /// `/;UID=`; with it the URL names a message or a part of one.
    pub uid: Option<Uid>,
    /// `/;SECTION=`
    pub section: Option<Section>,
    /// `/;PARTIAL=`: offset, and how many bytes at most.
    pub partial: Option<(u64, Option<u64>)>,
    /// `;URLAUTH=`
    pub auth: Option<UrlAuth>,
}

/// `user;AUTH=type@host:port`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlServer {
    /// Whose mail.
    pub user: Option<String>,
    /// How to authenticate; `*` leaves it to the client.
    pub mechanism: Option<String>,
    /// Name or address.
    pub host: String,
    /// Absent: 143.
    pub port: Option<u16>,
}

/// Who may use a URL, and the token that proves it (RFC 4467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlAuth {
    /// `;EXPIRE=` in Unix seconds.
    pub expire: Option<i64>,
    /// Who may.
    pub access: Access,
    /// How many bytes of the URL the token covers: up to and with the access identifier.
    pub rump_bytes: usize,
    /// `:INTERNAL:token`; absent in what GENURLAUTH is given.
    pub token: Option<UrlToken>,
}

/// `:mechanism:token`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlToken {
    /// In upper case.
    pub mechanism: String,
    /// The hexadecimal digits' value.
    pub bytes: Vec<u8>,
}

/// The access identifier of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `submit+user`: a submission server on the user's behalf.
    Submit(String),
    /// `user+user`: that user.
    User(String),
    /// `authuser`: everyone who has logged in.
    AuthUser,
    /// `anonymous`: everyone.
    Anonymous,
}

impl ImapUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<ImapUrl, UrlError> {
        if text.len() > URL_BYTES_MAX {
            return expected("at most 16384 bytes");
        }
        if !text.bytes().all(|b| (b'!'..0x7f).contains(&b)) {
            return expected("printable ASCII");
        }
        let scheme = text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("imap://"));
        let (server, path) = if scheme {
            let rest = &text[7..];
            let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(UrlServer::parse(server)?), path)
        } else if text.starts_with("//") || has_scheme(text) {
            return expected("imap:// or a relative URL");
        } else {
            (None, text)
        };
        let mut url = ImapUrl {
            server,
            mailbox: None,
            uid_validity: None,
            uid: None,
            section: None,
            partial: None,
            auth: None,
        };
        let relative = !path.starts_with('/');
        let path = path.strip_prefix('/').unwrap_or(path);
        let (name, mut rest) = path.split_at(path.find([';', '?']).unwrap_or(path.len()));
        if rest.starts_with('?') {
            return expected("no search");
        }
        let name = name.strip_suffix('/').unwrap_or(name);
        if !name.is_empty() {
            if relative {
                return expected("a URL that begins with / or ;UID=");
            }
            let name = percent_decoded(name)?;
            let inbox = name.eq_ignore_ascii_case("INBOX");
            url.mailbox = Some(if inbox { "INBOX".to_owned() } else { name });
        } else if !rest.is_empty() && url.server.is_some() {
            return expected("a mailbox");
        }
        let mut expire = None;
        let mut last = 0;
        while let Some(parameter) = rest.strip_prefix(';') {
            let Some((key, after)) = parameter.split_once('=') else {
                return expected("= behind a parameter's name");
            };
            let end = after.find(';').unwrap_or(after.len());
            let value = after[..end].strip_suffix('/').filter(|_| end < after.len());
            let value = value.unwrap_or(&after[..end]);
            rest = &after[end..];
            let order = url.take(&key.to_ascii_uppercase(), value, &mut expire, || {
                // The access identifier ends where the token begins.
                text.len() - after.len()
            })?;
            if order <= last {
                return expected("the parameters in their order");
            }
            last = order;
        }
        if !rest.is_empty() {
            return expected("a parameter");
        }
        if url.uid.is_none() && (url.section.is_some() || url.partial.is_some()) {
            return expected(";UID=");
        }
        if expire.is_some() && url.auth.is_none() {
            return expected(";URLAUTH= behind ;EXPIRE=");
        }
        Ok(url)
    }

    /// Takes one parameter; gives its place in the order of the grammar.
    fn take(
        &mut self,
        key: &str,
        value: &str,
        expire: &mut Option<i64>,
        value_start: impl FnOnce() -> usize,
    ) -> Result<u8, UrlError> {
        let nonzero = || number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        match key {
            "UIDVALIDITY" => match nonzero() {
                Some(n) => self.uid_validity = Some(UidValidity(n)),
                None => return expected("a UIDVALIDITY"),
            },
            "UID" => match nonzero() {
                Some(n) => self.uid = Some(Uid(n)),
                None => return expected("a UID"),
            },
            "SECTION" => {
                let text = percent_decoded(value)?;
                match decode::section(text.as_bytes()) {
                    Some(section) => self.section = Some(section),
                    None => return expected("a section"),
                }
            }
            "PARTIAL" => match partial(value) {
                Some(partial) => self.partial = Some(partial),
                None => return expected("offset.length"),
            },
            "EXPIRE" => match date_time(value) {
                Some(at) => *expire = Some(at),
                None => return expected("a date and time of RFC 3339"),
            },
            "URLAUTH" => {
                let (access, token) = match value.split_once(':') {
                    Some((access, token)) => (access, Some(token)),
                    None => (value, None),
                };
                let token = token.map(UrlToken::parse).transpose()?;
                let rump_bytes = value_start() + access.len();
                let access = Access::parse(access)?;
                self.auth = Some(UrlAuth { expire: *expire, access, rump_bytes, token });
            }
            _ => return expected("UIDVALIDITY, UID, SECTION, PARTIAL, EXPIRE or URLAUTH"),
        }
        let order = ["UIDVALIDITY", "UID", "SECTION", "PARTIAL", "EXPIRE", "URLAUTH"];
        Ok(order.iter().position(|name| *name == key).map_or(0, |at| at as u8 + 1))
    }
}

/// The URL of a user's mail on another server, for a referral (RFC 2221): how to log in there is
/// left to the client.
pub fn home_of(user: &str, host: &str) -> String {
    let mut url = String::from("imap://");
    for &b in user.as_bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(b));
            }
            _ => url.push_str(&format!("%{b:02X}")),
        }
    }
    url + ";AUTH=*@" + host + "/"
}

impl UrlServer {
    fn parse(text: &str) -> Result<UrlServer, UrlError> {
        let (userinfo, host) = match text.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, text),
        };
        let mut server = UrlServer::default();
        if let Some(userinfo) = userinfo {
            let (user, mechanism) = match userinfo.split_once(';') {
                Some((user, parameter)) => {
                    let auth = parameter.get(..5).filter(|key| key.eq_ignore_ascii_case("AUTH="));
                    if auth.is_none() {
                        return expected(";AUTH=");
                    }
                    (user, Some(percent_decoded(&parameter[5..])?))
                }
                None => (userinfo, None),
            };
            server.mechanism = mechanism;
            server.user = if user.is_empty() { None } else { Some(percent_decoded(user)?) };
        }
        // An IPv6 address has colons within its brackets.
        let bracket = host.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match host[bracket..].split_once(':') {
            Some((more, port)) => (&host[..bracket + more.len()], Some(port)),
            None => (host, None),
        };
        if host.is_empty() {
            return expected("a host");
        }
        server.host = percent_decoded(host)?;
        match port {
            None | Some("") => {}
            Some(port) => match number(port).and_then(|n| u16::try_from(n).ok()) {
                Some(port) => server.port = Some(port),
                None => return expected("a port"),
            },
        }
        Ok(server)
    }
}

impl UrlToken {
    fn parse(text: &str) -> Result<UrlToken, UrlError> {
        let Some((mechanism, digits)) = text.split_once(':') else {
            return expected("a mechanism and a token");
        };
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if mechanism.is_empty() || !mechanism.bytes().all(named) {
            return expected("a mechanism");
        }
        let digits = digits.as_bytes();
        let value = |b: u8| char::from(b).to_digit(16).map(|n| n as u8);
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match *pair {
                [high, low] => Some(value(high)? << 4 | value(low)?),
                _ => None,
            })
            .collect();
        match bytes {
            Some(bytes) if digits.len() >= 32 => {
                Ok(UrlToken { mechanism: mechanism.to_ascii_uppercase(), bytes })
            }
            _ => expected("at least 32 hexadecimal digits, and an even number"),
        }
    }
}

impl Access {
    fn parse(text: &str) -> Result<Access, UrlError> {
        let of = |prefix: &str| {
            let start = text.get(..prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
        };
        let user = |name: &str| match name {
            "" => expected("a user name"),
            name => percent_decoded(name),
        };
        if let Some(name) = of("submit+") {
            return Ok(Access::Submit(user(name)?));
        }
        if let Some(name) = of("user+") {
            return Ok(Access::User(user(name)?));
        }
        if text.eq_ignore_ascii_case("authuser") {
            return Ok(Access::AuthUser);
        }
        if text.eq_ignore_ascii_case("anonymous") {
            return Ok(Access::Anonymous);
        }
        expected("submit+user, user+user, authuser or anonymous")
    }
}

/// `scheme:` as RFC 3986 has it, before any other delimiter.
fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?', ';', '#']);
    end.is_some_and(|at| text.as_bytes()[at] == b':')
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= i64::MAX as u64)
}

fn partial(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('.') {
        None => Some((number(text)?, None)),
        Some((offset, length)) => Some((number(offset)?, Some(number(length).filter(|n| *n > 0)?))),
    }
}

/// RFC 3339, as Unix seconds; fractions are dropped.
fn date_time(text: &str) -> Option<i64> {
    use time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, &Rfc3339).ok().map(|at| at.unix_timestamp())
}

/// Undoes percent-encoding; the result has to be UTF-8 without NUL and line ends.
fn percent_decoded(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return expected("two hexadecimal digits behind %"),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains(['\0', '\r', '\n']) => Ok(text),
        _ => expected("UTF-8 without control characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::SectionText;
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> ImapUrl {
        ImapUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn section(part: &[u32], text: SectionText) -> Option<Section> {
        Some(Section { part: part.to_vec(), text })
    }

    /// RFC 5092 sections 8 and 10, RFC 4469 section 3.
    #[test]
    fn urls_as_the_rfcs_show_them() {
        let found = url("imap://michael@example.org/users.*;UIDVALIDITY=385759045/;UID=20");
        let server = found.server.unwrap();
        assert_eq!((server.user.as_deref(), &*server.host), (Some("michael"), "example.org"));
        assert_eq!(found.mailbox.as_deref(), Some("users.*"));
        assert_eq!(found.uid_validity, Some(UidValidity(385_759_045)));
        assert_eq!(found.uid, Some(Uid(20)));
        let found = url(
            "imap://minbari.example.org/gray-council;UIDVALIDITY=385759045/;UID=20/;PARTIAL=0.1024",
        );
        assert_eq!(found.partial, Some((0, Some(1024))));
        let found = url("imap://psicorp.example.org/~peter/%E6%97%A5%E6%9C%AC%E8%AA%9E/\
                         %E5%8F%B0%E5%8C%97");
        assert_eq!(found.mailbox.as_deref(), Some("~peter/日本語/台北"));
        let found =
            url("imap://;AUTH=GSSAPI@minbari.example.org/gray-council/;uid=20/;section=1.2");
        assert_eq!(found.server.unwrap().mechanism.as_deref(), Some("GSSAPI"));
        assert_eq!(found.section, section(&[1, 2], SectionText::Whole));
        let found = url("imap://;AUTH=*@[2001:db8::1]:993/INBOX");
        let server = found.server.unwrap();
        assert_eq!((&*server.host, server.port), ("[2001:db8::1]", Some(993)));
        let found = url("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER");
        assert_eq!((found.server, found.mailbox.as_deref()), (None, Some("Drafts")));
        assert_eq!(found.section, section(&[], SectionText::Header));
        let found = url(";UID=4/;SECTION=1.header.fields%20(date%20from)");
        assert_eq!((found.mailbox, found.uid), (None, Some(Uid(4))));
        let fields = SectionText::HeaderFields(vec!["date".into(), "from".into()]);
        assert_eq!(found.section, section(&[1], fields));
        assert_eq!(url("/;UID=4").mailbox, None);
        assert_eq!(url("/inbox/;UID=4").mailbox.as_deref(), Some("INBOX"));
    }

    /// RFC 4467 section 3 and 6.
    #[test]
    fn urlauth_covers_the_text_up_to_its_access_identifier() {
        let rump = "imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred";
        let found = url(rump).auth.unwrap();
        assert_eq!(found.access, Access::Submit("fred".into()));
        assert_eq!((found.rump_bytes, found.token), (rump.len(), None));
        let whole = format!("{rump}:internal:91354a473744909de610943775f92038");
        let found = url(&whole).auth.unwrap();
        assert_eq!(&whole[..found.rump_bytes], rump);
        let token = found.token.unwrap();
        assert_eq!((&*token.mechanism, token.bytes.len()), ("INTERNAL", 16));
        assert_eq!(token.bytes[..2], [0x91, 0x35]);
        let found = url("imap://joe@example.com/INBOX/;uid=20;EXPIRE=2026-11-27T00:00:00Z;\
                         URLAUTH=user+J%c3%b6%20x");
        let auth = found.auth.unwrap();
        assert_eq!(auth.access, Access::User("Jö x".into()));
        assert_eq!(auth.expire, Some(1_795_737_600));
        assert_eq!(url("/x/;uid=1;urlauth=anonymous").auth.unwrap().access, Access::Anonymous);
        assert_eq!(url("/x/;uid=1;urlauth=authuser").auth.unwrap().access, Access::AuthUser);
    }

    #[test]
    fn homes_read_as_written() {
        let text = home_of("jö@example.org", "other.example.org");
        assert_eq!(text, "imap://j%C3%B6%40example.org;AUTH=*@other.example.org/");
        let server = url(&text).server.unwrap();
        assert_eq!(server.user.as_deref(), Some("jö@example.org"));
        assert_eq!((server.mechanism.as_deref(), &*server.host), (Some("*"), "other.example.org"));
    }

    #[test]
    fn what_is_no_url_of_ours_is_refused() {
        for bad in [
            "http://example.org/",
            "mailto:x@y",
            "//example.org/x/;UID=1",
            "imap:///x",
            "Drafts/;UID=1",
            "imap://h/x?SUBJECT%20x",
            "imap://h:99999/x",
            "imap://h/;UID=1",
            "/x/;UID=0",
            "/x/;UID=4294967296",
            "/x/;UID=1/;UID=2",
            "/x/;SECTION=1",
            "/x/;UID=1/;PARTIAL=1/;SECTION=1",
            "/x/;UID=1/;SECTION=1.FROB",
            "/x/;UID=1/;PARTIAL=1.0",
            "/x/;UID=1/;PARTIAL=",
            "/x/;UID=1;EXPIRE=2026-11-27T00:00:00Z",
            "/x/;UID=1;EXPIRE=tomorrow;URLAUTH=anonymous",
            "/x/;UID=1;URLAUTH=root",
            "/x/;UID=1;URLAUTH=user+",
            "/x/;UID=1;URLAUTH=anonymous:INTERNAL:1234",
            "/x/;UID=1;URLAUTH=anonymous:INTERNAL",
            "/x/;UID=1;URLAUTH=anonymous:INTERNAL:g1354a473744909de610943775f92038",
            "/x/;UID=1/;FROB=1",
            "/x/;UID",
            "/%zz/;UID=1",
            "/%ff/;UID=1",
            "/%0d/;UID=1",
            "/a b/;UID=1",
            "/é/;UID=1",
        ] {
            assert!(ImapUrl::parse(bad).is_err(), "{bad}: {:?}", ImapUrl::parse(bad));
        }
        assert!(ImapUrl::parse(&format!("/{}", "x".repeat(URL_BYTES_MAX - 1))).is_ok());
        assert!(ImapUrl::parse(&format!("/{}", "x".repeat(URL_BYTES_MAX))).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(imap://)?[ -~]{0,40}(;(UID|SECTION|EXPIRE|URLAUTH)=[ -~]{0,20}){0,4}") {
            let _ = ImapUrl::parse(&text);
        }
    }
}
