//! The script beside what could differ from it unseen: Terraform's files, and `az` beside the stand-in.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::tenant::{AKS, Ran, Tenant, USER};
use super::{URL, set_up};

#[test]
fn terraform_says_the_same_as_the_script() {
    // Proves that the two ways to the same set-up have not drifted apart, and that the HCL parses.
    let tenant = Tenant::new();
    set_up(&tenant, &[]);
    let state = tenant.state();
    let app = &state["applications"][0];
    let credential = &state["credentials"][app["id"].as_str().unwrap()][0];
    let grants = state["grants"].as_array().unwrap();
    let script = json!({
        "signInAudience": app["signInAudience"],
        "redirectUris": app["web"]["redirectUris"],
        "logoutUrl": app["web"]["logoutUrl"],
        "idTokenClaims": app["optionalClaims"]["idToken"].as_array().unwrap().iter().map(|it| &it["name"]).collect::<Vec<_>>(),
        "permissions": app["requiredResourceAccess"],
        "assignmentRequired": state.principal_of(&app["appId"])["appRoleAssignmentRequired"],
        "audiences": credential["audiences"],
        "subject": credential["subject"],
        "issuer": "the cluster's, verbatim",
        "consents": grants.iter().map(|it| it["scope"].as_str().unwrap().split(' ').collect()).collect::<Vec<Vec<_>>>(),
        "defaultRole": "00000000-0000-0000-0000-000000000000",
    });
    let python = "target/tools/hcl/bin/python";
    let read =
        Command::new(python).args(["tests/azure/terraform.py", "manifests/azure/terraform", URL]).output();
    let read = read.expect("python with python-hcl2: scripts/tools azure");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&read.stdout).unwrap(), script);
}

#[test]
fn the_documented_calls_of_the_script_work() {
    // Proves that each call in the documentation runs as it stands there, one after the other in the order of the page.
    let mut calls = 0;
    for page in ["docs/install.md", "docs/azure.md"] {
        let tenant = Tenant::new();
        tenant.edit(|state| {
            state["clusters"][0]["resourceGroup"] = json!("my-group");
            let redis = json!({"name": "my-redis", "resourceGroup": "my-group", "assignments": []});
            state["redis"] = json!([redis]);
        });
        let text = fs::read_to_string(page).unwrap();
        let blocks = text.split("```sh azure\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for block in blocks.filter(|block| block.starts_with("manifests/azure/setup.sh")) {
            let ran = tenant.shell(block);
            assert_eq!(ran.code, 0, "{page}: {block}{}", ran.stderr);
            calls += 1;
        }
        if page == "docs/azure.md" {
            assert_eq!(tenant.state()["applications"], json!([]), "the last one removes");
        }
    }
    assert_eq!(calls, 4);
}

#[test]
fn shellcheck_has_nothing_to_say() {
    // Proves that the script is free of the mistakes that shellcheck knows.
    let checked = Command::new("shellcheck").arg("manifests/azure/setup.sh").output();
    let checked = checked.expect("shellcheck: scripts/tools azure");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_stand_in_refuses_what_the_real_one_refuses() {
    // Proves that the other tests are not green because the stand-in takes anything.
    let tenant = Tenant::new();
    let client = tenant.add_application("app", &[]);
    let app = tenant.state()["applications"][0]["id"].as_str().unwrap().to_owned();
    let graph = |path: &str| format!("https://graph.microsoft.com/v1.0/{path}");
    let send = |method: &str, path: &str, body: Value| {
        tenant.az(&["rest", "--method", method, "--url", &graph(path), "--body", &body.to_string()])
    };
    let credentials = format!("applications/{app}/federatedIdentityCredentials");
    let credential = json!({"name": "one", "issuer": "https://i/", "subject": "s", "audiences": ["a"]});
    assert_eq!(send("post", &credentials, credential.clone()).code, 0);
    let with = |key: &str, value: Value| {
        let mut changed = credential.clone();
        changed[key] = value;
        changed
    };
    for (ran, code, wanted) in [
        (tenant.az(&["ad", "apps", "list"]), 2, "misspelled"),
        (tenant.az(&["account", "show", "--id", "x"]), 2, "unrecognized arguments: --id"),
        (tenant.az(&["aks", "show", "--name", "x"]), 2, "required: --resource-group"),
        (tenant.az(&["aks", "show", "--name", "x", "--resource-group", "y"]), 3, "ResourceNotFound"),
        (send("post", &credentials, with("subject", json!("t"))), 1, "name one already exists"),
        (send("post", &credentials, with("name", json!("two"))), 1, "Issuer and subject combination"),
        (send("post", &credentials, with("name", json!("a b"))), 1, "name of the federated"),
        (send("post", &credentials, with("audiences", json!(["a", "b"]))), 1, "Exactly one audience"),
        (send("delete", &format!("{credentials}/none"), json!({})), 1, "Request_ResourceNotFound"),
        (send("patch", "applications/none", json!({})), 1, "Request_ResourceNotFound"),
        (send("patch", &format!("applications/{app}"), json!({"redirectUris": []})), 1, "Invalid property"),
        (redirect(&send, &app, "http://k8s.example.com/callback"), 1, "must start with"),
        (redirect(&send, &app, "https://*.example.com/callback"), 1, "invalid value"),
        (redirect(&send, &app, "http://localhost/callback"), 0, ""),
        (
            send("post", "servicePrincipals", json!({"appId": USER})),
            1,
            "does not reference a valid application",
        ),
        (send("post", "oauth2PermissionGrants", grant(&client, "user.read")), 1, "Request_ResourceNotFound"),
    ] {
        assert!(
            ran.code == code && ran.stderr.contains(wanted),
            "{code} {wanted}: {} {}",
            ran.code,
            ran.stderr
        );
    }
    let unknown = json!({"requiredResourceAccess": [{"resourceAppId": "00000003-0000-0000-c000-000000000000",
        "resourceAccess": [{"id": USER, "type": "Scope"}]}]});
    assert!(send("patch", &format!("applications/{app}"), unknown).stderr.contains("does not offer"));
}

fn redirect(send: &impl Fn(&str, &str, Value) -> Ran, app: &str, uri: &str) -> Ran {
    send("patch", &format!("applications/{app}"), json!({"web": {"redirectUris": [uri]}}))
}

fn grant(client: &str, scope: &str) -> Value {
    json!({"clientId": client, "consentType": "AllPrincipals", "resourceId": AKS, "scope": scope})
}
