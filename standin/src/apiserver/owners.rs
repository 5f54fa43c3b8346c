//! Server-side apply: who set which field, so that a field that its owner no longer sets goes away, and one that another
//! has set is not overwritten unasked. Pure.
//!
//! Ownership is written as `metadata.managedFields` in the real form (FieldsV1): `f:name` for a field, `k:{…}` for an item
//! of a list that has a key. What is simpler than in the real server: it is kept only of objects that have been applied at
//! least once, and which lists have keys is read from the items, not from a schema.

use serde_json::{Map, Value, json};

use super::patch::key_of;
use super::status::{Cause, Failure};

/// Who writes, and when.
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    pub(crate) api_version: String,
    pub(crate) time: String,
}

/// What `config`, applied by a manager, leaves of the object that is there.
///
/// # Errors
/// When another manager has set one of these fields to another value, unless `force` takes it over.
pub(crate) fn apply(before: &Value, config: &Value, by: &Writer, force: bool) -> Result<Value, Failure> {
    let mut object = before.clone();
    let ours = fields_of_object(config);
    let mut managers = read(before);
    let at = managers.iter().position(|one| is(one, by.manager, "Apply"));
    let old = at.map(|at| managers.remove(at));
    let mut conflicts = Vec::new();
    for other in &mut managers {
        let theirs = &mut other["fieldsV1"];
        let disputed = disputed(&ours, theirs, before, config, "");
        if force {
            *theirs = subtract(theirs, &ours, before, config);
        }
        conflicts.extend(
            disputed.into_iter().map(|path| (other["manager"].clone(), other["apiVersion"].clone(), path)),
        );
    }
    if !force && !conflicts.is_empty() {
        return Err(refused(&conflicts));
    }
    if let Some(old) = &old {
        let others: Vec<&Value> = managers.iter().map(|one| &one["fieldsV1"]).collect();
        remove_lost(&mut object, &old["fieldsV1"], &ours, &others);
    }
    super::patch::merge(&mut object, config, true);
    // Who sets the same fields again keeps the entry and its time, so that an apply without a change writes nothing.
    let own = old.filter(|old| old["fieldsV1"] == ours).unwrap_or_else(|| entry(by, "Apply", ours));
    managers.insert(at.unwrap_or(managers.len()), own);
    managers.retain(|one| one["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    object["metadata"]["managedFields"] = Value::Array(managers);
    Ok(object)
}

/// Who has an object that was written without apply: of what was changed, the writer is the owner now.
pub(crate) fn written(before: &Value, after: &mut Value, by: &Writer) {
    let mut managers = read(before);
    if managers.is_empty() {
        return;
    }
    let changed = changed(before, after);
    for one in &mut managers {
        one["fieldsV1"] = subtract(&one["fieldsV1"], &changed, before, after);
    }
    if changed.as_object().is_some_and(|fields| !fields.is_empty()) {
        let at = managers.iter().position(|one| is(one, by.manager, "Update"));
        let mut own = at.map_or_else(|| json!({}), |at| managers.remove(at)["fieldsV1"].take());
        super::patch::merge(&mut own, &changed, false);
        managers.push(entry(by, "Update", own));
    }
    managers.retain(|one| one["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    after["metadata"]["managedFields"] = Value::Array(managers);
}

fn read(object: &Value) -> Vec<Value> {
    object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default()
}

fn is(entry: &Value, manager: &str, operation: &str) -> bool {
    entry["manager"] == manager && entry["operation"] == operation
}

fn entry(by: &Writer, operation: &str, fields: Value) -> Value {
    json!({
        "manager": by.manager, "operation": operation, "apiVersion": by.api_version, "time": by.time,
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    })
}

/// The fields that are somebody's: not what names the object, nor what the server sets.
fn fields_of_object(object: &Value) -> Value {
    let mut own = object.clone();
    if let Some(fields) = own.as_object_mut() {
        for field in ["apiVersion", "kind", "status"] {
            fields.remove(field);
        }
    }
    let meta = own["metadata"].as_object_mut();
    let is_empty = meta.is_none_or(|meta| {
        meta.retain(|name, _| {
            ["annotations", "labels", "finalizers", "ownerReferences"].contains(&name.as_str())
        });
        meta.is_empty()
    });
    if is_empty && let Some(fields) = own.as_object_mut() {
        fields.remove("metadata");
    }
    fields_of(&own)
}

/// `{"f:a": {"f:b": {}}}` for `{"a": {"b": 1}}`.
fn fields_of(value: &Value) -> Value {
    let mut fields = Map::new();
    match value {
        Value::Object(own) => {
            for (name, value) in own.iter().filter(|(_, value)| !value.is_null()) {
                let inner = match value {
                    Value::Array(items) => fields_of_list(name, items),
                    value => fields_of(value),
                };
                fields.insert(format!("f:{name}"), inner);
            }
        }
        _ => return json!({}),
    }
    Value::Object(fields)
}

fn fields_of_list(name: &str, items: &[Value]) -> Value {
    let keyed =
        items.iter().map(|item| Some((key_of(name, item)?, fields_of(item)))).collect::<Option<Vec<_>>>();
    let keyed = keyed.unwrap_or_default().into_iter();
    Value::Object(keyed.map(|(key, fields)| (format!("k:{key}"), fields)).collect())
}

/// What stands in `value` under a step such as `f:name` or `k:{"name":"c"}`; `list` is the name of the list.
fn step<'a>(value: &'a Value, step: &str, list: &str) -> Option<&'a Value> {
    match step.split_once(':')? {
        ("f", name) => value.get(name),
        (_, key) => value.as_array()?.iter().find(|item| key_of(list, item).is_some_and(|own| own == key)),
    }
}

fn name_of(step: &str) -> &str {
    step.strip_prefix("f:").unwrap_or_default()
}

fn is_leaf(fields: &Value) -> bool {
    fields.as_object().is_none_or(Map::is_empty)
}

/// The paths that both sets have and whose values differ.
fn disputed(ours: &Value, theirs: &Value, live: &Value, config: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, own) in ours.as_object().into_iter().flatten() {
        let Some(their) = theirs.get(key) else { continue };
        let list = path.rsplit('.').next().unwrap_or_default();
        let path =
            key.strip_prefix("f:").map_or_else(|| format!("{path}[{key}]"), |name| format!("{path}.{name}"));
        let (live, config) = (step(live, key, list), step(config, key, list));
        let (Some(live), Some(config)) = (live, config) else { continue };
        if !is_leaf(own) && !is_leaf(their) {
            found.extend(disputed(own, their, live, config, &path));
        } else if live != config {
            found.push(path);
        }
    }
    found
}

/// `fields` without those of `taken` whose values differ between `before` and `after`.
fn subtract(fields: &Value, taken: &Value, before: &Value, after: &Value) -> Value {
    subtract_in(fields, taken, before, after, "")
}

fn subtract_in(fields: &Value, taken: &Value, before: &Value, after: &Value, list: &str) -> Value {
    let mut left = Map::new();
    for (key, own) in fields.as_object().into_iter().flatten() {
        let Some(taken) = taken.get(key) else {
            left.insert(key.clone(), own.clone());
            continue;
        };
        let (before, after) = (step(before, key, list), step(after, key, list));
        if before == after {
            left.insert(key.clone(), own.clone());
        } else if let (false, false, Some(before), Some(after)) =
            (is_leaf(own), is_leaf(taken), before, after)
        {
            let inner = subtract_in(own, taken, before, after, name_of(key));
            if !is_leaf(&inner) {
                left.insert(key.clone(), inner);
            }
        }
    }
    Value::Object(left)
}

/// The fields that differ between two objects, as far as they are somebody's.
fn changed(before: &Value, after: &Value) -> Value {
    let (old, new) = (fields_of_object(before), fields_of_object(after));
    let mut all = old;
    super::patch::merge(&mut all, &new, false);
    different(&all, before, after, "").unwrap_or_else(|| json!({}))
}

fn different(fields: &Value, before: &Value, after: &Value, list: &str) -> Option<Value> {
    let mut found = Map::new();
    for (key, own) in fields.as_object()? {
        let (old, new) = (step(before, key, list), step(after, key, list));
        if old == new {
            continue;
        }
        let inner = match (old, new) {
            (Some(old), Some(new)) if !is_leaf(own) => {
                different(own, old, new, name_of(key)).unwrap_or_default()
            }
            _ => own.clone(),
        };
        found.insert(key.clone(), inner);
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// Removes what a manager had set, sets no longer, and nobody else has set.
fn remove_lost(object: &mut Value, old: &Value, new: &Value, others: &[&Value]) {
    remove_in(object, old, new, others, "");
}

fn remove_in(object: &mut Value, old: &Value, new: &Value, others: &[&Value], list: &str) {
    for (key, had) in old.as_object().into_iter().flatten() {
        let has = new.get(key);
        let theirs: Vec<&Value> = others.iter().filter_map(|other| other.get(key)).collect();
        let is_gone = has.is_none() && theirs.is_empty();
        match (key.split_once(':'), &mut *object) {
            (Some(("f", name)), Value::Object(fields)) => {
                if is_gone {
                    fields.remove(name);
                } else if let Some(inner) = fields.get_mut(name) {
                    remove_in(inner, had, has.unwrap_or(&Value::Null), &theirs, name);
                }
            }
            (Some((_, wanted)), Value::Array(items)) => {
                let at = items.iter().position(|item| key_of(list, item).is_some_and(|own| own == wanted));
                let Some(at) = at else { continue };
                if is_gone {
                    items.remove(at);
                } else if let Some(item) = items.get_mut(at) {
                    remove_in(item, had, has.unwrap_or(&Value::Null), &theirs, "");
                }
            }
            _ => {}
        }
    }
}

fn refused(conflicts: &[(Value, Value, String)]) -> Failure {
    let sentence = |(manager, version, _): &(Value, Value, String)| {
        format!("conflict with {manager} using {}", version.as_str().unwrap_or_default())
    };
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict",
            message: sentence(conflict),
            field: conflict.2.clone(),
        })
        .collect();
    let listed: Vec<String> = conflicts.iter().map(|one| format!("{}: {}", sentence(one), one.2)).collect();
    let count = conflicts.len();
    let message = format!(
        "Apply failed with {count} conflict{}: {}",
        if count == 1 { "" } else { "s" },
        listed.join("\n")
    );
    Failure::apply_conflict(message, causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(manager: &str) -> Writer<'_> {
        Writer { manager, api_version: "v1".to_owned(), time: String::new() }
    }

    fn applied(before: &Value, config: &Value, manager: &str, force: bool) -> Result<Value, Failure> {
        apply(before, config, &by(manager), force)
    }

    #[test]
    fn what_its_owner_no_longer_sets_goes_away() {
        // Proves that an upgrade removes fields and items of lists, and leaves what somebody else has added.
        let first = json!({ "data": { "a": "1", "b": "2" }, "metadata": { "labels": { "x": "y" } },
            "spec": { "volumes": [{ "name": "tls" }, { "name": "store" }], "args": ["serve"] } });
        let mut there =
            applied(&json!({ "metadata": { "name": "n" } }), &first, "helm", false).expect("it is new");
        let before = there.clone();
        there["data"]["c"] = json!("3");
        written(&before, &mut there, &by("kubectl-edit"));
        let second = json!({ "data": { "a": "1" }, "spec": { "volumes": [{ "name": "tls" }] } });
        let after = applied(&there, &second, "helm", false).expect("no conflict");
        assert_eq!(after["data"], json!({ "a": "1", "c": "3" }));
        assert_eq!(after["spec"], json!({ "volumes": [{ "name": "tls" }] }));
        assert_eq!(after["metadata"]["labels"], Value::Null);
    }

    #[test]
    fn what_another_has_set_is_not_overwritten_unasked() {
        // Proves that a conflict names manager and field, that force takes over, and that the same value is shared.
        let there = applied(&json!({ "metadata": {} }), &json!({ "data": { "a": "1" } }), "helm", false);
        let there = there.expect("it is new");
        let other = json!({ "data": { "a": "2" } });
        let refused = applied(&there, &other, "kubectl", false).expect_err("a conflict");
        assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"helm\" using v1: .data.a");
        let taken = applied(&there, &other, "kubectl", true).expect("by force");
        assert_eq!(taken["data"]["a"], "2");
        assert!(applied(&taken, &json!({ "data": { "a": "1" } }), "helm", false).is_err());
        let shared =
            applied(&there, &json!({ "data": { "a": "1" } }), "kubectl", false).expect("the same value");
        let left = applied(&shared, &json!({}), "helm", false).expect("no conflict");
        assert_eq!(left["data"]["a"], "1", "it is still kubectl's");
    }
}
