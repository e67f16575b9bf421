// SPDX-License-Identifier: Apache-2.0
//! Stages that need nothing of each other are built at the same time; the first failure ends the others.

use std::time::{Duration, Instant};

use crate::support::Bench;

#[test]
fn at_the_same_time() {
    let mut bench = Bench::with_base();
    // Each waits for the other: one after the other they would wait for ever.
    let meet = |own: &str, other: &str| {
        format!(
            "FROM base AS {own}\nRUN --mount=type=cache,id=meet,target=/m touch /m/{own}; \
             n=0; until test -e /m/{other}; do n=$((n+1)); test $n -lt 200 || exit 9; usleep 50000; done; touch /{own}\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM base\nCOPY --from=one /one /\nRUN --mount=from=two,target=/t cp /t/two /\n",
        meet("one", "two"),
        meet("two", "one")
    );
    bench.options.jobs = Some(2);
    bench.build("image", &dockerfile).unwrap();
    let files = bench.files("image");
    assert!(files.contains_key("one") && files.contains_key("two"));
}

#[test]
fn the_first_failure_stops_the_others() {
    let mut bench = Bench::with_base();
    bench.options.jobs = Some(3);
    let dockerfile = "FROM base AS slow\nRUN sleep 60\nFROM base AS slower\nRUN sleep 70\n\
        FROM base AS broken\nRUN sleep 1; exit 7\n\
        FROM base\nCOPY --from=slow / /\nCOPY --from=slower / /\nCOPY --from=broken / /\n";
    let start = Instant::now();
    let failure = bench.build("image", dockerfile).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(failure.status, 7);
    let text = failure.error.to_string();
    assert!(
        text.ends_with("Dockerfile:6: RUN: exited with status 7"),
        "{text}"
    );
}

#[test]
fn equal_steps_are_made_once() {
    let mut bench = Bench::with_base();
    bench.options.jobs = Some(4);
    let step =
        "RUN --mount=type=cache,id=count,target=/c echo x >> /c/n; sleep 1; wc -l < /c/n > /n\n";
    let dockerfile = format!(
        "FROM base AS a\n{step}FROM base AS b\n{step}FROM base AS c\n{step}\
         FROM base\nCOPY --from=a /n /a\nCOPY --from=b /n /b\nCOPY --from=c /n /c\n"
    );
    let built = bench.build("image", &dockerfile).unwrap();
    assert_eq!(built.cached, 2);
    let files = bench.files("image");
    for name in ["a", "b", "c"] {
        assert_eq!(files[name].content, "1\n");
    }
}

#[test]
fn any_number_of_threads_builds_the_same() {
    let mut bench = Bench::with_base();
    bench.options.source_date_epoch = Some("1700000000".into());
    bench.options.cache = corten_image::build::Cache::Ignore;
    let mut dockerfile = String::new();
    for number in 0..6 {
        let from = match number % 3 {
            0 => "base".to_owned(),
            _ => format!("s{}", number - 1),
        };
        dockerfile += &format!("FROM {from} AS s{number}\nRUN echo {number} > /f{number}\n");
    }
    dockerfile += "FROM base\n";
    for number in 0..6 {
        dockerfile += &format!("COPY --from=s{number} /f{number} /\n");
    }
    let mut built = Vec::new();
    for jobs in [1, 2, 7] {
        bench.options.jobs = Some(jobs);
        built.push(bench.build("image", &dockerfile).unwrap().manifest);
    }
    assert!(built.iter().all(|digest| *digest == built[0]));
}
