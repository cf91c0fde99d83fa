//! Dates as C's `ctime` has them, which Cyrus's programs print: in the host's zone.

use std::sync::OnceLock;

use time::{OffsetDateTime, UtcOffset};
use tz::TimeZone;

/// `TZ`, else `/etc/localtime`, else UTC.
fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let read = match std::env::var("TZ") {
            Ok(text) => TimeZone::from_posix_tz(&text),
            Err(_) => TimeZone::local(),
        };
        read.unwrap_or_else(|_| TimeZone::utc())
    })
}

/// Unix seconds in the host's zone; `None` for those that a calendar of four digits has not.
pub(super) fn local(seconds: i64) -> Option<OffsetDateTime> {
    let offset = zone().find_local_time_type(seconds).map_or(0, |kind| kind.ut_offset());
    let offset = UtcOffset::from_whole_seconds(offset).unwrap_or(UtcOffset::UTC);
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.checked_to_offset(offset)
}

/// Unix seconds as `Sat Mar  5 00:00:00 2022`.
pub(super) fn ctime(seconds: i64) -> String {
    local(seconds).map_or_else(|| seconds.to_string(), form)
}

fn form(at: OffsetDateTime) -> String {
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let (hour, minute, second) = at.to_hms();
    let (day, year) = (at.day(), at.year());
    format!("{:.3} {:.3} {day:2} {hour:02}:{minute:02}:{second:02} {year}", weekday, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_ctimes_columns() {
        let at = |seconds| form(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        assert_eq!(at(1_646_438_400), "Sat Mar  5 00:00:00 2022");
        assert_eq!(at(946_684_799), "Fri Dec 31 23:59:59 1999");
        assert_eq!(ctime(i64::MAX), i64::MAX.to_string());
    }
}
