//! Server-side printing: objects as `meta.k8s.io` Tables, and reduced to their metadata. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::discovery::Resource;
use super::query::Query;

/// How much of the object a row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn asked(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Self::Nothing,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// Name, type, format, priority (1: only with `-o wide`).
type Column = (&'static str, &'static str, &'static str, u8);

const NAME: Column = ("Name", "string", "name", 0);
const AGE: Column = ("Age", "string", "", 0);
const PODS: [Column; 9] = [
    NAME,
    ("Ready", "string", "", 0),
    ("Status", "string", "", 0),
    ("Restarts", "string", "", 0),
    AGE,
    ("IP", "string", "", 1),
    ("Node", "string", "", 1),
    ("Nominated Node", "string", "", 1),
    ("Readiness Gates", "string", "", 1),
];
const NAMESPACES: [Column; 3] = [NAME, ("Status", "string", "", 0), AGE];
const CONFIG_MAPS: [Column; 3] = [NAME, ("Data", "integer", "", 0), AGE];
const ANY: [Column; 2] = [NAME, ("Created At", "date", "", 0)];

/// The objects as rows, below the resource's columns.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Value],
    meta: Value,
    version: &str,
    include: Include,
    now: Timestamp,
) -> Value {
    let columns: Vec<Value> = columns(resource)
        .iter()
        .map(|(name, kind, format, priority)| {
            json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let shown = match include {
                Include::Nothing => Value::Null,
                Include::Metadata => partial(object, version),
                Include::Object => object.clone(),
            };
            json!({ "cells": cells(resource, object, now), "object": shown })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": version,
        "metadata": meta,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The object's metadata alone.
pub(crate) fn partial(object: &Value, version: &str) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": object["metadata"] })
}

fn columns(resource: &Resource) -> &'static [Column] {
    match resource.kind.as_str() {
        "Pod" => &PODS,
        "Namespace" => &NAMESPACES,
        "ConfigMap" => &CONFIG_MAPS,
        _ => &ANY,
    }
}

fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let created = &object["metadata"]["creationTimestamp"];
    let age = json!(age(created.as_str().unwrap_or_default(), now));
    match resource.kind.as_str() {
        "Pod" => pod_cells(object, name, age),
        "Namespace" => vec![name, object["status"]["phase"].clone(), age],
        "ConfigMap" => {
            let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
            vec![name, json!(count("data") + count("binaryData")), age]
        }
        _ => vec![name, created.clone()],
    }
}

fn pod_cells(pod: &Value, name: Value, age: Value) -> Vec<Value> {
    let none = json!("<none>");
    let or_none = |value: &Value| if value.is_null() { none.clone() } else { value.clone() };
    let statuses = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let restarts: u64 = statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum();
    let is_leaving = pod["metadata"].get("deletionTimestamp").is_some();
    let status = if is_leaving { json!("Terminating") } else { or_none(&pod["status"]["phase"]) };
    vec![
        name,
        json!(format!("{ready}/{total}")),
        status,
        json!(restarts.to_string()),
        age,
        or_none(&pod["status"]["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&pod["status"]["nominatedNodeName"]),
        none.clone(),
    ]
}

/// An age in the short form of `kubectl get`: two units while young, one when old.
fn age(created: &str, now: Timestamp) -> String {
    let Ok(created) = created.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now.duration_since(created).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let pair = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        for (created, written) in [
            ("2026-11-23T11:59:00Z", "60s"),
            ("2026-11-23T11:51:33Z", "8m27s"),
            ("2026-11-23T11:00:00Z", "60m"),
            ("2026-11-23T08:30:00Z", "3h30m"),
            ("2026-11-20T10:00:00Z", "3d2h"),
            ("2026-10-01T12:00:00Z", "53d"),
            ("", "<unknown>"),
        ] {
            assert_eq!(age(created, now), written);
        }
    }
}
