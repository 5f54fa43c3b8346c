//! `manifests/azure/setup.sh` against a stand-in for `az` (tests/azure/az) that keeps state and refuses what the real one
//! refuses; and its Terraform twin against what the script makes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

// Beside this file they would be tests of their own.
#[path = "azure/refusals.rs"]
mod refusals;
#[path = "azure/removal.rs"]
mod removal;
#[path = "azure/tenant.rs"]
mod tenant;
#[path = "azure/twins.rs"]
mod twins;

use serde_json::{Value, json};

use tenant::{AKS, CLUSTER, GROUP, ISSUER, RESOURCE_GROUP, Ran, TENANT, Tenant, USER};

const URL: &str = "https://k8s.example.com";
const PLACE: &[&str] = &["--resource-group", RESOURCE_GROUP, "--cluster", CLUSTER, "--retry-wait", "0"];

/// What most tests call the script with.
fn set_up(tenant: &Tenant, more: &[&str]) -> Ran {
    tenant.run(&[PLACE, &["--public-url", URL], more].concat())
}

fn remove(tenant: &Tenant, more: &[&str]) -> Ran {
    tenant.run(&[PLACE, &["--remove"], more].concat())
}

const ALL: &[&str] = &["--assign", USER, "--assign", GROUP, "--redis", "cache"];

// What it makes.

#[test]
fn the_first_run_makes_everything() {
    // Proves that each object stands in the tenant with the facts that Entrada relies on, and no secret with it.
    let tenant = Tenant::new();
    let ran = set_up(&tenant, ALL);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let state = tenant.state();

    let app = &state["applications"][0];
    assert_eq!(app["displayName"], "entrada");
    assert_eq!(app["signInAudience"], "AzureADMyOrg");
    assert_eq!(app["web"]["redirectUris"], json!(["https://k8s.example.com/callback"]));
    assert_eq!(app["web"]["logoutUrl"], "https://k8s.example.com/logout/frontchannel");
    assert_eq!(app["web"]["implicitGrantSettings"]["enableIdTokenIssuance"], false);
    assert_eq!((&app["passwordCredentials"], &app["keyCredentials"]), (&json!([]), &json!([])));
    let claims: Vec<_> = app["optionalClaims"]["idToken"].as_array().unwrap().iter().collect();
    assert_eq!(
        claims.iter().map(|claim| claim["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["login_hint", "sid"]
    );
    assert_eq!(scopes(app, AKS), ["34a47c2f-cd0d-47b4-a93c-2c41130c671c"]);
    assert_eq!(scopes(app, "00000003-0000-0000-c000-000000000000").len(), 3);

    let principal = state.principal_of(&app["appId"]);
    assert_eq!(principal["appRoleAssignmentRequired"], true);
    let credential = &state["credentials"][app["id"].as_str().unwrap()];
    assert_eq!(credential.as_array().unwrap().len(), 1);
    assert_eq!(credential[0]["issuer"], ISSUER, "verbatim, with the slash at its end");
    assert_eq!(credential[0]["subject"], "system:serviceaccount:entrada:entrada");
    assert_eq!(credential[0]["audiences"], json!(["api://AzureADTokenExchange"]));

    let grants = state["grants"].as_array().unwrap();
    assert!(grants.iter().all(|grant| grant["consentType"] == "AllPrincipals"));
    let granted: Vec<_> = grants.iter().map(|grant| grant["scope"].as_str().unwrap()).collect();
    assert_eq!(granted, ["openid profile offline_access", "user.read"]);
    let assigned: Vec<_> =
        state["assigned"].as_array().unwrap().iter().map(|it| &it["principalId"]).collect();
    assert_eq!(assigned, [USER, GROUP]);
    let redis = state["redis"][0]["assignments"].as_array().unwrap();
    assert_eq!((redis.len(), &redis[0]["user"]["objectId"]), (1, &principal["id"]));
    let cluster = &state["clusters"][0];
    assert_eq!(cluster["oidcIssuerProfile"]["enabled"], true);
    assert_eq!(cluster["securityProfile"]["workloadIdentity"]["enabled"], true);
}

#[test]
fn the_values_come_as_environment_as_helm_values_and_as_json() {
    // Proves that standard output holds the values and nothing else, so that it can go straight into a file.
    let tenant = Tenant::new();
    let env = set_up(&tenant, &[]).stdout;
    let client = tenant.state()["applications"][0]["appId"].as_str().unwrap().to_owned();
    assert_eq!(
        env,
        format!("ENTRADA_PUBLIC_URL={URL}\nAZURE_CLIENT_ID={client}\nAZURE_TENANT_ID={TENANT}\n")
    );
    let helm = set_up(&tenant, &["--output", "helm"]).stdout;
    assert_eq!(
        helm,
        format!("publicUrl: \"{URL}\"\nentra:\n  clientId: \"{client}\"\n  tenantId: \"{TENANT}\"\n")
    );
    let json: Value = serde_json::from_str(&set_up(&tenant, &["--output", "json"]).stdout).unwrap();
    assert_eq!((&json["clientId"], &json["issuer"]), (&json!(client), &json!(ISSUER)));
}

// Again and again.

#[test]
fn a_second_run_changes_nothing_and_says_so() {
    // Proves that the script finds all that it made, by asking only.
    let tenant = Tenant::new();
    set_up(&tenant, ALL);
    // Graph answers in pages. Here, each holds one object.
    tenant.edit(|state| state["page"] = json!(1));
    let before = tenant.state();
    let ran = set_up(&tenant, ALL);
    assert_eq!((ran.code, tenant.state().mutations()), (0, before.mutations()));
    assert!(ran.stderr.contains("Nothing to change."), "{}", ran.stderr);
    assert_eq!(tenant.state().facts(), before.facts());
}

#[test]
fn a_dry_run_prints_the_commands_of_the_real_run_and_runs_none() {
    // Proves that what a reviewer reads beforehand is what will run, up to the ids that do not exist yet.
    let tenant = Tenant::new();
    let before = tenant.state().facts();
    let planned = set_up(&tenant, &[ALL, &["--dry-run"]].concat());
    assert_eq!((planned.code, tenant.state().mutations()), (0, 0));
    assert_eq!(tenant.state().facts(), before);

    let real = set_up(&tenant, ALL);
    let state = tenant.state();
    let app = &state["applications"][0];
    let principal = state.principal_of(&app["appId"])["id"].as_str().unwrap().to_owned();
    let credential = state["credentials"][app["id"].as_str().unwrap()][0]["name"].as_str().unwrap();
    let names = [
        (app["id"].as_str().unwrap().to_owned(), "<application>"),
        (app["appId"].as_str().unwrap().to_owned(), "<client id>"),
        (state.principal_of(&json!(AKS))["id"].as_str().unwrap().to_owned(), "<AKS server>"),
        (principal.replace('-', ""), "<service principal>"),
        (principal, "<service principal>"),
        (ISSUER.to_owned(), "<issuer of the cluster>"),
        (credential.to_owned(), "entrada-<number>"),
    ];
    // A placeholder has a space or a bracket, so its word is quoted where the id's is not.
    let with_names = |text: String| names.iter().fold(text, |text, (id, name)| text.replace(id, name));
    let ran: Vec<_> = commands(&real.stderr).map(|line| with_names(line).replace('\'', "")).collect();
    let told: Vec<_> = commands(&planned.stdout).map(|line| line.replace('\'', "")).collect();
    assert_eq!(told, ran);
    assert_eq!(ran.len(), 10);
}

#[test]
fn a_run_that_broke_off_anywhere_is_completed_by_the_next() {
    // Proves that the script goes on from every state that it can leave: the first change fails, and then each run in
    // turn breaks off right after one more change, whose answer is lost.
    let whole = Tenant::new();
    set_up(&whole, ALL);
    let wanted = whole.state();

    let tenant = Tenant::new();
    for changes in 0..=wanted.mutations() {
        let when = if changes == 0 { "before" } else { "after" };
        let next = tenant.state().mutations() + 1;
        tenant.edit(|state| (state["fail_at"], state["fail_when"]) = (json!(next), json!(when)));
        let ran = set_up(&tenant, ALL);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{changes}: {}", ran.stderr);
        assert!(ran.stderr.contains("run this again"), "{}", ran.stderr);
    }
    let ran = set_up(&tenant, ALL);
    assert!(ran.code == 0 && ran.stderr.contains("Nothing to change."), "{}", ran.stderr);
    assert_eq!(tenant.state().facts(), wanted.facts());
}

#[test]
fn it_waits_for_replication_but_not_for_ever() {
    // Proves that new objects may take a while to be known, and that a run which gives up is completed by the next.
    let tenant = Tenant::new();
    tenant.edit(|state| state["lag"] = json!(2));
    let ran = set_up(&tenant, ALL);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("attempt 2 of 12"), "{}", ran.stderr);

    let tenant = Tenant::new();
    tenant.edit(|state| state["lag"] = json!(13));
    let ran = set_up(&tenant, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("does not reference a valid application"), "{}", ran.stderr);
    tenant.edit(|state| state["unsettled"] = json!({}));
    tenant.edit(|state| state["lag"] = json!(0));
    assert_eq!(set_up(&tenant, &[]).code, 0);
}

#[test]
fn what_others_added_stays_and_what_was_broken_is_mended() {
    // Proves that drift is met in both directions, and that no other permission, claim or consent is taken away.
    let tenant = Tenant::new();
    set_up(&tenant, ALL);
    let mine = tenant.state().facts();
    tenant.edit(|state| {
        let app = &mut state["applications"][0];
        app["web"]["redirectUris"] = json!(["https://other.example.com/callback"]);
        app["web"]["logoutUrl"] = json!(null);
        app["web"]["homePageUrl"] = json!("https://home.example.com");
        app["isFallbackPublicClient"] = json!(true);
        app["optionalClaims"] =
            json!({"idToken": [{"name": "upn"}, {"name": "sid"}], "accessToken": [{"name": "ipaddr"}]});
        let read = json!({"id": "e1fe6dd8-ba31-4d61-89e7-88639da4683d", "type": "Scope"});
        app["requiredResourceAccess"] = json!([
            {"resourceAppId": "00000003-0000-0000-c000-000000000000", "resourceAccess": [read]}]);
        let id = app["id"].as_str().unwrap().to_owned();
        state["credentials"][id][0]["audiences"] = json!(["api://wrong"]);
        state["grants"][0]["scope"] = json!("User.Read openid");
        for principal in state["servicePrincipals"].as_array_mut().unwrap() {
            principal["appRoleAssignmentRequired"] = json!(false);
        }
    });
    let ran = set_up(&tenant, ALL);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let state = tenant.state();
    let app = &state["applications"][0];
    assert_eq!(
        app["web"]["redirectUris"],
        json!(["https://other.example.com/callback", "https://k8s.example.com/callback"])
    );
    assert_eq!(app["web"]["logoutUrl"], "https://k8s.example.com/logout/frontchannel");
    assert_eq!(app["web"]["homePageUrl"], "https://home.example.com");
    assert_eq!(app["isFallbackPublicClient"], false);
    let claims = app["optionalClaims"]["idToken"].as_array().unwrap();
    assert_eq!(
        claims.iter().map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["upn", "sid", "login_hint"]
    );
    assert_eq!(app["optionalClaims"]["accessToken"], json!([{"name": "ipaddr"}]));
    assert_eq!(scopes(app, "00000003-0000-0000-c000-000000000000").len(), 4);
    assert_eq!(scopes(app, AKS).len(), 1);
    assert_eq!(state["grants"][0]["scope"], "User.Read openid profile offline_access");
    assert_eq!(state["credentials"], mine["credentials"]);
    assert_eq!(state.principal_of(&app["appId"])["appRoleAssignmentRequired"], true);
    assert_eq!(state.principal_of(&json!(AKS))["appRoleAssignmentRequired"], false, "not ours");
    assert!(set_up(&tenant, ALL).stderr.contains("Nothing to change."));
}

// Reading.

/// The commands among the lines that the script printed.
fn commands(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with("az ")).map(str::to_owned)
}

/// The ids of the permissions that the application asks of a resource.
fn scopes(app: &Value, resource: &str) -> Vec<String> {
    let of_resource = app["requiredResourceAccess"].as_array().unwrap().iter();
    let mut found = of_resource.filter(|access| access["resourceAppId"] == resource);
    let access = found.next().unwrap()["resourceAccess"].as_array().unwrap();
    assert!(found.next().is_none() && access.iter().all(|scope| scope["type"] == "Scope"));
    access.iter().map(|scope| scope["id"].as_str().unwrap().to_owned()).collect()
}
