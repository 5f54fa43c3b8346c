//! Get, list, create, update, patch and delete of objects.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accept::View;
use super::call::{Answer, Call};
use super::cluster::Cluster;
use super::discovery::Resource;
use super::owners::Writer;
use super::patch::Patch;
use super::selector::Selector;
use super::status::{Failure, Status};
use super::store::{Key, Refused};
use super::{openapi, owners, table, watch};

/// A list as the real server orders its fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    kind: String,
    api_version: String,
    metadata: Value,
    items: Vec<Value>,
}

/// Where the next page begins.
#[derive(Deserialize, Serialize)]
struct Continue {
    rv: u64,
    namespace: String,
    name: String,
}

pub(crate) async fn answer(cluster: &Arc<Cluster>, call: &mut Call, resource: &'static Resource) -> Answer {
    if !resource.serves(&call.target.verb) {
        return Err(Failure::method_not_allowed());
    }
    match call.target.verb.as_str() {
        "get" => get(cluster, call, resource),
        "list" => list(cluster, call, resource),
        "watch" => watch::answer(cluster, call, resource),
        "create" => create(cluster, call, resource).await,
        "update" => update(cluster, call, resource).await,
        "patch" => patch(cluster, call, resource).await,
        "delete" => delete(cluster, call, resource),
        "deletecollection" => delete_all(cluster, call, resource),
        _ => Err(Failure::method_not_allowed()),
    }
}

fn get(cluster: &Cluster, call: &Call, resource: &Resource) -> Answer {
    let found = cluster.store.get(&own_key(call, resource));
    let object = found.ok_or_else(|| Failure::not_found(&call.target, &call.target.name))?;
    show(cluster, call, resource, StatusCode::OK, &object)
}

/// One object in the view that the caller asked for.
fn show(cluster: &Cluster, call: &Call, resource: &Resource, code: StatusCode, object: &Value) -> Answer {
    let shown = match View::asked(call.headers()) {
        View::Object => return Ok(call.json(code, object)),
        View::Table(version) => {
            let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
            let include = table::Include::asked(&call.query);
            let rows = std::slice::from_ref(object);
            table::table(resource, rows, meta, version, include, cluster.time.now())
        }
        View::Metadata(version) => table::partial(object, version),
    };
    Ok(call.json(code, &shown))
}

fn list(cluster: &Cluster, call: &Call, resource: &Resource) -> Answer {
    let selector = Selector::asked(&call.query)?;
    let (revision, all) = cluster.store.list(&resource.qualified(), &call.target.namespace_of(resource));
    let mut matching: Vec<(Key, Value)> =
        all.into_iter().filter(|(_, object)| selector.matches(object)).collect();
    let mut meta = json!({ "resourceVersion": revision.to_string() });
    if let Some(token) = call.query.get("continue") {
        let from = read_continue(token)?;
        cluster.store.events_after(from.rv).map_err(|oldest| Failure::expired(from.rv, oldest))?;
        meta["resourceVersion"] = json!(from.rv.to_string());
        matching.retain(|(key, _)| (&key.namespace, &key.name) > (&from.namespace, &from.name));
    }
    let limit = usize::try_from(call.query.number("limit").unwrap_or(0)).unwrap_or(0);
    if limit > 0
        && matching.len() > limit
        && let Some((last, _)) = matching.get(limit - 1)
    {
        let next = Continue { rv: revision, namespace: last.namespace.clone(), name: last.name.clone() };
        meta["continue"] = json!(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&next).unwrap_or_default()));
        meta["remainingItemCount"] = json!(matching.len() - limit);
        matching.truncate(limit);
    }
    let objects = matching.into_iter().map(|(_, object)| object).collect();
    show_list(cluster, call, resource, meta, objects)
}

fn show_list(
    cluster: &Cluster,
    call: &Call,
    resource: &Resource,
    meta: Value,
    objects: Vec<Value>,
) -> Answer {
    match View::asked(call.headers()) {
        View::Table(version) => {
            let include = table::Include::asked(&call.query);
            call.ok(&table::table(resource, &objects, meta, version, include, cluster.time.now()))
        }
        View::Metadata(version) => call.ok(&List {
            kind: "PartialObjectMetadataList".into(),
            api_version: version.into(),
            metadata: meta,
            items: objects.iter().map(|object| table::partial(object, version)).collect(),
        }),
        View::Object => {
            let strip = |mut object: Value| {
                // In a list, kind and version are said once.
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("kind");
                    fields.remove("apiVersion");
                }
                object
            };
            call.ok(&List {
                kind: format!("{}List", resource.kind),
                api_version: resource.api_version(),
                metadata: meta,
                items: objects.into_iter().map(strip).collect(),
            })
        }
    }
}

fn read_continue(token: &str) -> Result<Continue, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| Failure::bad_request("continue key is not valid"))
}

async fn create(cluster: &Cluster, call: &mut Call, resource: &Resource) -> Answer {
    let object = call.read_object().await?;
    let created = create_object(cluster, call, resource, object)?;
    show(cluster, call, resource, StatusCode::CREATED, &created)
}

fn create_object(
    cluster: &Cluster,
    call: &Call,
    resource: &Resource,
    mut object: Value,
) -> Result<Value, Failure> {
    let key = place(cluster, call, resource, &mut object)?;
    cluster.admit(resource, &mut object);
    if is_dry_run(call) {
        let exists = cluster.store.get(&key).is_some();
        return if exists { Err(Failure::already_exists(&call.target, &key.name)) } else { Ok(object) };
    }
    cluster.store.create(&key, object).map_err(|why| refused(call, &key.name, &why))
}

/// Checks kind, namespace and name of a new object, and says where it goes.
fn place(cluster: &Cluster, call: &Call, resource: &Resource, object: &mut Value) -> Result<Key, Failure> {
    if object["kind"] != resource.kind.as_str() {
        return Err(Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {})",
            resource.kind
        )));
    }
    openapi::check_fields(call, resource, object)?;
    let namespace = call.target.namespace_of(resource);
    if resource.is_namespaced {
        let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if !own.is_empty() && own != namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let home = Key { resource: "namespaces".into(), namespace: String::new(), name: namespace.clone() };
        if cluster.store.get(&home).is_none() {
            let target = super::target::Target { resource: "namespaces".into(), ..Default::default() };
            return Err(Failure::not_found(&target, &namespace));
        }
        object["metadata"]["namespace"] = json!(namespace);
    }
    if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        let Some(prefix) = object["metadata"]["generateName"].as_str() else {
            let problem = "Required value: name or generateName is required";
            return Err(Failure::invalid(&resource.kind, "", "metadata.name", problem));
        };
        object["metadata"]["name"] = json!(format!("{prefix}{}", &super::store::uid()[..5]));
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(problem) = wrong_name(name) {
        return Err(Failure::invalid(&resource.kind, name, "metadata.name", &problem));
    }
    Ok(resource.key(&namespace, name))
}

/// What is wrong with a name, in the real server's words. (It is stricter with names of some kinds.)
fn wrong_name(name: &str) -> Option<String> {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_alphanumeric)
            && label.ends_with(is_alphanumeric)
            && label.chars().all(|c| is_alphanumeric(c) || c == '-')
    };
    (name.len() > 253 || !name.split('.').all(is_label)).then(|| {
        format!(
            "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
             used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    })
}

async fn update(cluster: &Cluster, call: &mut Call, resource: &Resource) -> Answer {
    let mut object = call.read_object().await?;
    openapi::check_fields(call, resource, &object)?;
    let key = own_key(call, resource);
    if object["metadata"]["name"] != key.name.as_str() {
        return Err(Failure::bad_request("the name of the object does not match the name on the URL"));
    }
    let updated = change(cluster, call, &key, |before| {
        cluster.readmit(resource, before, &mut object);
        owners::written(before, &mut object, &writer(cluster, call, resource));
        Ok(object)
    })?;
    show(cluster, call, resource, StatusCode::OK, &updated)
}

async fn patch(cluster: &Cluster, call: &mut Call, resource: &Resource) -> Answer {
    let media_type = call.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_owned();
    let patch = Patch::read(&media_type, &call.read_body().await?)?;
    let key = own_key(call, resource);
    if let Patch::Apply(config) = &patch {
        return apply(cluster, call, resource, config);
    }
    let updated = change(cluster, call, &key, |before| {
        let mut object = patch.apply(before)?;
        openapi::check_fields(call, resource, &object)?;
        cluster.readmit(resource, before, &mut object);
        owners::written(before, &mut object, &writer(cluster, call, resource));
        Ok(object)
    })?;
    show(cluster, call, resource, StatusCode::OK, &updated)
}

/// Server-side apply: makes the object, or changes what this manager has set of it.
fn apply(cluster: &Cluster, call: &Call, resource: &Resource, config: &Value) -> Answer {
    if call.query.get("fieldManager").unwrap_or_default().is_empty() {
        let problem = "Required value: is required for apply patch";
        return Err(Failure::invalid("PatchOptions.meta.k8s.io", "", "fieldManager", problem));
    }
    openapi::check_fields(call, resource, config)?;
    let (by, key) = (writer(cluster, call, resource), own_key(call, resource));
    if cluster.store.get(&key).is_none() {
        let mut object = owners::apply(&json!({}), config, &by, false)?;
        object["metadata"]["name"] = json!(key.name);
        let created = create_object(cluster, call, resource, object)?;
        return show(cluster, call, resource, StatusCode::CREATED, &created);
    }
    let updated = change(cluster, call, &key, |before| {
        let mut object = owners::apply(before, config, &by, call.query.flag("force"))?;
        object["metadata"]["resourceVersion"] = config["metadata"]["resourceVersion"].clone();
        cluster.readmit(resource, before, &mut object);
        Ok(object)
    })?;
    show(cluster, call, resource, StatusCode::OK, &updated)
}

/// The field manager that the request names, else the program that it comes from.
fn writer<'a>(cluster: &Cluster, call: &'a Call, resource: &'a Resource) -> Writer<'a> {
    let agent = call.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let manager =
        call.query.get("fieldManager").unwrap_or_else(|| agent.split('/').next().unwrap_or_default());
    let time = cluster.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Writer { manager, api_version: resource.api_version(), time }
}

/// A failure inside of a change, or the store's refusal of it.
enum Unchanged {
    Failed(Failure),
    Refused(Refused),
}

impl From<Refused> for Unchanged {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

fn change(
    cluster: &Cluster,
    call: &Call,
    key: &Key,
    make: impl FnOnce(&Value) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let changed =
        cluster.store.update(key, is_dry_run(call), |before| make(before).map_err(Unchanged::Failed));
    changed.map_err(|why| match why {
        Unchanged::Failed(failure) => failure,
        Unchanged::Refused(why) => refused(call, &key.name, &why),
    })
}

fn delete(cluster: &Cluster, call: &Call, resource: &Resource) -> Answer {
    let key = own_key(call, resource);
    let last =
        if is_dry_run(call) { cluster.store.get(&key).ok_or(Refused::Missing) } else { cluster.delete(&key) };
    let mut last = last.map_err(|why| refused(call, &key.name, &why))?;
    if resource.kind == "Pod" || resource.kind == "Namespace" {
        // These end gracefully: the answer is the object on its way out.
        last["metadata"]["deletionTimestamp"] =
            json!(cluster.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        return call.ok(&last);
    }
    let uid = last["metadata"]["uid"].as_str().unwrap_or_default();
    call.ok(&Status::deleted(&resource.name, &key.name, uid))
}

fn delete_all(cluster: &Cluster, call: &Call, resource: &Resource) -> Answer {
    let selector = Selector::asked(&call.query)?;
    let (revision, all) = cluster.store.list(&resource.qualified(), &call.target.namespace_of(resource));
    let mut gone = Vec::new();
    for (key, object) in all.into_iter().filter(|(_, object)| selector.matches(object)) {
        if !is_dry_run(call) {
            cluster.delete(&key).map_err(|why| refused(call, &key.name, &why))?;
        }
        gone.push(object);
    }
    show_list(cluster, call, resource, json!({ "resourceVersion": revision.to_string() }), gone)
}

fn own_key(call: &Call, resource: &Resource) -> Key {
    resource.key(&call.target.namespace, &call.target.name)
}

fn is_dry_run(call: &Call) -> bool {
    call.query.get("dryRun") == Some("All")
}

fn refused(call: &Call, name: &str, why: &Refused) -> Failure {
    match why {
        Refused::Exists => Failure::already_exists(&call.target, name),
        Refused::Missing => Failure::not_found(&call.target, name),
        Refused::Stale => Failure::conflict(&call.target, name),
    }
}
