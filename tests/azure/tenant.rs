//! A tenant in a file, as tests/azure/az keeps it, and runs of the script in it.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const SUBSCRIPTION: &str = "55555555-0000-4000-8000-000000000001";
pub(crate) const USER: &str = "77777777-0000-4000-8000-000000000001";
pub(crate) const GROUP: &str = "77777777-0000-4000-8000-000000000002";
pub(crate) const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
pub(crate) const CLUSTER: &str = "my-cluster";
/// Azure allows spaces in few names, but brackets in this one.
pub(crate) const RESOURCE_GROUP: &str = "my_group(1)";
pub(crate) const ISSUER: &str = "https://westeurope.oic.prod-aks.azure.com/22222222-2222-2222-2222-222222222222/\
    33333333-3333-3333-3333-333333333333/";
/// Roles in Entra, none in Azure.
pub(crate) const APP_ROLES: &[&str] = &["app", "grant"];

pub(crate) struct Tenant {
    dir: TempDir,
}

/// How a command ended, and what it printed.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct State(Value);

impl Tenant {
    /// Signed in with all roles; the cluster takes Entra users and has no OIDC issuer yet; the tenant has never used the
    /// AKS server application.
    pub(crate) fn new() -> Self {
        let scope = |id: &str, value: &str| json!({"id": id, "value": value});
        let tenant = Self { dir: tempfile::tempdir().expect("a directory for the state") };
        tenant.install_az();
        tenant.write(&json!({
            "accounts": [
                {"id": SUBSCRIPTION, "name": "Main", "tenantId": TENANT},
                {"id": "55555555-0000-4000-8000-000000000002", "name": "Elsewhere", "tenantId": USER}],
            "roles": ["app", "grant", "aks", "redis"],
            "extension": true, "issuer": ISSUER,
            "page": 100, "lag": 0, "unsettled": {}, "fail_at": 0, "fail_when": "before", "next_id": 0, "mutations": 0, "calls": [],
            "clusters": [{"name": CLUSTER, "resourceGroup": RESOURCE_GROUP, "subscription": SUBSCRIPTION,
                "aadProfile": {"managed": true, "tenantId": TENANT},
                "oidcIssuerProfile": {"enabled": false, "issuerUrl": null}, "securityProfile": {}}],
            "redis": [{"name": "cache", "resourceGroup": RESOURCE_GROUP, "assignments": []}],
            "applications": [], "credentials": {}, "grants": [], "assigned": [],
            "groups": {"k8s-users": {"id": GROUP}},
            "directoryObjects": [{"id": USER}, {"id": GROUP}],
            "of_microsoft": [{"appId": AKS, "displayName": "Azure Kubernetes Service AAD Server",
                "oauth2PermissionScopes": [scope("34a47c2f-cd0d-47b4-a93c-2c41130c671c", "user.read")]}],
            "servicePrincipals": [{"id": "99999999-0000-4000-8000-000000000001",
                "appId": "00000003-0000-0000-c000-000000000000", "displayName": "Microsoft Graph",
                "oauth2PermissionScopes": [
                    scope("37f7f235-527c-4136-accd-4a02d197296e", "openid"),
                    scope("14dad69e-099b-42c9-810b-d002981feec1", "profile"),
                    scope("7427e0e9-2fba-42fe-b0c0-848c9e6a8182", "offline_access"),
                    scope("e1fe6dd8-ba31-4d61-89e7-88639da4683d", "User.Read")]}],
        }));
        tenant
    }

    /// Runs manifests/azure/setup.sh.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.ran(&root().join("manifests/azure/setup.sh"), arguments)
    }

    /// Runs what a page of the documentation shows.
    pub(crate) fn shell(&self, block: &str) -> Ran {
        self.ran(
            Path::new("bash"),
            &["-euo", "pipefail", "-c", &format!("cd '{}'\n{block}", root().display())],
        )
    }

    /// Runs the stand-in itself.
    pub(crate) fn az(&self, arguments: &[&str]) -> Ran {
        self.ran(&self.dir.path().join("bin/az"), arguments)
    }

    pub(crate) fn state(&self) -> State {
        let text = fs::read_to_string(self.dir.path().join("state.json")).expect("the state");
        State(serde_json::from_str(&text).expect("the state is JSON"))
    }

    /// Changes the tenant behind the script's back.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        let State(mut state) = self.state();
        change(&mut state);
        self.write(&state);
    }

    /// An application of another making, or with the tag of ours. Returns its client id.
    pub(crate) fn add_application(&self, name: &str, tags: &[&str]) -> String {
        let body = json!({"displayName": name, "signInAudience": "AzureADMyOrg", "tags": tags});
        let url = "https://graph.microsoft.com/v1.0/applications";
        let ran = self.az(&["rest", "--method", "post", "--url", url, "--body", &body.to_string()]);
        self.edit(|state| (state["mutations"], state["calls"]) = (json!(0), json!([])));
        let made: Value = serde_json::from_str(&ran.stdout).expect("the application");
        made["appId"].as_str().expect("its client id").to_owned()
    }

    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }

    fn ran(&self, program: &Path, arguments: &[&str]) -> Ran {
        let path = format!("{}:{}", self.dir.path().join("bin").display(), env::var("PATH").expect("PATH"));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path()).env("PATH", path);
        command.env("FAKE_AZ_STATE", self.dir.path().join("state.json"));
        let Output { status, stdout, stderr } =
            command.output().expect("bash, jq and python3: scripts/tools azure");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: status.code().expect("an exit code"), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Puts the stand-in on the path, run by the interpreter itself: a run of the script calls it a score of times, and
    /// version managers' shims are slow.
    fn install_az(&self) {
        static PYTHON: OnceLock<String> = OnceLock::new();
        let python = PYTHON.get_or_init(|| {
            let printed = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
            String::from_utf8(printed.expect("python3: scripts/tools azure").stdout)
                .expect("UTF-8")
                .trim()
                .to_owned()
        });
        let az = self.dir.path().join("bin/az");
        fs::create_dir(self.dir.path().join("bin")).expect("a directory");
        let real = root().join("tests/azure/az");
        fs::write(&az, format!("#!/bin/sh\nexec '{python}' -IS '{}' \"$@\"\n", real.display()))
            .expect("the stand-in");
        fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).expect("the stand-in can run");
    }

    fn write(&self, state: &Value) {
        fs::write(self.dir.path().join("state.json"), state.to_string()).expect("the state is written");
    }
}

impl State {
    /// So many calls would have changed something.
    pub(crate) fn mutations(&self) -> u64 {
        self["mutations"].as_u64().expect("a number")
    }

    /// What is in the tenant, without the stand-in's own notes.
    pub(crate) fn facts(&self) -> Value {
        let mut facts = self.0.clone();
        let notes = ["calls", "mutations", "fail_at", "fail_when", "unsettled", "lag", "page"];
        facts.as_object_mut().expect("an object").retain(|name, _| !notes.contains(&name.as_str()));
        facts
    }

    pub(crate) fn principal_of(&self, app_id: &Value) -> &Value {
        let all = self["servicePrincipals"].as_array().expect("a list");
        all.iter().find(|principal| &principal["appId"] == app_id).expect("the service principal")
    }
}

impl Deref for State {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
