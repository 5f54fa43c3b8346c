//! What the script refuses, and how it says so.

use std::process::Command;

use serde_json::{Value, json};

use super::tenant::{AKS, APP_ROLES, TENANT, Tenant, USER};
use super::{ALL, URL, commands, remove, set_up};

#[test]
fn without_the_right_to_consent_the_rest_is_made_and_the_address_is_printed() {
    // Proves that two people with different roles can share the work.
    let tenant = Tenant::new();
    tenant.edit(|state| state["roles"] = json!(["app", "aks", "redis"]));
    let ran = set_up(&tenant, ALL);
    let client = tenant.state()["applications"][0]["appId"].as_str().unwrap().to_owned();
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with(&format!(
            "https://login.microsoftonline.com/{TENANT}/adminconsent?client_id={client}\n"
        ))
    );
    assert!(ran.stdout.contains(&format!("AZURE_CLIENT_ID={client}")));
    assert_eq!(tenant.state()["assigned"].as_array().unwrap().len(), 2);

    tenant.edit(|state| state["roles"] = json!(["app", "grant"]));
    let ran = set_up(&tenant, ALL);
    assert_eq!((ran.code, commands(&ran.stderr).count()), (0, 3), "{}", ran.stderr);
}

#[test]
fn a_missing_role_is_named() {
    // Proves that a person learns whom to ask, at the first change that is refused.
    for (roles, wanted) in [
        (json!(["grant", "aks", "redis"]), "Application Developer"),
        (json!(APP_ROLES), "Azure Kubernetes Service Contributor"),
        (json!(["app", "grant", "aks"]), "Contributor on the Redis"),
    ] {
        let tenant = Tenant::new();
        tenant.edit(|state| state["roles"] = roles.clone());
        let ran = set_up(&tenant, ALL);
        let last = ran.stderr.lines().last().unwrap();
        assert!(
            ran.code == 1 && last.contains("You may not do this") && last.contains(wanted),
            "{roles}: {last}"
        );
    }
}

#[test]
fn what_cannot_work_is_told_in_one_sentence_before_anything_changes() {
    // Proves that a wrong cluster, login, tenant or person stops the run while the tenant is still as it was.
    type Edit = fn(&mut Value);
    let cases: &[(Edit, &[&str], &str)] = &[
        (|state| state["accounts"] = json!([]), &[], "run az login"),
        (|_| (), &["--subscription", "no such"], "no such subscription"),
        (|_| (), &["--subscription", "Elsewhere"], "az account set --subscription"),
        (|_| (), &["--cluster", "other"], "Could not read the cluster other"),
        (|state| state["clusters"][0]["aadProfile"] = json!(null), &[], "--enable-aad"),
        (
            |state| state["clusters"][0]["aadProfile"]["tenantId"] = json!(USER),
            &[],
            "users of another tenant",
        ),
        (|_| (), &["--assign", AKS], "no user or group of this tenant"),
        (|_| (), &["--client-id", AKS], "Could not read the application"),
    ];
    for (edit, more, wanted) in cases {
        let tenant = Tenant::new();
        tenant.edit(*edit);
        let ran = set_up(&tenant, more);
        let told: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(
            (ran.code, tenant.state().mutations(), ran.stdout.as_str()),
            (1, 0, ""),
            "{wanted}: {told:?}"
        );
        assert!(told.len() == 1 && told[0].starts_with("setup.sh: ") && told[0].contains(wanted), "{told:?}");
    }
}

#[test]
fn wrong_arguments_never_reach_azure() {
    // Proves that an address which Entra would refuse, or a name that Kubernetes would, ends with 2 and no call.
    let tenant = Tenant::new();
    for wrong in [
        &["--public-url", "http://k8s.example.com"][..],
        &["--public-url", "https://k8s.example.com/path"],
        &["--public-url", "https://k8s.example.com?x"],
        &["--public-url", "https://"],
        &["--public-url", "https://K8s.example.com"],
        &["--public-url", "https://k8s.example.com:443"],
        &["--namespace", "Entrada"],
        &["--namespace", "a:b"],
        &["--service-account", "*"],
        &["--assign", "someone@example.com"],
        &["--client-id", "') or ('"],
        &["--output", "yaml"],
        &["--retry-wait", "1+1"],
        &["--name", ""],
        &["--name", "--dry-run"],
        &["--name"],
        &["--typo", "x"],
        &["stray"],
    ] {
        let ran = set_up(&tenant, wrong);
        assert_eq!(ran.code, 2, "{wrong:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{wrong:?}");
    }
    assert_eq!(tenant.run(&["--public-url", URL]).code, 2);
    assert_eq!(tenant.state()["calls"], json!([]));
}

#[test]
fn an_application_that_it_did_not_make_is_used_only_by_its_id() {
    // Proves that nobody's application is changed because of its display name.
    let tenant = Tenant::new();
    let foreign = tenant.add_application("Entrada", &[]);
    let before = tenant.state().facts();
    let ran = set_up(&tenant, &[]);
    assert!(
        ran.code == 1 && ran.stderr.contains("--client-id") && ran.stderr.contains(&foreign),
        "{}",
        ran.stderr
    );
    assert_eq!(remove(&tenant, &[]).code, 1);

    let twin = tenant.add_application("entrada", &["made-by-entrada-setup"]);
    let ran = set_up(&tenant, &[]);
    assert!(ran.code == 1 && ran.stderr.contains("Several applications"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&foreign) && ran.stderr.contains(&twin));
    tenant.edit(|state| {
        state["applications"].as_array_mut().unwrap().truncate(1);
        state["next_id"] = before["next_id"].clone();
    });
    assert_eq!(tenant.state().facts(), before);

    assert_eq!(set_up(&tenant, &["--client-id", &foreign]).code, 0);
    assert_eq!(tenant.state()["applications"].as_array().unwrap().len(), 1);
    assert_eq!(tenant.state()["applications"][0]["tags"], json!([]));
}

#[test]
fn an_application_for_other_tenants_is_refused() {
    // Proves that the script does not turn a multi-tenant application into Entrada's, nor cut off its users.
    let tenant = Tenant::new();
    let foreign = tenant.add_application("shop", &[]);
    tenant.edit(|state| state["applications"][0]["signInAudience"] = json!("AzureADMultipleOrgs"));
    let before = tenant.state().facts();
    let ran = set_up(&tenant, &["--client-id", &foreign]);
    assert!(ran.code == 1 && ran.stderr.contains("users of other tenants"), "{}", ran.stderr);
    assert_eq!(tenant.state().facts()["applications"], before["applications"]);
}

#[test]
fn a_full_application_is_told() {
    // Proves that the limit of 20 federated credentials is met with advice.
    let tenant = Tenant::new();
    let client = tenant.add_application("full", &[]);
    tenant.edit(|state| {
        let one = |n: u8| json!({"id": n, "name": format!("n{n}"), "issuer": "https://x", "subject": n});
        let full: Vec<_> = (0..20).map(one).collect();
        let id = state["applications"][0]["id"].as_str().unwrap().to_owned();
        state["credentials"][id] = json!(full);
    });
    let ran = set_up(&tenant, &["--client-id", &client]);
    assert!(ran.code == 1 && ran.stderr.contains("as many as Entra takes; delete one"), "{}", ran.stderr);
}

#[test]
fn names_are_data_and_never_run() {
    // Proves that a name with every trap of the shell, of OData and of JSON arrives as it is, and is found again.
    let name = "O'Brien's \"K8s\" $(touch pwned) `touch pwned`; touch pwned & {x} \\n <é> *";
    let tenant = Tenant::new();
    let named = ["--name", name];
    let planned = set_up(&tenant, &[&named[..], &["--dry-run"]].concat());
    assert_eq!(set_up(&tenant, &named).code, 0);
    assert_eq!(tenant.state()["applications"][0]["displayName"], name);
    assert!(set_up(&tenant, &named).stderr.contains("Nothing to change."));
    assert_eq!(remove(&tenant, &named).code, 0);
    assert_eq!(tenant.state()["applications"], json!([]));

    // What the dry run printed can be pasted into a shell.
    let line = commands(&planned.stdout).find(|line| line.contains("displayName")).unwrap();
    let words = Command::new("bash")
        .args(["-c", &line.replacen("az ", "printf '%s\\0' ", 1)])
        .output()
        .unwrap()
        .stdout;
    let body =
        String::from_utf8(words).unwrap().split('\0').find(|word| word.starts_with('{')).unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["displayName"], name);
    assert!(!tenant.has_file("pwned") && !std::path::Path::new("pwned").exists());
}
