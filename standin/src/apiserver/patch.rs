//! The four patch types. Pure.
//!
//! A strategic merge patch is read as a merge patch that merges lists whose items have a key; server-side apply merges
//! likewise, with `owners`.

use serde_json::{Map, Value};

use super::status::Failure;

/// A patch and how to read it.
#[derive(Debug)]
pub(crate) enum Patch {
    Merge(Value),
    Strategic(Value),
    Json(Vec<Value>),
    Apply(Value),
}

impl Patch {
    pub(crate) fn read(media_type: &str, body: &[u8]) -> Result<Self, Failure> {
        let json = || {
            serde_json::from_slice(body)
                .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))
        };
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Ok(Self::Merge(json()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(json()?)),
            "application/apply-patch+yaml" => Ok(Self::Apply(json()?)),
            "application/json-patch+json" => match json()? {
                Value::Array(steps) => Ok(Self::Json(steps)),
                _ => Err(Failure::bad_request("error decoding patch: a JSON patch is a list")),
            },
            other => Err(Failure::unsupported_media_type(other)),
        }
    }

    pub(crate) fn apply(&self, before: &Value) -> Result<Value, Failure> {
        let mut object = before.clone();
        // The patched object keeps no condition on its revision unless the patch names one.
        object["metadata"]["resourceVersion"] = Value::Null;
        match self {
            Self::Merge(patch) => merge(&mut object, patch, false),
            Self::Strategic(patch) | Self::Apply(patch) => merge(&mut object, patch, true),
            Self::Json(steps) => {
                object.clone_from(before);
                for step in steps {
                    apply_step(&mut object, step)?;
                }
            }
        }
        for field in ["annotations", "labels"] {
            if object["metadata"][field].as_object().is_some_and(Map::is_empty)
                && let Some(meta) = object["metadata"].as_object_mut()
            {
                meta.remove(field);
            }
        }
        Ok(object)
    }
}

/// RFC 7396, and for `by_key` the parts of strategic merging that maps and lists of things with a key need.
pub(crate) fn merge(target: &mut Value, patch: &Value, by_key: bool) {
    merge_field(target, patch, by_key, "");
}

fn merge_field(target: &mut Value, patch: &Value, by_key: bool, name: &str) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            for (key, value) in fields {
                if by_key && key.starts_with('$') {
                    continue;
                }
                if value.is_null() {
                    target.as_object_mut().map(|own| own.remove(key));
                } else {
                    merge_field(&mut target[key], value, by_key, key);
                }
            }
        }
        Value::Array(items)
            if by_key && !items.is_empty() && items.iter().all(|item| key_of(name, item).is_some()) =>
        {
            merge_list(target, items, name);
        }
        other => *target = other.clone(),
    }
}

fn merge_list(target: &mut Value, items: &[Value], name: &str) {
    let mut merged = target.as_array().cloned().unwrap_or_default();
    for item in items {
        let key = key_of(name, item);
        let position = merged.iter().position(|own| key_of(name, own) == key);
        if item["$patch"] == "delete" {
            merged.retain(|own| key_of(name, own) != key);
        } else if let Some(own) = position.and_then(|at| merged.get_mut(at)) {
            merge_field(own, item, true, "");
        } else {
            merged.push(item.clone());
        }
    }
    *target = Value::Array(merged);
}

/// What tells the items of a list apart, as `{"name":"c"}`; `None` where the list is one value.
pub(crate) fn key_of(list: &str, item: &Value) -> Option<String> {
    let fields: &[&str] = match list {
        "ports" if item["containerPort"].is_number() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        "volumeMounts" => &["mountPath"],
        "conditions" => &["type"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        _ => &["name"],
    };
    let mut key = Map::new();
    for field in fields {
        let value = match item.get(field) {
            None if *field == "protocol" => Value::from("TCP"),
            value => value.filter(|value| value.is_string() || value.is_number())?.clone(),
        };
        key.insert((*field).to_owned(), value);
    }
    Some(Value::Object(key).to_string())
}

/// One operation of RFC 6902.
fn apply_step(object: &mut Value, step: &Value) -> Result<(), Failure> {
    let text = |field: &str| step[field].as_str().unwrap_or_default();
    let path = text("path");
    match text("op") {
        "add" => insert(object, path, step["value"].clone(), false),
        "replace" => insert(object, path, step["value"].clone(), true),
        "remove" => remove(object, path).map(|_| ()),
        "test" if object.pointer(path) == Some(&step["value"]) => Ok(()),
        "test" => Err(unprocessable(format!("testing value {path} failed"))),
        "copy" => {
            let value = object.pointer(text("from")).cloned().ok_or_else(|| missing(text("from")))?;
            insert(object, path, value, false)
        }
        "move" => {
            let value = remove(object, text("from"))?;
            insert(object, path, value, false)
        }
        other => Err(unprocessable(format!("Unexpected kind: {other}"))),
    }
}

fn insert(object: &mut Value, path: &str, value: Value, must_exist: bool) -> Result<(), Failure> {
    if must_exist {
        *object.pointer_mut(path).ok_or_else(|| missing(path))? = value;
        return Ok(());
    }
    let (parent, key) = split(path)?;
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key, value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let at = if key == "-" { Some(items.len()) } else { key.parse().ok() };
            let at = at.filter(|at| *at <= items.len()).ok_or_else(|| missing(path))?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(missing(path)),
    }
}

fn remove(object: &mut Value, path: &str) -> Result<Value, Failure> {
    let (parent, key) = split(path)?;
    let removed = match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&key),
        Some(Value::Array(items)) => {
            let at = key.parse::<usize>().ok().filter(|at| *at < items.len());
            at.map(|at| items.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

fn split(path: &str) -> Result<(&str, String), Failure> {
    let (parent, key) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    Ok((parent, key.replace("~1", "/").replace("~0", "~")))
}

fn missing(path: &str) -> Failure {
    unprocessable(format!("the server rejected our request: jsonpatch path does not exist: {path}"))
}

fn unprocessable(message: String) -> Failure {
    Failure { code: http::StatusCode::UNPROCESSABLE_ENTITY, reason: "Invalid", message, details: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(media_type: &str, patch: &Value) -> Result<Value, Failure> {
        let before = json!({
            "metadata": { "resourceVersion": "7" },
            "data": { "a": "1", "b": "2" },
            "spec": { "containers": [{ "name": "c", "image": "old", "tty": true }] },
        });
        Patch::read(media_type, patch.to_string().as_bytes())?.apply(&before)
    }

    #[test]
    fn a_merge_patch_sets_removes_and_replaces_lists() {
        let patch = json!({ "data": { "a": null, "c": "3" }, "spec": { "containers": [{ "name": "d" }] } });
        let after = patched("application/merge-patch+json", &patch).expect("a merge patch");
        assert_eq!(after["data"], json!({ "b": "2", "c": "3" }));
        assert_eq!(after["spec"]["containers"], json!([{ "name": "d" }]));
    }

    #[test]
    fn a_strategic_merge_patch_merges_containers_by_name() {
        let patch = json!({ "spec": { "$setElementOrder/containers": [{ "name": "c" }],
                                      "containers": [{ "name": "c", "image": "new" }] } });
        let after = patched("application/strategic-merge-patch+json", &patch).expect("a strategic patch");
        assert_eq!(after["spec"], json!({ "containers": [{ "name": "c", "image": "new", "tty": true }] }));
    }

    #[test]
    fn a_json_patch_adds_replaces_and_removes() {
        let patch = json!([
            { "op": "test", "path": "/data/a", "value": "1" },
            { "op": "replace", "path": "/data/a", "value": "9" },
            { "op": "remove", "path": "/data/b" },
            { "op": "add", "path": "/data/x~1y", "value": "z" },
            { "op": "add", "path": "/spec/containers/-", "value": { "name": "e" } },
        ]);
        let after = patched("application/json-patch+json", &patch).expect("a JSON patch");
        assert_eq!(after["data"], json!({ "a": "9", "x/y": "z" }));
        assert_eq!(after["spec"]["containers"][1]["name"], "e");
        let missing = json!([{ "op": "replace", "path": "/data/zzz", "value": "9" }]);
        assert!(patched("application/json-patch+json", &missing).is_err());
    }
}
