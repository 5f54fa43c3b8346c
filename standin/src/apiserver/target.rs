//! What a request is about: its path and method read as the real server reads them. Pure.

use http::Method;
use percent_encoding::percent_decode_str;

use super::discovery::Resource;
use super::query::Query;

/// Path and method in the API's terms. `resource` is empty for paths outside `/api` and `/apis`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
}

impl Target {
    /// Reads the path (percent-decoded, as the real server does) and the method.
    pub(crate) fn read(method: &Method, raw_path: &str, query: &Query) -> Self {
        let path = percent_decode_str(raw_path).decode_utf8_lossy().into_owned();
        let verb = method.as_str().to_lowercase();
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut target = Self { path, verb, ..Self::default() };
        let rest = match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                target.version = (*version).to_owned();
                &parts[2..]
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                target.group = (*group).to_owned();
                target.version = (*version).to_owned();
                &parts[3..]
            }
            _ => return target,
        };
        target.read_resource(rest);
        target.read_verb(method, query);
        target
    }

    fn read_resource(&mut self, rest: &[String]) {
        let mut rest = rest;
        if let [first, namespace, below @ ..] = rest
            && first == "namespaces"
        {
            self.namespace.clone_from(namespace);
            // `/namespaces/x` is about the namespace; below it, `/namespaces/x/pods` is about what lives there.
            let own = matches!(below.first().map(String::as_str), None | Some("status" | "finalize"));
            if !own {
                rest = below;
            }
        }
        let mut parts = rest.iter().cloned();
        self.resource = parts.next().unwrap_or_default();
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
    }

    fn read_verb(&mut self, method: &Method, query: &Query) {
        let one = !self.name.is_empty();
        let verb = match method.as_str() {
            "GET" | "HEAD" if one => "get",
            "GET" | "HEAD" if query.flag("watch") => "watch",
            "GET" | "HEAD" => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if one => "delete",
            "DELETE" => "deletecollection",
            _ => return,
        };
        verb.clone_into(&mut self.verb);
        if matches!(verb, "list" | "watch" | "deletecollection")
            && let Some(name) =
                query.get("fieldSelector").and_then(|text| text.strip_prefix("metadata.name="))
        {
            // A list of exactly one name is authorized as that name.
            name.clone_into(&mut self.name);
        }
    }

    pub(crate) fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// Where the resource's objects live: nowhere in particular for cluster-wide ones.
    pub(crate) fn namespace_of(&self, resource: &Resource) -> String {
        if resource.is_namespaced { self.namespace.clone() } else { String::new() }
    }

    /// `pods`, `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.group, &self.resource)
    }

    /// `pods`, `pods/log`.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

pub(crate) fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &str, query: &str) -> Target {
        Target::read(&method, path, &Query::parse(Some(query)))
    }

    #[test]
    fn a_path_is_read_as_the_real_server_reads_it() {
        let log = read(Method::GET, "/api/v1/namespaces/team-a/pods/web/log", "");
        assert_eq!((log.verb.as_str(), log.full_resource().as_str()), ("get", "pods/log"));
        assert_eq!((log.namespace.as_str(), log.name.as_str()), ("team-a", "web"));

        let watch = read(Method::GET, "/api/v1/pods", "watch=1");
        assert_eq!((watch.verb.as_str(), watch.namespace.as_str()), ("watch", ""));

        let namespace = read(Method::GET, "/api/v1/namespaces/team-a", "");
        assert_eq!((namespace.verb.as_str(), namespace.resource.as_str()), ("get", "namespaces"));
        assert_eq!((namespace.namespace.as_str(), namespace.name.as_str()), ("team-a", "team-a"));

        let named = read(Method::GET, "/api/v1/namespaces/a/pods", "fieldSelector=metadata.name%3Dweb");
        assert_eq!((named.verb.as_str(), named.name.as_str()), ("list", "web"));

        let group = read(Method::POST, "/apis/apps/v1/namespaces/a/deployments", "");
        assert_eq!((group.verb.as_str(), group.qualified().as_str()), ("create", "deployments.apps"));

        assert!(!read(Method::GET, "/api/v1", "").is_resource());
        assert!(!read(Method::GET, "/apis/apps/v1", "").is_resource());
        assert_eq!(read(Method::GET, "/api/v1/%6eodes", "").resource, "nodes");
    }
}
