use http::Request;
use proptest::prelude::*;

use super::*;

fn read(method: &str, uri: &str) -> Facts {
    Facts::of(&Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0)
}

/// Verb, group, namespace, resource, subresource and name of requests, as the API server itself reads them.
#[test]
fn requests_are_read_as_the_api_server_reads_them() {
    for (method, uri, expected) in [
        ("GET", "/api/v1/namespaces", ["list", "", "", "namespaces", "", ""]),
        ("GET", "/api/v1/namespaces/a", ["get", "", "a", "namespaces", "", "a"]),
        ("GET", "/api/v1/namespaces/a/pods", ["list", "", "a", "pods", "", ""]),
        ("GET", "/api/v1/namespaces/a/pods/web", ["get", "", "a", "pods", "", "web"]),
        ("HEAD", "/api/v1/namespaces/a/pods/web", ["get", "", "a", "pods", "", "web"]),
        ("GET", "/api/v1/pods/", ["list", "", "", "pods", "", ""]),
        ("PATCH", "/api/v1/namespaces/a", ["patch", "", "a", "namespaces", "", "a"]),
        ("PUT", "/api/v1/namespaces/a/finalize", ["update", "", "a", "namespaces", "finalize", "a"]),
        ("PUT", "/api/v1/namespaces/a/status", ["update", "", "a", "namespaces", "status", "a"]),
        ("GET", "/api/v1/namespaces/a/pods/web/log", ["get", "", "a", "pods", "log", "web"]),
        ("GET", "/api/v1/namespaces/a/pods/web/proxy/x", ["get", "", "a", "pods", "proxy", "web"]),
        ("GET", "/api/v1/proxy/namespaces/a/pods/web/x/y", ["proxy", "", "a", "pods", "", "web"]),
        ("POST", "/api/v1/namespaces/a/pods", ["create", "", "a", "pods", "", ""]),
        ("DELETE", "/api/v1/nodes", ["deletecollection", "", "", "nodes", "", ""]),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments/d",
            ["delete", "apps", "a", "deployments", "", "d"],
        ),
        ("GET", "/apis/apps/v1/deployments?watch=1", ["watch", "apps", "", "deployments", "", ""]),
        ("GET", "/api/v1/watch/namespaces/a/pods", ["watch", "", "a", "pods", "", ""]),
        ("GET", "/api/v1/pods?watch=false", ["list", "", "", "pods", "", ""]),
        ("GET", "/apis/g/v1/r?fieldSelector=metadata.name%3Dx", ["list", "g", "", "r", "", "x"]),
        ("GET", "/apis/g/v1/r?watch=1&fieldSelector=metadata.name%3Dx", ["watch", "g", "", "r", "", "x"]),
        ("GET", "/apis/g/v1/r?fieldSelector=metadata.name%3Dx,foo", ["list", "g", "", "r", "", ""]),
        ("GET", "/apis/g/v1/r?fieldSelector=status.phase%3Dx", ["list", "g", "", "r", "", ""]),
        ("GET", "/api/v1/namespaces/a/pods/w%65b", ["get", "", "a", "pods", "", "web"]),
        // These name no resource.
        ("GET", "/", ["get", "", "", "", "", ""]),
        ("GET", "/version", ["get", "", "", "", "", ""]),
        ("POST", "/api/v1", ["post", "", "", "", "", ""]),
        ("GET", "/apis/apps/v1/", ["get", "", "", "", "", ""]),
        ("GET", "/badprefix/v1/pods", ["get", "", "", "", "", ""]),
        ("OPTIONS", "/api/v1/pods", ["", "", "", "pods", "", ""]),
    ] {
        let facts = read(method, uri);
        let told = [
            facts.verb,
            facts.group(),
            facts.namespace(),
            facts.resource(),
            facts.subresource(),
            facts.name(),
        ];
        assert_eq!(told, expected, "{method} {uri}");
    }
}

/// Streams are known by what the API server takes for one.
#[test]
fn streams_are_recognised() {
    let shape = |uri: &str| read("GET", uri).shape;
    assert_eq!(shape("/api/v1/pods?watch=true"), Shape::Watch);
    assert_eq!(shape("/api/v1/pods?limit=1&watch=1"), Shape::Watch);
    assert_eq!(shape("/api/v1/pods?watch"), Shape::Watch);
    assert_eq!(shape("/api/v1/pods?w%61tch=true"), Shape::Watch);
    assert_eq!(shape("/api/v1/pods?watch=FALSE"), Shape::Plain);
    assert_eq!(shape("/api/v1/watch/pods"), Shape::Watch);
    assert_eq!(shape("/api/v1/namespaces/a/pods/web/log?follow=true"), Shape::Follow);
    assert_eq!(shape("/api/v1/namespaces/a/pods/web/log"), Shape::Follow);
    assert_eq!(shape("/api/v1/namespaces/a/services/web/proxy/events"), Shape::Follow);
    let upgrade = Request::post("/api/v1/namespaces/a/pods/web/exec")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1");
    assert_eq!(Facts::of(&upgrade.body(()).unwrap().into_parts().0).shape, Shape::Upgrade);
}

/// A path that a pod answers is found by its place, not by a name, and through every disguise.
#[test]
fn paths_of_pods_are_found_through_disguises() {
    for path in [
        "/api/v1/namespaces/a/services/web/proxy",
        "/api/v1/namespaces/a/pods/web:8080/proxy/x/y",
        "/api/v1/nodes/n1/proxy/metrics",
        "/api/v1/proxy/namespaces/a/services/web",
        "/api/v1/namespaces/a/services/web/%70roxy/",
        "//api/v1/namespaces/a/services/web/proxy",
        "/api/v1/namespaces/a/services/web%2fproxy/",
        "/x/%2e%2e/api/v1/namespaces/a/services/web/./proxy",
        "/api/v1//namespaces/a/services/web/proxy",
    ] {
        assert!(read("GET", path).pod_answers, "{path}");
    }
    for path in ["/api/v1/namespaces/a/configmaps/proxy", "/api/v1/namespaces/proxy/pods/proxy/log", "/proxy"]
    {
        assert!(!read("GET", path).pod_answers, "{path}");
    }
}

/// Whatever two readers could cut differently has two readings.
#[test]
fn ambiguous_paths_have_two_readings() {
    for path in [
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/a%2fb",
        "/a%2f",
        "/%2fa",
        "/a/%2e%2e/b",
        "/a/%252e/b",
        "/a%5cb",
        "/a\\b",
        "//",
        "/a%zz",
    ] {
        assert!(!read("GET", path).one_reading, "{path}");
    }
    for path in
        ["/", "/api", "/api/", "/api/v1/namespaces/a/services/https:web:443/x", "/apis/x.y/v1/z/caf%C3%A9"]
    {
        assert!(read("GET", path).one_reading, "{path}");
    }
}

proptest! {
    /// Any path is read without panic; one without `%` and `.` and doubled slashes has one reading, and what was read
    /// stands in it.
    #[test]
    fn any_path_is_read(path in "/[!-~]{0,60}", plain in "(/[a-z0-9:-]{1,8}){1,12}") {
        if let Ok(request) = Request::builder().uri(path).body(()) {
            let _ = Facts::of(&request.into_parts().0).name().len();
        }
        let facts = read("GET", &plain);
        prop_assert!(facts.one_reading);
        prop_assert!(plain.contains(facts.resource()) && plain.contains(facts.name()));
        let api = format!("/api/v1{plain}");
        let facts = read("GET", &api);
        prop_assert!(!facts.resource().is_empty());
    }
}
