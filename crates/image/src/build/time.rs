// SPDX-License-Identifier: Apache-2.0
//! The one time that a build says it happened at: SOURCE_DATE_EPOCH, or now.
//!
//! Called by `build` and `stage`.

use std::ffi::OsStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// The seconds of SOURCE_DATE_EPOCH, if it is set.
pub fn source_date_epoch(value: Option<&OsStr>) -> Result<Option<i64>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = value.to_string_lossy();
    match text.parse::<i64>() {
        Ok(seconds) if (0..=LAST).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(Error::invalid(format!(
            "SOURCE_DATE_EPOCH is {text:?}, which is no number of seconds since 1970"
        ))),
    }
}

/// The end of the year 9999: RFC 3339 has four digits.
const LAST: i64 = 253_402_300_799;

/// Seconds since 1970.
pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs() as i64)
}

/// `seconds` since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    // Years that start in March put the leap day at the end; an era is 400 of them.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The seconds since 1970 of an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn of_http(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.split_once(", ")?;
    let [day, month, year, clock, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let number = |text: &str, most: i64| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| digits && *n <= most)
    };
    let [hour, minute, second] = clock.split(':').collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? as i64;
    let (day, year) = (number(day, 31)?, number(year, 9999)?);
    let seconds = number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 60)?;
    // As in `rfc3339`: years that start in March.
    let shifted_year = if month < 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }

    #[test]
    fn reads_http_dates() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Mon, 28 Feb 2000 23:59:59 GMT", Some(951_782_399)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Tue, 14 Nov 2023 22:13:20 GMT", Some(1_700_000_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(of_http(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_the_epoch() {
        let read = |text: &str| source_date_epoch(Some(OsStr::new(text)));
        assert_eq!(source_date_epoch(None).unwrap(), None);
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("1700000000").unwrap(), Some(1_700_000_000));
        for bad in ["-1", "x", "1.5", "99999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
