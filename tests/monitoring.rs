//! manifests/components/monitoring and its docs, as far as they can be judged without a running Prometheus: `tests/suite/monitoring`
//! runs one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

// Beside this file it would be a test of its own.
#[expect(dead_code, reason = "the tests of the manifests need more of it")]
#[path = "manifests/render.rs"]
mod render;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use self::render::kustomize;

/// The fields of the Operator's types (monitoring.coreos.com/v1) that may stand here; `[]` is any item of a list, and what ends
/// with a point a map of anything. The API server drops what it does not know, so that a misspelt field would do nothing.
const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "metadata.labels.",
    // PodMonitor
    "spec.jobLabel",
    "spec.selector.matchLabels.",
    "spec.podMetricsEndpoints[].port",
    "spec.podMetricsEndpoints[].path",
    "spec.podMetricsEndpoints[].interval",
    "spec.podMetricsEndpoints[].scrapeTimeout",
    // PrometheusRule
    "spec.groups[].name",
    "spec.groups[].rules[].alert",
    "spec.groups[].rules[].expr",
    "spec.groups[].rules[].for",
    "spec.groups[].rules[].labels.severity",
    "spec.groups[].rules[].annotations.summary",
    "spec.groups[].rules[].annotations.description",
    "spec.groups[].rules[].annotations.runbook_url",
    // ConfigMap
    "data.",
];

/// Log messages (their beginnings) and reasons that the runbooks quote.
const SAID: &[&str] = &[
    "a request's handler panicked",
    "a task crashed",
    "a token request to Entra failed",
    "audit events were dropped",
    "audit_unavailable",
    "AZURE_FEDERATED_TOKEN_FILE cannot be read",
    "code_refused",
    "could not load; the last good content stays in force",
    "id_token_refused",
    "log lines were dropped",
    "rate_limited",
    "request failed",
    "request refused",
    "sign_in_busy",
    "store_unavailable",
    "the collector takes no spans",
    "too_many_requests",
    "too_many_streams",
    "upstream_broken",
    "upstream_busy",
    "upstream_timeout",
    "upstream_unreachable",
    "upstream_untrusted",
];

/// Grafana's units that the dashboard may use.
const UNITS: &[&str] = &["short", "s", "bytes", "reqps", "ops", "percentunit"];

#[test]
fn the_objects_have_fields_that_exist() {
    // Proves that there are these objects and no others, and that no field of theirs is misspelt.
    let objects = kustomize("components/monitoring").objects;
    let kinds: Vec<_> = objects.iter().map(|object| text(&object["kind"])).collect();
    assert_eq!(kinds, ["ConfigMap", "PodMonitor", "PrometheusRule"]);
    for object in &objects {
        for path in leaves(object, "") {
            let is_known = |field: &str| path == field || field.ends_with('.') && path.starts_with(field);
            assert!(FIELDS.iter().any(|field| is_known(field)), "{}: {path}", object["kind"]);
        }
    }
    assert_eq!(objects[0]["metadata"]["labels"]["grafana_dashboard"], "1");
}

#[test]
fn the_pod_monitor_finds_the_pods_of_the_base() {
    // Proves that labels, port and namespace are those of the Deployment.
    let base = kustomize("base").objects;
    let deployment = base.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"];
    let monitor = &kustomize("components/monitoring").objects[1]["spec"];
    for (label, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(pod["metadata"]["labels"][label], *value);
    }
    assert!(!pod["metadata"]["labels"][text(&monitor["jobLabel"])].is_null());
    let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["name"] == monitor["podMetricsEndpoints"][0]["port"]);
    assert_eq!(port.unwrap()["containerPort"], 9090);
    // Where it is a component of an overlay, it takes the overlay's namespace, and looks there.
    assert!(monitor["namespaceSelector"].is_null());
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert() {
    // Proves that the address in an alert leads to a section of docs/runbooks.md that has all four parts, and that
    // docs/monitoring.md names each alert.
    let runbooks = fs::read_to_string("docs/runbooks.md").unwrap();
    let overview = fs::read_to_string("docs/monitoring.md").unwrap();
    let sections: BTreeSet<String> =
        runbooks.split("\n## ").skip(1).map(|section| anchor(first_line(section))).collect();
    let mut linked = BTreeSet::new();
    for rule in rules() {
        let (name, notes) = (text(&rule["alert"]), &rule["annotations"]);
        let (page, linked_to) = notes["runbook_url"].as_str().unwrap().split_once('#').unwrap();
        assert!(page.ends_with("/runbooks.md"), "{page}");
        assert_eq!(linked_to, anchor(&name));
        linked.insert(linked_to.to_owned());
        assert!(
            ["critical", "warning", "info"].contains(&text(&rule["labels"]["severity"]).as_str()),
            "{name}"
        );
        assert!(
            !text(&notes["summary"]).ends_with('.') && text(&notes["description"]).ends_with('.'),
            "{name}"
        );
        assert!(overview.contains(&format!("`{name}`")), "docs/monitoring.md: {name}");
    }
    assert_eq!(linked, sections);
    assert!(overview.contains(&format!("{} alerts", linked.len())), "docs/monitoring.md: {}", linked.len());
    for section in runbooks.split("\n## ").skip(1) {
        let parts = ["**Means.**", "**Affected.**", "**Look at**", "**Do**"]
            .map(|part| section.matches(part).count());
        assert_eq!(parts, [1; 4], "{}", first_line(section));
    }
}

#[test]
fn only_metrics_that_exist_are_asked_for() {
    // Proves that each name in an alert, in a query and in the runbooks is one of docs/metrics.md, which another test
    // compares with a scrape.
    let table = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let known: BTreeSet<&str> = rows.collect();
    let mut asked: Vec<String> = rules().iter().map(|rule| text(&rule["expr"])).collect();
    asked.extend(targets(&dashboard()));
    asked.push(fs::read_to_string("docs/runbooks.md").unwrap());
    let mut found = 0;
    for text in &asked {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("entrada_") || word.starts_with("process_") {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
                assert!(known.contains(word) || base.is_some_and(|base| known.contains(base)), "{word}");
                found += 1;
            }
        }
    }
    assert!(found > 60, "{found}");
}

#[test]
fn the_runbooks_quote_what_the_program_says() {
    // Proves that a log message or a reason which a runbook tells to look for is one that the program writes.
    let runbooks = fs::read_to_string("docs/runbooks.md").unwrap();
    let runbooks = runbooks.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut source = String::new();
    for message in SAID {
        assert!(runbooks.contains(&format!("`{message}")), "not quoted any more: {message}");
    }
    read_all(Path::new("src"), &mut source);
    for message in SAID {
        assert!(source.contains(&format!("\"{message}")), "not said any more: {message}");
    }
}

fn read_all(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[test]
fn the_dashboard_can_be_read() {
    // Proves that panels have ids of their own, do not lie over each other, say what they show and in which unit, and ask
    // the data source that is chosen at the top.
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
    assert_eq!(names, ["datasource", "namespace", "pod"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut titles, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is too wide");
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(cells.insert((x, y)), "{title} lies over another");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["type"] == "timeseries" || panel["type"] == "stat", "{title}");
        assert!(titles.insert(format!("{title} {}", panel["type"])), "{title} is there twice");
        assert!(text(&panel["description"]).ends_with('.'), "{title} has no description");
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        assert!(UNITS.contains(&unit.as_str()), "{title}: {unit}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks nothing");
        for asks in targets.iter().chain([panel]) {
            assert_eq!(asks["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    for query in targets(&dashboard) {
        let selectors = query.matches('{').count();
        assert!(
            selectors > 0 && query.matches("namespace=~\"$namespace\", pod=~\"$pod\"").count() == selectors,
            "{query}"
        );
    }
}

#[test]
fn links_of_the_two_pages_lead_somewhere() {
    // Proves that files and sections that docs/monitoring.md and docs/runbooks.md point to are there.
    for page in ["monitoring.md", "runbooks.md"] {
        let text = fs::read_to_string(Path::new("docs").join(page)).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, mark)| (at, &text[at + mark.len()..])) {
            let link = rest.split(')').next().unwrap();
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = Path::new("docs").join(if file.is_empty() { page } else { file });
            assert!(target.exists(), "{page}: {link}");
            if !section.is_empty() {
                let there = fs::read_to_string(target).unwrap();
                let headings = there.lines().filter(|line| line.starts_with('#'));
                assert!(headings.map(anchor).any(|anchor| anchor == section), "{page}: {link}");
            }
        }
    }
}

/// As GitHub and most generators of sites make it of a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn rules() -> Vec<Value> {
    let groups = kustomize("components/monitoring").objects[2]["spec"]["groups"].take();
    let groups = groups.as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string("manifests/components/monitoring/dashboard.json").unwrap())
        .unwrap()
}

/// Every query of the dashboard.
fn targets(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| text(&target["expr"])).collect()
}

/// The paths of all values that are neither a map nor a list.
fn leaves(value: &Value, path: &str) -> Vec<String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, value)| leaves(value, &below(key))).collect(),
        Value::Array(items) => items.iter().flat_map(|item| leaves(item, &format!("{path}[]"))).collect(),
        _ => vec![path.to_owned()],
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
