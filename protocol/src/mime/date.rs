//! RFC 5322 `date-time`, with the obsolete and broken forms that mail in the wild has.
//!
//! Tokens are recognised by their shape rather than their place, so a missing weekday, commas,
//! `02-Jan-2006` and the order of `asctime` all work. Comments are skipped.

/// A moment as a Date field tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailDate {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix: i64,
    /// Days since 1970-01-01 of the date *as written*, without regard to time and zone: what
    /// SENTON, SENTBEFORE and SENTSINCE compare (RFC 3501 section 6.4.4). At most one day off the
    /// day of `unix`.
    pub local_day: i32,
}

/// Seconds in a day.
pub const DAY_SECONDS: i64 = 86_400;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    // Years start in March, so that the leap day is the last one; eras are 400 years.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[derive(Default)]
struct Parts {
    day: Option<u32>,
    month: Option<u32>,
    year: Option<i32>,
    time: Option<i64>,
    zone_minutes: Option<i64>,
}

/// Reads a Date value (folded or not). `None` when day, month or year is missing or impossible.
pub fn parse(value: &[u8]) -> Option<MailDate> {
    let mut parts = Parts::default();
    let mut at = 0;
    while let Some(&b) = value.get(at) {
        match b {
            b'(' => at = skip_comment(value, at),
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at += 1,
            _ => {
                let separator = |b: &u8| b" \t\r\n,(".contains(b);
                let end = value[at..].iter().position(separator).map_or(value.len(), |i| at + i);
                parts.take(&value[at..end]);
                at = end;
            }
        }
    }
    parts.finish()
}

/// Position behind the comment that starts at `at`.
fn skip_comment(value: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut i = at;
    while let Some(&b) = value.get(i) {
        match b {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => i += 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i.min(value.len())
}

impl Parts {
    fn take(&mut self, token: &[u8]) {
        let Some(&first) = token.first() else { return };
        let digits = token.iter().all(u8::is_ascii_digit);
        if digits {
            self.take_number(token);
        } else if first.is_ascii_digit() && token.contains(&b':') {
            // A zone may be glued on: `12:00:00+0200`.
            let end = token.iter().position(|b| b"+-".contains(b)).unwrap_or(token.len());
            self.time = self.time.or_else(|| time(&token[..end]));
            if end < token.len() {
                self.take(&token[end..]);
            }
        } else if first.is_ascii_digit() && token.contains(&b'-') {
            token.split(|&b| b == b'-').for_each(|t| self.take(t));
        } else if matches!(first, b'+' | b'-') {
            if let Some(n) = number(&token[1..]).filter(|n| *n < 2400) {
                let minutes = i64::from(n / 100 * 60 + n % 100);
                self.zone_minutes = Some(if first == b'-' { -minutes } else { minutes });
            }
        } else if let Some(month) = month(token).filter(|_| self.month.is_none()) {
            self.month = Some(month);
        } else if token.eq_ignore_ascii_case(b"pm") {
            self.time =
                self.time.map(|time| if time < 12 * 3600 { time + 12 * 3600 } else { time });
        } else if let Some(minutes) = zone(token).filter(|_| self.zone_minutes.is_none()) {
            self.zone_minutes = Some(minutes);
        }
    }

    fn take_number(&mut self, token: &[u8]) {
        let Some(n) = number(token) else { return };
        if self.day.is_none() && token.len() <= 2 && (1..=31).contains(&n) {
            self.day = Some(n);
        } else if self.year.is_none() {
            // RFC 5322 section 4.3.
            let year = match (token.len(), n) {
                (2, 0..=49) => n + 2000,
                (2, _) | (3, _) => n + 1900,
                _ => n,
            };
            self.year = Some(year as i32);
        }
    }

    fn finish(self) -> Option<MailDate> {
        let (day, month, year) = (self.day?, self.month?, self.year?);
        if !(1..=9999).contains(&year) {
            return None;
        }
        let local_day = days_from_civil(year, month, day);
        let local = i64::from(local_day) * DAY_SECONDS + self.time.unwrap_or(0);
        Some(MailDate { unix: local - self.zone_minutes.unwrap_or(0) * 60, local_day })
    }
}

fn number(token: &[u8]) -> Option<u32> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn month(token: &[u8]) -> Option<u32> {
    const MONTHS: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let name = token.get(..3)?;
    let found = MONTHS.chunks(3).position(|m| m.eq_ignore_ascii_case(name))?;
    Some(found as u32 + 1)
}

/// `h:m` or `h:m:s` in seconds since midnight; a leap second counts as the one before.
fn time(token: &[u8]) -> Option<i64> {
    let mut fields = token.split(|&b| b == b':').map(|f| {
        let digits = f.iter().position(|b| !b.is_ascii_digit()).unwrap_or(f.len());
        number(&f[..digits]).map(i64::from)
    });
    let hour = fields.next()??;
    let minute = fields.next()??;
    let second = fields.next().flatten().unwrap_or(0);
    let fits = hour < 24 && minute < 60 && second <= 60;
    fits.then(|| hour * 3600 + minute * 60 + second.min(59))
}

/// Obsolete zone names; the military letters and unknown words mean UTC (RFC 5322 section 4.3).
fn zone(token: &[u8]) -> Option<i64> {
    let hours = match token.to_ascii_lowercase().as_slice() {
        b"ut" | b"utc" | b"gmt" | b"z" => 0,
        b"edt" => -4,
        b"est" | b"cdt" => -5,
        b"cst" | b"mdt" => -6,
        b"mst" | b"pdt" => -7,
        b"pst" => -8,
        _ => return None,
    };
    Some(hours * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(value: &str) -> Option<i64> {
        parse(value.as_bytes()).map(|d| d.unix)
    }

    #[test]
    fn modern_and_obsolete_forms_agree() {
        let expected = Some(1_136_239_445);
        assert_eq!(unix("Mon, 02 Jan 2006 15:04:05 -0700"), expected);
        assert_eq!(unix("2 Jan 2006 22:04:05 GMT"), expected);
        assert_eq!(unix("Mon,2 Jan 06 15:04:05 MST (a (nested) comment)"), expected);
        assert_eq!(unix("Mon Jan  2 22:04:05 2006"), expected);
        assert_eq!(unix("Mon 02 Jan 2006 03:04:05 PM MST"), expected);
        assert_eq!(unix("02-Jan-2006 23:04:05+0100"), expected);
        assert_eq!(unix("Mon, 02\r\n\tJan 2006 15:04:05.123 -0700"), expected);
    }

    #[test]
    fn local_day_disregards_the_zone() {
        let date = parse(b"Mon, 02 Jan 2006 23:30:00 -0700").unwrap();
        assert_eq!(date.local_day, days_from_civil(2006, 1, 2));
        assert_eq!(date.unix.div_euclid(DAY_SECONDS), i64::from(date.local_day) + 1);
    }

    #[test]
    fn civil_days() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(days_from_civil(1969, 12, 31), -1);
    }

    #[test]
    fn impossible_dates_are_none() {
        for bad in ["", "yesterday", "Mon, 99 Foo 2006", "1 Jan", "(((", "Jan 2006 10:00:00"] {
            assert_eq!(unix(bad), None, "{bad}");
        }
    }
}
