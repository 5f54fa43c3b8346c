//! What a Kubernetes request's head says: verb, resource and name as the API server itself will read them, and how long
//! its answer may take.
//!
//! Source: `NewRequestInfo` of k8s.io/apiserver, package `endpoints/request`.

use std::borrow::Cow;
use std::ops::Range;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::reading::{Segments, clean, cut, decode, has_one_reading};
use crate::http::headers::is_upgrade;

/// What a Kubernetes request's head says.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// How long its answer may take and live.
    pub(crate) shape: Shape,
    /// A path that a pod or node answers instead of the API server: `…/proxy/…`.
    pub(crate) pod_answers: bool,
    /// The path means the same to every reader: nothing encoded or doubled that changes its segments.
    pub(crate) one_reading: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection` or `proxy`; for a path that
    /// names no resource, the method in lower case.
    pub(crate) verb: &'static str,
    text: Text,
    named: Named,
}

/// The four ways to treat an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Ends by itself.
    Plain,
    /// A watch: its end is an everyday event for the client.
    Watch,
    /// Logs and whatever a pod streams: its end must look like a break. Logs that are not followed, too: they may be long,
    /// and a person may read them page by page. The API server itself sets them no limit in time.
    Follow,
    /// Leaves HTTP: exec, attach, port-forward.
    Upgrade,
}

/// The decoded path, into which [`Named`] points. Most paths are their own decoded form and need no copy.
#[derive(Clone, Debug)]
enum Text {
    AsSent(PathAndQuery),
    Decoded(Box<str>),
}

/// Where in the decoded path each part of it stands; all empty when the path names no resource.
#[derive(Clone, Debug, Default)]
struct Named {
    group: Range<usize>,
    version: Range<usize>,
    namespace: Range<usize>,
    resource: Range<usize>,
    subresource: Range<usize>,
    name: Range<usize>,
    /// The one name that a list's or watch's field selector asks for.
    selected: Option<Box<str>>,
}

/// A path as `NewRequestInfo` takes it apart. Every part may be empty.
#[derive(Default)]
struct Info<'a> {
    is_resource: bool,
    verb: &'static str,
    group: &'a str,
    version: &'a str,
    namespace: &'a str,
    resource: &'a str,
    subresource: &'a str,
    name: &'a str,
}

impl Facts {
    /// Reads a request's head.
    #[must_use]
    pub(crate) fn of(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let decoded = decode(path);
        let one_reading = has_one_reading(path, &decoded);
        let info = Info::of(&cut(&decoded), &parts.method);
        // A stricter reader may find a pod's path where the API server finds none: guards must not miss it.
        let other = (!one_reading).then(|| Info::of(&clean(&decoded), &parts.method));
        let either = |holds: fn(&Info<'_>) -> bool| holds(&info) || other.as_ref().is_some_and(holds);
        let pod_answers = either(|info| info.verb == "proxy" || info.subresource == "proxy");
        // Anywhere else the API server takes no notice of the parameter.
        let asks_to_watch = matches!(parts.method, Method::GET | Method::HEAD)
            && either(|info| info.is_resource && info.name.is_empty())
            && asks(&parts.uri, "watch");
        // Profiles take as long as they are asked to; the API server sets them no limit in time either.
        let profiles = decoded.starts_with("/debug/pprof/");
        let shape = if is_upgrade(parts.version, &parts.headers) {
            Shape::Upgrade
        } else if asks_to_watch || either(|info| info.verb == "watch") {
            Shape::Watch
        } else if pod_answers || profiles || either(|info| info.subresource == "log") {
            Shape::Follow
        } else {
            Shape::Plain
        };
        let mut named = info.ranges(&decoded);
        let mut verb = info.verb;
        if info.is_resource && info.name.is_empty() {
            match verb {
                "get" => verb = if asks_to_watch { "watch" } else { "list" },
                "delete" => verb = "deletecollection",
                _ => {}
            }
            if matches!(info.verb, "get") {
                named.selected = selected_name(&parts.uri);
            }
        }
        let text = match (decoded, parts.uri.path_and_query()) {
            (Cow::Borrowed(_), Some(target)) => Text::AsSent(target.clone()),
            (decoded, _) => Text::Decoded(decoded.into()),
        };
        Self { shape, pod_answers, one_reading, verb, text, named }
    }

    /// The API group; empty for the core group and for paths that name no resource.
    #[must_use]
    pub(crate) fn group(&self) -> &str {
        self.part(&self.named.group)
    }

    /// The version of the API group; empty for paths that name no resource.
    #[must_use]
    pub(crate) fn version(&self) -> &str {
        self.part(&self.named.version)
    }

    /// The namespace; empty where none is named.
    #[must_use]
    pub(crate) fn namespace(&self) -> &str {
        self.part(&self.named.namespace)
    }

    /// The resource in the plural, e.g. `pods`; empty for a path that names none, e.g. `/version`.
    #[must_use]
    pub(crate) fn resource(&self) -> &str {
        self.part(&self.named.resource)
    }

    /// `log`, `exec`, `status` and the like; empty where none is named.
    #[must_use]
    pub(crate) fn subresource(&self) -> &str {
        self.part(&self.named.subresource)
    }

    /// The object's name: from the path, or the one that a field selector asks for; empty where none is named.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.named.selected.as_deref().unwrap_or_else(|| self.part(&self.named.name))
    }

    /// A watch, or a tunnel of exec, attach or port-forward: what is bounded by how many are open, and not by how often
    /// they are asked for.
    #[must_use]
    pub(crate) fn is_counted_as_stream(&self) -> bool {
        let is_tunnel = || matches!(self.subresource(), "exec" | "attach" | "portforward");
        match self.shape {
            Shape::Watch => self.verb == "watch",
            Shape::Upgrade => is_tunnel(),
            Shape::Plain | Shape::Follow => false,
        }
    }

    fn part(&self, range: &Range<usize>) -> &str {
        let text = match &self.text {
            Text::AsSent(target) => target.path(),
            Text::Decoded(text) => text,
        };
        text.get(range.clone()).unwrap_or_default()
    }
}

impl<'a> Info<'a> {
    fn of(segments: &Segments<'a>, method: &Method) -> Self {
        let segments = segments.as_slice();
        let mut info = Self { verb: method_name(method), ..Self::default() };
        // `/api/{version}/{resource}…` and `/apis/{group}/{version}/{resource}…`; anything shorter names no resource.
        let rest = match segments {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = version;
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                (info.group, info.version) = (group, version);
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = of_resource(method);
        let rest = match rest {
            // Old forms put the verb before the resource: `/api/v1/watch/pods`.
            ["watch", rest @ ..] => {
                info.verb = "watch";
                rest
            }
            ["proxy", rest @ ..] => {
                info.verb = "proxy";
                rest
            }
            rest => rest,
        };
        let rest = match rest {
            // Subresources of the namespace itself.
            ["namespaces", namespace, "status" | "finalize", ..] => {
                info.namespace = namespace;
                rest
            }
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                info.namespace = namespace;
                rest
            }
            ["namespaces", namespace] => {
                info.namespace = namespace;
                rest
            }
            rest => rest,
        };
        info.resource = rest.first().copied().unwrap_or_default();
        info.name = rest.get(1).copied().unwrap_or_default();
        // What follows a name in the old proxy form is the pod's own path.
        if info.verb != "proxy" {
            info.subresource = rest.get(2).copied().unwrap_or_default();
        }
        info
    }

    /// Where its parts stand in `text`, of which they are slices.
    fn ranges(&self, text: &str) -> Named {
        let range = |part: &str| {
            let start = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
            if part.is_empty() { 0..0 } else { start..start + part.len() }
        };
        Named {
            group: range(self.group),
            version: range(self.version),
            namespace: range(self.namespace),
            resource: range(self.resource),
            subresource: range(self.subresource),
            name: range(self.name),
            selected: None,
        }
    }
}

fn of_resource(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The method in lower case; `other` for an unusual one.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

/// The first value of a query parameter, decoded.
fn parameter<'q>(uri: &'q Uri, name: &str) -> Option<Cow<'q, str>> {
    let query = uri.query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Whether a boolean query parameter is set, as the API server reads it: anything but `false` and `0`.
fn asks(uri: &Uri, name: &str) -> bool {
    parameter(uri, name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
}

/// The name that `fieldSelector=metadata.name=…` asks for. A selector with a term that is not valid selects none.
fn selected_name(uri: &Uri) -> Option<Box<str>> {
    let selector = parameter(uri, "fieldSelector")?;
    let mut selected = None;
    for term in selector.split(',').filter(|term| !term.is_empty()) {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        if field == "metadata.name"
            && !value.contains(['/', '%', '\\', '='])
            && !matches!(value, "" | "." | "..")
        {
            selected = Some(value.into());
        }
    }
    selected
}

#[cfg(test)]
mod tests;
