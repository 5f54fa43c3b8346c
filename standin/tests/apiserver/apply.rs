//! Server-side apply, and the kinds that an installation is made of.

use http::StatusCode;
use serde_json::{Value, json};

use crate::client::{Fixture, Reply};
use crate::{MAPS, Outcome, config_map};

async fn apply(fixture: &Fixture, query: &str, data: &Value) -> anyhow::Result<Reply> {
    let path = format!("{MAPS}/one?{query}");
    fixture.write("alice", "PATCH", &path, "application/apply-patch+yaml", &config_map("one", data)).await
}

#[tokio::test]
async fn apply_creates_merges_and_removes_what_its_manager_no_longer_sets() -> Outcome {
    // Proves that two managers share an object, that each removes only its own, and that a conflict needs force.
    let fixture = Fixture::start().await?;
    let data = || fixture.server.get("configmaps", "team-a", "one").unwrap_or_default()["data"].clone();
    let created = apply(&fixture, "fieldManager=helm", &json!({ "a": "1", "b": "2" })).await?;
    assert_eq!(created.status, StatusCode::CREATED);
    let merged = apply(&fixture, "fieldManager=kubectl", &json!({ "c": "3" })).await?;
    assert_eq!((merged.status, data()), (StatusCode::OK, json!({ "a": "1", "b": "2", "c": "3" })));
    apply(&fixture, "fieldManager=helm", &json!({ "a": "1" })).await?;
    assert_eq!(data(), json!({ "a": "1", "c": "3" }));

    let conflict = apply(&fixture, "fieldManager=helm", &json!({ "a": "1", "c": "4" })).await?;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    assert_eq!(
        conflict.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .data.c"
    );
    apply(&fixture, "fieldManager=helm&force=true", &json!({ "a": "1", "c": "4" })).await?;
    assert_eq!(data(), json!({ "a": "1", "c": "4" }));
    Ok(())
}

#[tokio::test]
async fn what_the_real_server_refuses_is_refused() -> Outcome {
    // Proves that an apply without a manager, an invalid name, an unknown field and an unknown kind are told apart.
    let fixture = Fixture::start().await?;
    let nobody = apply(&fixture, "", &json!({})).await?;
    assert_eq!(nobody.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(nobody.message().contains("fieldManager: Required value"), "{}", nobody.message());

    let named = |name: &str| config_map(name, &json!({}));
    for name in ["Upper", "a_b", "-a", "a-", "a..b"] {
        let reply = fixture.write("alice", "POST", MAPS, "application/json", &named(name)).await?;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(
            reply.message().contains("a lowercase RFC 1123 subdomain must consist"),
            "{}",
            reply.message()
        );
    }
    let reply = fixture.write("alice", "POST", MAPS, "application/json", &named("a.b-1")).await?;
    assert_eq!(reply.status, StatusCode::CREATED);

    let path = "/apis/apps/v1/namespaces/team-a/deployments";
    let mut deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
                                 "spec": {}, "specc": {} });
    let strict = format!("{path}?fieldValidation=Strict");
    let reply = fixture.write("alice", "POST", &strict, "application/json", &deployment).await?;
    assert!(reply.message().contains("unknown field \"specc\""), "{}", reply.message());
    deployment["specc"] = Value::Null;
    let reply = fixture.write("alice", "POST", path, "application/json", &deployment).await?;
    assert_eq!(reply.status, StatusCode::CREATED);
    let unknown = fixture.get("alice", "/apis/apps/v1/namespaces/team-a/statefulsets").await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.message(), "the server could not find the requested resource");
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_rolled_out_at_once_and_its_changes_are_counted() -> Outcome {
    // Proves what `kubectl rollout status` and `helm --wait` look at, and that a status survives an update of the rest.
    let fixture = Fixture::start().await?;
    let path = "/apis/apps/v1/namespaces/team-a/deployments/d?fieldManager=test";
    let replicas = |count: u32| {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
                "spec": { "replicas": count } })
    };
    for (count, generation) in [(1, 1), (1, 1), (3, 2)] {
        let body = replicas(count);
        let reply = fixture.write("alice", "PATCH", path, "application/apply-patch+yaml", &body).await?;
        let object = reply.json()?;
        assert_eq!(object["metadata"]["generation"], generation);
        assert_eq!(object["status"]["observedGeneration"], generation);
        assert_eq!(object["status"]["availableReplicas"], count);
    }
    Ok(())
}
