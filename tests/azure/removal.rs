//! What `--remove` takes back.

use serde_json::json;

use super::tenant::{AKS, Tenant, USER};
use super::{ALL, commands, remove, set_up};

#[test]
fn remove_leaves_nothing_of_its_own_and_everything_of_others() {
    // Proves that the tenant afterwards is as before, but for what cannot or should not be taken back.
    let tenant = Tenant::new();
    tenant.add_application("Someone else's", &[]);
    tenant.edit(|state| {
        state["redis"][0]["assignments"] = json!([{"name": "other", "user": {"objectId": USER}}])
    });
    let before = tenant.state().facts();
    set_up(&tenant, ALL);

    let planned = remove(&tenant, &["--redis", "cache", "--dry-run"]);
    let made = tenant.state();
    let ran = remove(&tenant, &["--redis", "cache"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(commands(&planned.stdout).collect::<Vec<_>>(), commands(&ran.stderr).collect::<Vec<_>>());
    assert!(made.mutations() + 2 == tenant.state().mutations() && ran.stdout.is_empty());

    let mut after = tenant.state().facts();
    // Microsoft's own application is the tenant's now; the cluster keeps its issuer.
    after["servicePrincipals"].as_array_mut().unwrap().retain(|principal| principal["appId"] != AKS);
    after["clusters"] = before["clusters"].clone();
    after["next_id"] = before["next_id"].clone();
    assert_eq!(after, before);

    let again = remove(&tenant, &["--redis", "cache"]);
    assert!(again.code == 0 && again.stderr.contains("Nothing to take back"), "{}", again.stderr);
}

#[test]
fn remove_takes_only_its_credential_from_an_application_that_must_stay() {
    // Proves that another cluster's Entrada, or an application of another making, survives.
    let tenant = Tenant::new();
    set_up(&tenant, &[]);
    set_up(&tenant, &["--namespace", "second"]);
    let ran = remove(&tenant, &["--namespace", "second"]);
    assert!(ran.code == 0 && ran.stderr.contains("1 more federated credentials use it"), "{}", ran.stderr);
    let state = tenant.state();
    let left = state["credentials"].as_object().unwrap().values().next().unwrap().as_array().unwrap();
    assert_eq!((left.len(), &left[0]["subject"]), (1, &json!("system:serviceaccount:entrada:entrada")));

    let tenant = Tenant::new();
    let foreign = tenant.add_application("theirs", &[]);
    set_up(&tenant, &["--client-id", &foreign]);
    let ran = remove(&tenant, &["--client-id", &foreign]);
    assert!(ran.code == 0 && ran.stderr.contains("did not make it"), "{}", ran.stderr);
    let state = tenant.state();
    assert_eq!(state["applications"].as_array().unwrap().len(), 1);
    assert!(state["credentials"].as_object().unwrap().values().all(|of| of == &json!([])));
}
