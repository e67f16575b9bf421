// SPDX-License-Identifier: Apache-2.0
//! When a server wants to be asked again: `Retry-After`, in seconds or as a date.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, header};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// After how long; none if the answer doesn't say so in a way that can be read.
pub fn after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let asked = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = seconds(asked)?;
    // By the server's own clock, if it tells what that says.
    let now = text(header::DATE).and_then(seconds).or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Some(since.ok()?.as_secs())
    })?;
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still written, as seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let (day, year) = (number(day, 1, 31)?, number(year, 1970, 9999)?);
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?, 0, 23)?, number(parts.next()?, 0, 59)?);
    // 60 is a leap second.
    let second = number(parts.next()?, 0, 60)?;
    if parts.next().is_some() {
        return None;
    }
    // Years begin in March, so that a leap day is a year's last one.
    let (years, months) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day;
    // What the sum has for the first of January 1970.
    let days = days.checked_sub(719_469)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let is_digits = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|_| is_digits)?;
    (least..=most).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Sat, 01 Mar 2025 00:00:00 GMT", Some(1_740_787_200)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37:1 GMT", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn seconds_or_a_date_by_the_servers_clock() {
        for (asked, date, expected) in [
            ("5", None, Some(5)),
            (" 5 ", None, Some(5)),
            ("-5", None, None),
            ("soon", None, None),
            (
                "Sun, 06 Nov 1994 08:49:37 GMT",
                Some("Sun, 06 Nov 1994 08:49:30 GMT"),
                Some(7),
            ),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(0)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, asked.parse().unwrap());
            if let Some(date) = date {
                headers.insert(header::DATE, date.parse().unwrap());
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(after(&headers), expected, "{asked}");
        }
    }
}
