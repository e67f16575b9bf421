// SPDX-License-Identifier: Apache-2.0
//! Pure: what is made of the measured times. A shared machine's absolute times mean little, so the figure that counts
//! is the median of the ratios taken round by round within one interleaved run.

use serde_json::{Value, json};

/// The times of one runtime in one case, in seconds, round by round.
pub struct Series {
    /// The runtime's name, or `floor`.
    pub name: String,
    /// One figure for each round.
    pub seconds: Vec<f64>,
}

/// The middle value; of an even number the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        (upper + sorted.get(middle - 1)?) / 2.0
    })
}

/// How much of `base`'s time `of` takes: the median over the rounds.
pub fn ratio(of: &Series, base: &Series) -> Option<f64> {
    median(
        of.seconds
            .iter()
            .zip(&base.seconds)
            .map(|(own, other)| own / other),
    )
}

/// One case's table for people.
pub fn table(series: &[Series], baseline: &str) -> String {
    let named = |name: &str| series.iter().find(|one| one.name == name);
    let (base, floor) = (named(baseline), named("floor"));
    let row = |name: &str, median: &str, least: &str, to_base: &str, to_floor: &str| {
        let row = format!("{name:<12} {median:>10} {least:>9} {to_base:>10}");
        if floor.is_some() {
            format!("{row} {to_floor:>9}")
        } else {
            row
        }
    };
    let mut rows = vec![row(
        "",
        "median ms",
        "min ms",
        &format!("/ {baseline}"),
        "/ floor",
    )];
    rows.extend(series.iter().map(|one| {
        let milliseconds = |seconds: Option<f64>| number(seconds.map(|seconds| seconds * 1e3));
        let versus = |other: Option<&Series>| number(other.and_then(|other| ratio(one, other)));
        let middle = milliseconds(median(one.seconds.iter().copied()));
        let least = milliseconds(one.seconds.iter().copied().reduce(f64::min));
        row(&one.name, &middle, &least, &versus(base), &versus(floor))
    }));
    rows.join("\n")
}

/// The same for programs.
pub fn document(series: &[Series], baseline: &str) -> Value {
    let named = |name: &str| series.iter().find(|one| one.name == name);
    let rows = series.iter().map(|one| {
        let versus = |other: Option<&Series>| other.and_then(|other| ratio(one, other));
        let median_ms = median(one.seconds.iter().copied()).map(|seconds| seconds * 1e3);
        let row = json!({"median_ms": median_ms, "to_baseline": versus(named(baseline)), "to_floor": versus(named("floor"))});
        (one.name.clone(), row)
    });
    Value::Object(rows.collect())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, seconds: &[f64]) -> Series {
        Series {
            name: name.into(),
            seconds: seconds.to_vec(),
        }
    }

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0, 5.0][..], Some(5.0)),
            (&[4.0, 1.0][..], Some(2.5)),
        ] {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // A slow moment that hits both in the same round changes nothing.
        let (own, base) = (
            series("own", &[1.0, 10.0, 1.0]),
            series("base", &[2.0, 20.0, 2.0]),
        );
        assert_eq!(ratio(&own, &base), Some(0.5));
    }

    #[test]
    fn the_table_names_the_baseline_and_the_floor() {
        let all = [
            series("own", &[0.002]),
            series("peer", &[0.004]),
            series("floor", &[0.001]),
        ];
        let text = table(&all, "peer");
        assert!(
            text.contains("/ peer") && text.contains("/ floor"),
            "{text}"
        );
        assert!(
            text.contains("own                2.00      2.00       0.50      2.00"),
            "{text}"
        );
        assert!(!table(&all[..2], "peer").contains("floor"));
    }
}
