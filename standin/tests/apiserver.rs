//! The stand-in API server keeps its promises: real tokens only, RBAC's decisions and words, objects with revisions.

#[path = "apiserver/apply.rs"]
mod apply;
#[path = "support/client.rs"]
mod client;
#[path = "support/signer.rs"]
mod signer;
#[path = "apiserver/streams.rs"]
mod streams;

use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use standin::apiserver::{Fault, Rule, Subject};

use crate::client::{Fixture, Reply};

type Outcome = anyhow::Result<()>;

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const MAPS: &str = "/api/v1/namespaces/team-a/configmaps";

fn config_map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

#[tokio::test]
async fn anything_but_one_valid_token_is_answered_401_in_the_real_bytes() -> Outcome {
    let fixture = Fixture::start().await?;
    let now = fixture.time.unix();
    let stranger = signer::Signer::new(fixture.time.clone())?;
    let bearer = |token: String| vec![format!("Bearer {token}")];
    let good = fixture.signer.token("alice", json!({}));
    for presented in [
        vec![],
        vec!["Basic YTpi".to_owned()],
        bearer("not.a.token".to_owned()),
        bearer(stranger.token("alice", json!({}))),
        bearer(fixture.signer.token("alice", json!({ "exp": now }))),
        bearer(fixture.signer.token("alice", json!({ "nbf": now + 3600 }))),
        bearer(fixture.signer.token("alice", json!({ "aud": "another" }))),
        bearer(fixture.signer.token("alice", json!({ "iss": "https://elsewhere.example.com/" }))),
        vec![format!("Bearer {good}"), format!("Bearer {good}")],
    ] {
        let mut head = http::Request::builder().uri(PODS).header("user-agent", "curl/8");
        for value in &presented {
            head = head.header(AUTHORIZATION, value);
        }
        let reply = fixture.send(head, "").await?;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{presented:?}");
        assert_eq!(reply.headers.get("content-length").map(|own| own.as_bytes()), Some(&b"157"[..]));
        assert_eq!(reply.body.len(), 157, "as recorded from the real server");
        for name in ["audit-id", "cache-control", "date"] {
            assert!(reply.headers.contains_key(name), "{name}");
        }
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
    assert!(fixture.server.requests().iter().all(|request| request.user.is_none()));
    assert_eq!(fixture.get("alice", PODS).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn the_user_is_the_upn_else_the_oid_with_groups_and_extra() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({ "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1" });
    let reply = fixture.write("alice", "POST", path, "application/json", &review).await?;
    assert_eq!(reply.status, StatusCode::CREATED);
    let info = json!({ "username": "alice@example.com", "groups": ["group-1", "system:authenticated"],
                       "extra": { "oid": ["oid-of-alice"] } });
    assert_eq!(reply.json()?["status"]["userInfo"], info);

    let guest = fixture.signer.token("guest", json!({ "upn": null }));
    let head = http::Request::builder().method("POST").uri(path);
    let head = head.header(AUTHORIZATION, format!("Bearer {guest}"));
    let reply = fixture.send(head, review.to_string()).await?;
    assert_eq!(reply.json()?["status"]["userInfo"]["username"], "oid-of-guest");
    Ok(())
}

#[tokio::test]
async fn rbac_decides_and_refuses_in_the_real_words() -> Outcome {
    let fixture = Fixture::start().await?;
    let reply = fixture.get("bob", PODS).await?;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    assert_eq!(
        reply.json()?,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "pods is forbidden: User \"bob@example.com\" cannot list resource \"pods\" in API group \
                        \"\" in the namespace \"team-a\"",
            "reason": "Forbidden", "details": { "kind": "pods" }, "code": 403 })
    );
    let reply = fixture.get("alice", "/api/v1/nodes").await?;
    assert!(reply.message().ends_with("in API group \"\" at the cluster scope"), "{}", reply.message());
    let reply = fixture.get("alice", "/metrics").await?;
    assert_eq!(reply.message(), "forbidden: User \"alice@example.com\" cannot get path \"/metrics\"");

    let group = Subject::Group("group-1".to_owned());
    fixture.server.add_rule(Rule::new(&group, &["team-a"], &["list"], &[""], &["pods"]));
    assert_eq!(fixture.get("bob", PODS).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn impersonation_needs_the_right_to_each_name() -> Outcome {
    let fixture = Fixture::start().await?;
    let as_carol =
        |user: &str| fixture.ask(user, "GET", PODS).header("impersonate-user", "carol@example.com");
    assert_eq!(fixture.send(as_carol("alice"), "").await?.status, StatusCode::OK);
    let last = fixture.server.requests().pop();
    let last = last.map(|request| (request.user, request.acted_as));
    assert_eq!(last, Some((Some("alice@example.com".into()), Some("carol@example.com".into()))));

    let reply = fixture.send(as_carol("bob"), "").await?;
    assert_eq!(
        reply.message(),
        "users \"carol@example.com\" is forbidden: User \"bob@example.com\" cannot impersonate resource \
         \"users\" in API group \"\" at the cluster scope"
    );
    let with_group = as_carol("alice").header("impersonate-group", "system:masters");
    let reply = fixture.send(with_group, "").await?;
    assert!(reply.message().starts_with("groups \"system:masters\" is forbidden"), "{}", reply.message());
    let with_extra = as_carol("alice").header("impersonate-extra-oid", "x");
    let reply = fixture.send(with_extra, "").await?;
    assert!(reply.message().contains("\"userextras/oid\" in API group \"authentication.k8s.io\""));
    let alone = fixture.ask("alice", "GET", PODS).header("impersonate-group", "view-only");
    assert_eq!(fixture.send(alone, "").await?.status, StatusCode::INTERNAL_SERVER_ERROR);
    Ok(())
}

#[tokio::test]
async fn discovery_is_served_aggregated_with_an_etag_and_in_the_old_forms() -> Outcome {
    let fixture = Fixture::start().await?;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let ask = || fixture.ask("bob", "GET", "/api?timeout=32s").header(ACCEPT, accept);
    let reply = fixture.send(ask(), "").await?;
    assert_eq!(reply.json()?["items"][0]["versions"][0]["resources"][0]["resource"], "configmaps");
    let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    assert_eq!(reply.headers[CONTENT_TYPE], media_type);
    let known = fixture.send(ask().header(IF_NONE_MATCH, &reply.headers[ETAG]), "").await?;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));

    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/api/v1", "APIResourceList"),
        ("/apis/authorization.k8s.io", "APIGroup"),
        ("/apis/authorization.k8s.io/v1", "APIResourceList"),
        ("/apis/authentication.k8s.io/v1", "APIResourceList"),
    ] {
        assert_eq!(fixture.get("bob", path).await?.json()?["kind"], kind, "{path}");
    }
    assert_eq!(fixture.get("bob", "/apis/none/v1").await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete_and_stale_writes_conflict() -> Outcome {
    let fixture = Fixture::start().await?;
    let send = async |method: &str, path: &str, media_type: &str, body: &Value| -> anyhow::Result<Reply> {
        fixture.write("alice", method, path, media_type, body).await
    };
    let (plain, one) = ("application/json", format!("{MAPS}/one"));
    let created = send("POST", MAPS, plain, &config_map("one", &json!({ "a": "1" }))).await?;
    assert_eq!(created.status, StatusCode::CREATED);
    let again = send("POST", MAPS, plain, &config_map("one", &json!({}))).await?;
    assert_eq!(
        (again.status, again.message().as_str()),
        (StatusCode::CONFLICT, "configmaps \"one\" already exists")
    );

    let mut object = created.json()?;
    object["data"]["a"] = json!("2");
    assert_eq!(send("PUT", &one, plain, &object).await?.status, StatusCode::OK);
    let stale = send("PUT", &one, plain, &object).await?;
    assert_eq!((stale.status, stale.json()?["reason"].as_str()), (StatusCode::CONFLICT, Some("Conflict")));

    let merge = json!({ "data": { "b": "3" } });
    let merged = send("PATCH", &one, "application/merge-patch+json", &merge).await?;
    assert_eq!(merged.json()?["data"], json!({ "a": "2", "b": "3" }));
    let strange = send("PATCH", &one, "text/plain", &merge).await?;
    assert_eq!(strange.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);

    let dry = send("DELETE", &format!("{one}?dryRun=All"), plain, &json!({})).await?;
    assert_eq!(dry.status, StatusCode::OK);
    let deleted = send("DELETE", &one, plain, &json!({})).await?;
    assert_eq!(deleted.json()?["status"], "Success");
    let gone = fixture.get("alice", &one).await?;
    assert_eq!(
        (gone.status, gone.message().as_str()),
        (StatusCode::NOT_FOUND, "configmaps \"one\" not found")
    );
    Ok(())
}

#[tokio::test]
async fn strict_validation_names_the_unknown_field() -> Outcome {
    let fixture = Fixture::start().await?;
    let mut object = config_map("typo", &json!({}));
    object["datta"] = json!({});
    let path = format!("{MAPS}?fieldValidation=Strict");
    let reply = fixture.write("alice", "POST", &path, "application/json", &object).await?;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(
        reply.message().ends_with("strict decoding error: unknown field \"datta\""),
        "{}",
        reply.message()
    );
    Ok(())
}

#[tokio::test]
async fn lists_are_paged_selected_and_printed() -> Outcome {
    let fixture = Fixture::start().await?;
    for name in ["a", "b", "c"] {
        fixture.server.put_pod("team-a", name);
    }
    let first = fixture.get("alice", &format!("{PODS}?limit=3")).await?.json()?;
    assert_eq!(first["kind"], "PodList");
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let next = first["metadata"]["continue"].as_str().unwrap_or_default();
    let rest = fixture.get("alice", &format!("{PODS}?limit=3&continue={next}")).await?.json()?;
    assert_eq!(rest["items"][0]["metadata"]["name"], "web");
    assert!(rest["metadata"].get("continue").is_none());
    let selected = fixture.get("alice", &format!("{PODS}?labelSelector=app%3Db")).await?.json()?;
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));

    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let head = fixture.ask("alice", "GET", &format!("{PODS}?fieldSelector=metadata.name%3Dweb"));
    let table = fixture.send(head.header(ACCEPT, accept), "").await?.json()?;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let cells = table["rows"][0]["cells"].as_array().cloned().unwrap_or_default();
    assert!(cells.starts_with(&[json!("web"), json!("1/1"), json!("Running")]), "{cells:?}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    Ok(())
}

#[tokio::test]
async fn reviews_say_what_rbac_would_decide() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (user, verb, allowed) in [("alice", "delete", true), ("bob", "delete", false)] {
        let review = json!({ "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": { "resourceAttributes": { "namespace": "team-a", "verb": verb, "resource": "pods" } } });
        let reply = fixture.write(user, "POST", path, "application/json", &review).await?;
        assert_eq!(reply.json()?["status"]["allowed"], allowed, "{user} {verb}");
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_shows_its_page_through_the_proxy_path() -> Outcome {
    let fixture = Fixture::start().await?;
    let reply = fixture.get("alice", &format!("{PODS}/web/proxy/some/page")).await?;
    assert_eq!(
        (reply.status, &reply.headers[CONTENT_TYPE]),
        (StatusCode::OK, &"text/html; charset=utf-8".parse()?)
    );
    assert_eq!(fixture.get("bob", &format!("{PODS}/web/proxy/")).await?.status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() -> Outcome {
    let fixture = Fixture::start().await?;
    let target = format!("{PODS}?labelSelector=a%20in%20(b)&x=%2F..%2f");
    let head = fixture.ask("alice", "GET", &target).header("x-two", "1").header("x-two", "2");
    fixture.send(head.header("audit-id", "mine"), "").await?;
    let all = fixture.server.requests();
    let [request] = all.as_slice() else { anyhow::bail!("one request, not {}", all.len()) };
    assert_eq!(request.target, target);
    assert_eq!(request.header_values("x-two"), ["1", "2"]);
    assert_eq!(request.version, http::Version::HTTP_11);
    assert_eq!((request.user.as_deref(), request.status), (Some("alice@example.com"), Some(400)));
    assert!(request.remote.ip().is_loopback());
    fixture.server.assert_only_users(&["alice@example.com"]);
    Ok(())
}

#[tokio::test]
async fn older_tokens_can_be_refused_from_a_moment_on() -> Outcome {
    let fixture = Fixture::start().await?;
    let old = fixture.signer.token("alice", json!({}));
    fixture.time.advance(std::time::Duration::from_secs(60));
    fixture.server.refuse_tokens_issued_before(Some(fixture.time.now()));
    let with_old = http::Request::builder().uri(PODS).header(AUTHORIZATION, format!("Bearer {old}"));
    assert_eq!(fixture.send(with_old, "").await?.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.get("alice", PODS).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_its_memory() -> Outcome {
    let fixture = Fixture::start().await?;
    let port = fixture.server.addr();
    fixture.server.put_pod("team-a", "kept");
    fixture.server.kill().await;
    assert!(fixture.get("alice", PODS).await.is_err());
    fixture.server.restart().await?;
    assert_eq!(fixture.server.addr(), port);
    assert_eq!(fixture.get("alice", &format!("{PODS}/kept")).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn scripted_faults_strike_by_path_and_end_when_told() -> Outcome {
    let fixture = Fixture::start().await?;
    let server = &fixture.server;
    server.fault_times(PODS, 1, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE, "down".to_owned()));
    let reply = fixture.get("alice", PODS).await?;
    assert_eq!((reply.status, reply.body.as_ref()), (StatusCode::SERVICE_UNAVAILABLE, &b"down"[..]));
    assert_eq!(fixture.get("alice", PODS).await?.status, StatusCode::OK);

    server.fault_times(PODS, 1, Fault::NoAnswer);
    assert!(fixture.get("alice", PODS).await.is_err());
    server.fault_times(PODS, 1, Fault::Garbage("this is not HTTP\r\n\r\n".to_owned()));
    assert!(fixture.get("alice", PODS).await.is_err());
    server.fault_times(PODS, 1, Fault::ResetBody(10));
    let response = fixture.open(fixture.ask("alice", "GET", PODS), "").await?;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());

    let name = http::HeaderName::from_static("x-extra");
    server.fault(PODS, Fault::Header(name.clone(), http::HeaderValue::from_static("yes")));
    server.fault(PODS, Fault::SlowBody(100, std::time::Duration::ZERO));
    let reply = fixture.get("alice", PODS).await?;
    assert_eq!((&reply.headers[&name], &reply.json()?["kind"]), (&"yes".parse()?, &json!("PodList")));
    server.clear_faults();
    assert!(!fixture.get("alice", PODS).await?.headers.contains_key(&name));
    Ok(())
}
