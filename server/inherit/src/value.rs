//! Numbers, switches, durations, addresses and ports as the other servers' files have them.

/// Cyrus's words for yes and no.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "on" | "t" | "true" => Some(true),
        "0" | "no" | "off" | "f" | "false" => Some(false),
        _ => None,
    }
}

/// Cyrus's durations in seconds: `1h30m`; a bare number has `unit` seconds. Below zero: `None`
/// within.
pub(crate) fn duration(text: &str, unit: u64) -> Option<Option<u64>> {
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let mut total: u64 = 0;
    let mut digits = String::new();
    let mut any = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let seconds = match c {
            'd' => 86400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        digits.clear();
        any = true;
    }
    if !digits.is_empty() {
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        any = true;
    }
    any.then_some((!negative || total == 0).then_some(total))
}

/// A port by number or by the name of a service. The usual ones have names of their own, others are
/// looked up in the text of `/etc/services`.
pub(crate) fn port(text: &str, services: Option<&str>) -> Option<u16> {
    if let Ok(number) = text.parse::<u16>() {
        return Some(number).filter(|n| *n > 0);
    }
    let usual = match text {
        "imap" | "imap2" => 143,
        "imaps" => 993,
        "pop3" | "pop-3" => 110,
        "pop3s" => 995,
        "lmtp" => 24,
        _ => 0,
    };
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let number = words.next()?.strip_suffix("/tcp")?.parse().ok()?;
        (name == text || words.any(|alias| alias == text)).then_some(number)
    };
    // What the machine says goes first.
    let found = services.and_then(|table| table.lines().find_map(line));
    found.or_else(|| Some(usual).filter(|n| *n > 0))
}

/// A host as a listener has it: IPv6 in brackets.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare {
        "" | "0" | "*" => format!("*:{port}"),
        v6 if v6.contains(':') => format!("[{v6}]:{port}"),
        other => format!("{other}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_imapd_conf() {
        assert_eq!(duration("1h30m", 1), Some(Some(5400)));
        assert_eq!(duration("32", 60), Some(Some(1920)));
        assert_eq!(duration("1d2h3m4s", 60), Some(Some(93784)));
        assert_eq!(duration("-1", 86400), Some(None));
        assert_eq!(duration("0", 60), Some(Some(0)));
        for bad in ["", "m", "1w", "x", "1 h", "99999999999999999999", "-", "9999999999999999999d"]
        {
            assert_eq!(duration(bad, 60), None, "{bad}");
        }
    }

    #[test]
    fn ports_and_hosts() {
        let services = "imap2\t143/tcp\timap\nsieve 4190/tcp # x\nlmtp 2003/tcp\n";
        assert_eq!(port("imap", Some(services)), Some(143));
        assert_eq!(port("sieve", Some(services)), Some(4190));
        assert_eq!(port("lmtp", Some(services)), Some(2003));
        assert_eq!(port("lmtp", None), Some(24));
        assert_eq!((port("0", None), port("70000", None), port("none", None)), (None, None, None));
        assert_eq!(host_port("0", 143), "*:143");
        assert_eq!(host_port("[::1]", 143), "[::1]:143");
        assert_eq!(host_port("::", 143), "[::]:143");
        assert_eq!(host_port("localhost", 143), "localhost:143");
    }
}
