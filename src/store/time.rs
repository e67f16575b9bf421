// SPDX-License-Identifier: Apache-2.0
//! A moment as RFC 3339 text in UTC.
//!
//! Pure but for [`now`]. Called when a container is made and when a line is logged.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// The time since 1970.
pub fn now() -> Duration {
    // A clock before 1970 is a broken clock: 1970 is as good as any other wrong date.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// `2026-11-21T08:03:19Z`
pub fn seconds(since_epoch: Duration) -> String {
    format!("{}Z", date_and_time(since_epoch.as_secs()))
}

/// `2026-11-21T08:03:19.210674599Z`, without trailing zeros, as Go writes it.
pub fn nanoseconds(since_epoch: Duration) -> String {
    let text = date_and_time(since_epoch.as_secs());
    let fraction = format!("{:09}", since_epoch.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => format!("{text}Z"),
        digits => format!("{text}.{digits}Z"),
    }
}

fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let second = seconds % SECONDS_PER_DAY;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    )
}

/// The Gregorian date of a day counted from 1970-01-01, by whole cycles of 400, 100, 4 and 1 years that start on a
/// 1st of March, so that the leap day is the last one of its year.
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_TO_EPOCH: u64 = 719_468; // from 0000-03-01
    let days = days_since_epoch + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (978_307_199, "2000-12-31T23:59:59Z"),
            (1_795_248_199, "2026-11-21T08:03:19Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(seconds(Duration::from_secs(at)), text);
        }
    }

    #[test]
    fn fractions_lose_their_trailing_zeros() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:01Z"),
            (210_674_599, "1970-01-01T00:00:01.210674599Z"),
            (500_000_000, "1970-01-01T00:00:01.5Z"),
            (1, "1970-01-01T00:00:01.000000001Z"),
        ] {
            assert_eq!(nanoseconds(Duration::new(1, nanos)), text);
        }
    }
}
