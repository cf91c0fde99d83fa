//! Passwords that are learned at login from the server before us.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the old server is asked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LearnProtocol {
    /// LOGIN or AUTHENTICATE PLAIN.
    #[default]
    Imap,
    /// USER and PASS.
    Pop3,
}

/// How that is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LearnTls {
    /// TLS from the first byte.
    #[default]
    Implicit,
    /// STARTTLS or STLS, else it is not asked.
    Starttls,
    /// Not at all.
    None,
}

/// How the old server knows users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LearnName {
    /// By the whole name.
    #[default]
    Whole,
    /// By what stands before the `@`.
    Local,
}

/// Passwords that are learned at login.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learn {
    /// The old server, perhaps with `:port`; empty: nothing is learned.
    pub server: String,
    /// What it is asked by.
    pub protocol: LearnProtocol,
    /// How that is protected.
    pub tls: LearnTls,
    /// PEM file with the only authorities that are trusted. Absent: the system's.
    pub ca: Option<PathBuf>,
    /// `YYYY-MM-DD`: from that day on (UTC) nothing is learned.
    pub until: String,
    /// How the old server knows users.
    pub name: LearnName,
    /// The longest wait for it, and for a turn to ask.
    pub timeout_seconds: u64,
    /// Questions under way at one time.
    pub questions_max: usize,
}

impl Default for Learn {
    fn default() -> Self {
        Learn {
            server: String::new(),
            protocol: LearnProtocol::Imap,
            tls: LearnTls::Implicit,
            ca: None,
            until: String::new(),
            name: LearnName::Whole,
            timeout_seconds: 10,
            questions_max: 8,
        }
    }
}

impl Learn {
    /// Whether passwords are learned, until that day.
    pub fn is_on(&self) -> bool {
        !self.server.is_empty()
    }

    /// Host and port; `None`: the port is no number.
    pub fn address(&self) -> Option<(&str, u16)> {
        let usual = match (self.protocol, self.tls) {
            (LearnProtocol::Imap, LearnTls::Implicit) => 993,
            (LearnProtocol::Imap, _) => 143,
            (LearnProtocol::Pop3, LearnTls::Implicit) => 995,
            (LearnProtocol::Pop3, _) => 110,
        };
        // An IPv6 address has colons of its own, and brackets where a port follows.
        let is_bare = self.server.matches(':').count() > 1 && !self.server.contains(']');
        match self.server.rsplit_once(':') {
            Some((host, port)) if !is_bare && !port.ends_with(']') => {
                Some((host, port.parse().ok()?))
            }
            _ => Some((self.server.as_str(), usual)),
        }
    }

    /// `until` as Unix seconds; `None`: it is no day.
    pub fn until_unix(&self) -> Option<i64> {
        let mut parts = self.until.split('-').map(|part| part.parse::<i64>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let is_day = (1970..=9999).contains(&year) && (1..=12).contains(&month);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if !is_day || !(1..=days).contains(&day) || parts.next().is_some() {
            return None;
        }
        // Days since 1970, with years that begin in March.
        let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let day_of_year = (153 * m + 2) / 5 + day - 1;
        let days = y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719_468;
        Some(days * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        let unix = |until: &str| Learn { until: until.to_owned(), ..Learn::default() }.until_unix();
        assert_eq!(unix("1970-01-01"), Some(0));
        assert_eq!(unix("2000-02-29"), Some(951_782_400));
        assert_eq!(unix("2027-01-31"), Some(1_801_353_600));
        for bad in ["", "2027", "2027-02-29", "2027-13-01", "soon", "2027-01-01-01"] {
            assert_eq!(unix(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_usual_port() {
        let address = |server: &str| {
            let learn = Learn { server: server.to_owned(), ..Learn::default() };
            learn.address().map(|(host, port)| (host.to_owned(), port))
        };
        assert_eq!(address("old"), Some(("old".to_owned(), 993)));
        assert_eq!(address("old:1993"), Some(("old".to_owned(), 1993)));
        assert_eq!(address("[::1]:99"), Some(("[::1]".to_owned(), 99)));
        assert_eq!(address("::1"), Some(("::1".to_owned(), 993)));
        assert_eq!(address("old:x"), None);
    }
}
