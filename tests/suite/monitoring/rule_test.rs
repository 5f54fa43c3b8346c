//! What was scraped, as a test for promtool.
//!
//! A case is told in minutes: eleven times what was scraped before the fault, then what was scraped after it. Where the
//! fault lasts, each following minute is like the one that was measured: counters rise as much again.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::support::World;
use super::super::support::prometheus::labels;

/// The first minute after the fault.
const FAULT: i64 = 11;
/// Longer than any `for`, and within the longest window.
const LASTING: i64 = 38;
/// A fault that happened once is still in each window.
const SOON: i64 = FAULT + 9;
const LAST: i64 = 60;
const POD: &str = "entrada-0";

/// A fault, and the alerts that it fires, as name and severity.
pub(super) struct Case {
    pods: Vec<Pod>,
    pub(super) alerts: &'static [&'static str],
    lasting: bool,
    /// Panics are the process's, in which other tests panic.
    panics: bool,
}

struct Pod {
    name: &'static str,
    before: Scrape,
    after: Scrape,
}

/// Values by series (without its closing brace, which labels may follow).
#[derive(Default)]
struct Scrape(BTreeMap<String, Sample>);

struct Sample {
    value: f64,
    counts: bool,
}

impl Case {
    pub(super) async fn before(world: &World) -> Self {
        let text = world.admin("/metrics").await.1;
        Self::before_text(&text, world.now())
    }

    pub(super) fn before_text(text: &str, now: Timestamp) -> Self {
        let pod = Pod { name: POD, before: Scrape::of(text, now, 0), after: Scrape::default() };
        Self { pods: vec![pod], alerts: &[], lasting: false, panics: false }
    }

    /// Without this, nobody answers any more.
    pub(super) async fn after(&mut self, world: &World) {
        self.after_text(&world.admin("/metrics").await.1, world.now());
    }

    pub(super) fn after_text(&mut self, text: &str, now: Timestamp) {
        self.pods[0].after = Scrape::of(text, now, FAULT);
    }

    /// One more replica, which there was not before.
    pub(super) async fn another(&mut self, world: &World) {
        let after = Scrape::of(&world.admin("/metrics").await.1, world.now(), FAULT);
        self.pods.push(Pod { name: "entrada-1", before: Scrape::default(), after });
    }

    pub(super) fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    pub(super) fn with_panics(mut self) -> Self {
        self.panics = true;
        self
    }

    pub(super) fn fires(mut self, alerts: &'static [&'static str]) -> Self {
        self.alerts = alerts;
        self
    }

    fn series(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for pod in &self.pods {
            let labels: Vec<String> =
                labels(pod.name).as_object().unwrap().iter().map(|(k, v)| format!("{k}={v}")).collect();
            let labels = format!("{},instance=\"{}\"}}", labels.join(","), pod.name);
            let mut names: Vec<_> = pod.before.0.keys().chain(pod.after.0.keys()).collect();
            names.sort();
            names.dedup();
            for name in names.into_iter().filter(|name| self.panics || !name.starts_with("entrada_panics")) {
                let values = values(pod.before.0.get(name), pod.after.0.get(name), self.lasting);
                all.push(json!({ "series": format!("{name}{labels}"), "values": values }));
            }
        }
        all
    }

    fn test(&self) -> Value {
        let firing = r#"group by (alertname, severity) (ALERTS{alertstate="firing"})"#;
        let expected = self.alerts.iter().map(|alert| {
            let (name, severity) = alert.split_once(' ').unwrap();
            let labels = format!("{{alertname=\"{name}\", severity=\"{severity}\"}}");
            json!({ "labels": labels, "value": 1 })
        });
        let expected: Vec<Value> = expected.collect();
        let at = if self.lasting { LASTING } else { SOON };
        let ask = |minute: i64, expected: Vec<Value>| json!({ "expr": firing, "eval_time": format!("{minute}m"), "exp_samples": expected });
        json!({
            "name": self.alerts.join(", "),
            "interval": "1m",
            "input_series": self.series(),
            "promql_expr_test": [ask(FAULT - 1, Vec::new()), ask(at, expected)],
        })
    }
}

/// The file for `promtool test rules`.
pub(super) fn file(rules: &Path, cases: &[Case]) -> Value {
    let tests: Vec<Value> = cases.iter().map(Case::test).collect();
    json!({ "rule_files": [rules], "evaluation_interval": "1m", "tests": tests })
}

/// In promtool's notation: `a+bxn` is a, a+b, … , a+n·b.
fn values(before: Option<&Sample>, after: Option<&Sample>, lasting: bool) -> String {
    let first = match before {
        Some(sample) => format!("{}+0x{}", sample.value, FAULT - 1),
        None => format!("_x{FAULT}"),
    };
    let then = match (before, after) {
        (_, None) => "stale".to_owned(),
        (before, Some(after)) => {
            let step = after.value - before.map_or(0.0, |before| before.value);
            // A counter that has begun anew is lower.
            let step = if lasting && after.counts { step.max(0.0) } else { 0.0 };
            format!("{}+{step}x{}", after.value, LAST - FAULT)
        }
    };
    format!("{first} {then}")
}

impl Scrape {
    /// Reads the text format. promtool's time begins at 0, so times are told as from `now`, which is this minute there.
    fn of(text: &str, now: Timestamp, minute: i64) -> Self {
        let mut counts = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                counts.insert(name.to_owned(), kind != "gauge");
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let counts = base.and_then(|base| counts.get(base)).or(counts.get(name));
            let mut sample = Sample { value: value.parse().unwrap(), counts: *counts.unwrap() };
            if name.ends_with("_timestamp_seconds") {
                sample.value += (minute * 60 - now.as_second()) as f64;
            }
            let labels = labels.trim_end_matches('}');
            let comma = if labels.is_empty() { "" } else { "," };
            samples.insert(format!("{name}{{{labels}{comma}"), sample);
        }
        Self(samples)
    }
}
