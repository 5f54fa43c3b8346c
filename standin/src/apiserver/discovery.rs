//! What this server serves: the recorded discovery documents, cut down, and everything that follows from them.
//!
//! `discovery/*.json` are the one source: routing, tables, reviews and the older document forms are derived from it.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accept::accepted;
use super::call::{Answer, Call};
use super::kinds;
use super::status::Failure;
use crate::serve::full;

const CORE: &str = include_str!("discovery/api.json");
const GROUPS: &str = include_str!("discovery/apis.json");

const AS_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AS_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// One served resource. (Kind and scope decide how its objects look and where they live.)
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) is_namespaced: bool,
    entry: Entry,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    kind: String,
    api_version: String,
    metadata: Value,
    items: Vec<Group>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Group {
    metadata: Value,
    versions: Vec<Version>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Version {
    version: String,
    resources: Vec<Entry>,
    freshness: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    singular_resource: String,
    verbs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<Subresource>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct ResponseKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subresource {
    subresource: String,
    response_kind: ResponseKind,
    verbs: Vec<String>,
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let groups = [CORE, GROUPS].into_iter().flat_map(|text| parse(text).items);
    groups.flat_map(|group| group.resources()).collect()
});

impl Group {
    fn name(&self) -> &str {
        self.metadata["name"].as_str().unwrap_or_default()
    }

    fn resources(&self) -> Vec<Resource> {
        let group = self.name();
        let entries = self.versions.iter().flat_map(|version| {
            version.resources.iter().map(|entry| Resource {
                group: group.to_owned(),
                version: version.version.clone(),
                name: entry.resource.clone(),
                kind: entry.response_kind.kind.clone(),
                is_namespaced: entry.scope == "Namespaced",
                entry: entry.clone(),
            })
        });
        entries.collect()
    }
}

impl Resource {
    pub(crate) fn all() -> &'static [Self] {
        &RESOURCES
    }

    pub(crate) fn find(group: &str, version: &str, name: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|own| own.group == group && own.version == version && own.name == name)
    }

    /// The resource of an object's kind.
    pub(crate) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|own| own.api_version() == api_version && own.kind == kind)
    }

    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn has_subresource(&self, name: &str) -> bool {
        self.entry.subresources.iter().any(|own| own.subresource == name)
    }

    pub(crate) fn serves(&self, verb: &str) -> bool {
        self.entry.verbs.iter().any(|own| own == verb)
    }
}

fn parse(text: &str) -> Document {
    serde_json::from_str(text).expect("the discovery documents in the source are discovery documents")
}

fn with_kinds(count: usize) -> Document {
    let mut document = parse(GROUPS);
    if count > 0 {
        let group = serde_json::from_value(kinds::discovered(count));
        document.items.push(group.expect("it has a group's shape"));
    }
    document
}

/// Answers `/api…` and `/apis…` above the resources.
///
/// `kinds`: how many of [`kinds`] there are.
pub(crate) fn answer(call: &Call, kinds: usize) -> Answer {
    let path = call.target.path.trim_matches('/');
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api"] => document(call, parse(CORE), &core_versions()),
        ["apis"] => document(call, with_kinds(kinds), &group_list()),
        ["api", version] => resource_list(call, "", version),
        ["apis", group] => {
            let groups = parse(GROUPS).items;
            let found = groups.iter().find(|own| own.name() == *group).ok_or_else(Failure::no_such_path)?;
            let mut value = group_entry(found);
            value["kind"] = json!("APIGroup");
            value["apiVersion"] = json!("v1");
            call.ok(&value)
        }
        ["apis", group, version] => resource_list(call, group, version),
        _ => Err(Failure::no_such_path()),
    }
}

/// The aggregated document where it is accepted, else the old form. Both are cached by clients by their `ETag`.
fn document(call: &Call, document: Document, old: &Value) -> Answer {
    for wanted in accepted(call.headers()) {
        if wanted.is_json_as("APIGroupDiscoveryList", "v2") {
            return Ok(aggregated(call, &document, AS_V2));
        }
        if wanted.is_json_as("APIGroupDiscoveryList", "v2beta1") {
            let document = Document { api_version: "apidiscovery.k8s.io/v2beta1".into(), ..document };
            return Ok(aggregated(call, &document, AS_V2BETA1));
        }
        if wanted.is_plain_json() {
            break;
        }
    }
    call.ok(old)
}

fn aggregated(call: &Call, document: &Document, media_type: &'static str) -> Response<crate::serve::Body> {
    let digest = digest::digest(&digest::SHA512, &serde_json::to_vec(document).unwrap_or_default());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let etag = HeaderValue::from_str(&format!("\"{hex}\"")).expect("hexadecimal is a header value");
    let is_known = call.headers().get(IF_NONE_MATCH) == Some(&etag);
    let mut response = if is_known { Response::new(full("")) } else { call.json(StatusCode::OK, document) };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(ETAG, etag);
    response
}

fn core_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:443" }],
    })
}

fn group_list() -> Value {
    let groups: Vec<Value> = parse(GROUPS).items.iter().map(group_entry).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn group_entry(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|own| json!({ "groupVersion": format!("{}/{}", group.name(), own.version), "version": own.version }))
        .collect();
    json!({ "name": group.name(), "preferredVersion": versions.first(), "versions": versions })
}

fn resource_list(call: &Call, group: &str, version: &str) -> Answer {
    let own: Vec<&Resource> =
        Resource::all().iter().filter(|own| own.group == group && own.version == version).collect();
    let Some(first) = own.first() else { return Err(Failure::no_such_path()) };
    let entries: Vec<Value> = own.iter().flat_map(|resource| old_entries(resource)).collect();
    call.ok(&json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": entries,
    }))
}

fn old_entries(resource: &Resource) -> Vec<Value> {
    let entry = &resource.entry;
    let mut own = json!({
        "name": resource.name,
        "singularName": entry.singular_resource,
        "namespaced": resource.is_namespaced,
        "kind": resource.kind,
        "verbs": entry.verbs,
    });
    if !entry.short_names.is_empty() {
        own["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        own["categories"] = json!(entry.categories);
    }
    let below = entry.subresources.iter().map(|sub| {
        json!({
            "name": format!("{}/{}", resource.name, sub.subresource),
            "singularName": "",
            "namespaced": resource.is_namespaced,
            "kind": sub.response_kind.kind,
            "verbs": sub.verbs,
        })
    });
    std::iter::once(own).chain(below).collect()
}
