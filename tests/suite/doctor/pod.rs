//! What can be wrong in the pod itself: settings, projected token, certificate, file limit.

use standin::pki::Ca;

use super::{Ground, assert_well, broken};
use crate::support::program::subcommand;

#[tokio::test(flavor = "multi_thread")]
async fn broken_settings() {
    // Proves that the settings are judged as the server judges them, and a webhook that did not act is one fault.
    broken(
        "a misspelt setting",
        async |it| it.set("ENTRADA_RATE_LIMITT", "hunter2"),
        ("settings", "ENTRADA_RATE_LIMITT: no setting has this name", "did you mean ENTRADA_RATE_LIMIT?"),
    )
    .await;
    broken(
        "a certificate that is not there",
        async |it| it.set("ENTRADA_TLS_CERT_FILE", "/nonexistent/tls.crt"),
        ("settings", "cannot read /nonexistent/tls.crt", "must be a readable file"),
    )
    .await;
    broken(
        "a pod without the workload-identity webhook",
        async |it| it.settings.retain(|name, _| !name.starts_with("AZURE_")),
        ("federated_token", "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE", "label the pod"),
    )
    .await;
    broken(
        "a token that is not mounted",
        async |it| it.set("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token"),
        ("federated_token", "cannot read /nonexistent/token", "webhook"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_the_settings_is_told() {
    // Proves a row for each fault, that nothing else is looked at, and that no value of a misspelt setting is told.
    let mut ground = Ground::new().await;
    ground.set("ENTRADA_PUBLIC_URL", "http://k8s.example.com");
    ground.set("ENTRADA_STORE_PASSWORD", "hunter2");
    ground.set("ENTRADA_TLS", "maybe");
    let (code, rows) = ground.rows().await;
    assert_eq!(code, Some(1));
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert!(rows.iter().all(|row| row.check == "settings" && !row.ok && !row.seen.contains("hunter2")));
    let flag = ground.run(&["--entrada-tls", "on", "--output", "json"]).await.1;
    assert_eq!(flag.matches("\"check\"").count(), 2, "a flag counts more than its variable: {flag}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_federated_tokens() {
    // Proves that a token which Entra would refuse is known before Entra is asked.
    let project = "project a token of the service account";
    broken(
        "no token at all",
        async |it| {
            it.file("assertion", "hunter2");
        },
        ("federated_token", "the file's 7 bytes are no JWT", project),
    )
    .await;
    broken(
        "the API server's own token",
        async |it| {
            let token = it.world.entra.assertion_with(|claims| {
                claims.insert("aud".to_owned(), serde_json::json!(["https://kubernetes.default.svc"]));
            });
            it.file("assertion", &token);
        },
        ("federated_token", "its audience is `https://kubernetes.default.svc`", project),
    )
    .await;
    broken(
        "somebody else's token",
        async |it| {
            let token = it.world.entra.assertion_with(|claims| {
                claims.insert("sub".to_owned(), serde_json::json!("repo:contoso/app"));
            });
            it.file("assertion", &token);
        },
        ("federated_token", "its subject is `repo:contoso/app`", project),
    )
    .await;
    broken(
        "a token that nobody replaces",
        async |it| {
            let token = it.world.entra.assertion_with(|claims| {
                let past = it.world.true_now().as_second() - 3_600;
                claims.insert("exp".to_owned(), serde_json::json!(past));
            });
            it.file("assertion", &token);
        },
        ("federated_token", "it expired at 20", "look at the pod's events"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_certificates() {
    // Proves that what a browser or kubectl would refuse, today or in two weeks, is told.
    broken(
        "a certificate for another host",
        async |it| {
            it.set("ENTRADA_PUBLIC_URL", "https://clusters.example.com");
            it.world.entra.set_redirect_uris(vec!["https://clusters.example.com/callback".to_owned()]);
        },
        (
            "certificate",
            "it is not for clusters.example.com, but for localhost, k8s.example.com",
            "get a certificate for clusters.example.com",
        ),
    )
    .await;
    broken(
        "a certificate and somebody else's key",
        async |it| {
            it.file("tls.key", &it.world.ca.issue(&[]).unwrap().key_pem);
        },
        ("certificate", "do not belong together", "must hold a certificate and its own key"),
    )
    .await;
    broken(
        "a certificate that nobody renews",
        async |it| {
            let issued = it.world.ca.issue_until_in_days(9).unwrap();
            it.file("tls.crt", &issued.cert_pem);
            it.file("tls.key", &issued.key_pem);
        },
        ("certificate", "it ends in 9 days, at 20", "renew it"),
    )
    .await;
    broken(
        "a certificate that has ended",
        async |it| {
            let issued = it.world.ca.issue_until_in_days(-9).unwrap();
            it.file("tls.crt", &issued.cert_pem);
            it.file("tls.key", &issued.key_pem);
        },
        ("certificate", "it ended at 20", "renew it"),
    )
    .await;
    broken(
        "a chain without its middle",
        async |it| {
            let between = it.world.ca.subordinate("in between").unwrap();
            let issued = between.issue(&[]).unwrap();
            it.file("tls.crt", &issued.cert_pem);
            it.file("tls.key", &issued.key_pem);
            let root = it.file("root.pem", it.world.ca.pem());
            it.set("ENTRADA_PUBLIC_CA_FILE", root);
        },
        ("certificate", "does not lead to an authority in ENTRADA_PUBLIC_CA_FILE", "put the intermediate"),
    )
    .await;
    broken(
        "a chain in disorder",
        async |it| {
            let between = it.world.ca.subordinate("in between").unwrap();
            let (issued, other) = (between.issue(&[]).unwrap(), Ca::new("a stranger").unwrap());
            it.file("tls.crt", &format!("{}{}{}", issued.cert_pem, other.pem(), between.pem()));
            it.file("tls.key", &issued.key_pem);
        },
        ("certificate", "`CN=in between` should follow, but `CN=a stranger` does", "put the leaf first"),
    )
    .await;
}

/// A second certificate beside the first.
fn second(it: &mut Ground, cert: &str, key: &str) {
    for (setting, ending, pem) in
        [("ENTRADA_TLS_CERT_FILE", "crt", cert), ("ENTRADA_TLS_KEY_FILE", "key", key)]
    {
        let path = it.file(&format!("second.{ending}"), pem);
        let both = format!("{},{path}", it.settings[setting]);
        it.set(setting, both);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_certificates_beside_a_good_one() {
    // Proves that each of several certificates is judged, and the broken one named; and that there is a key for each.
    broken(
        "a second certificate that nobody renews",
        async |it| {
            let issued = it.world.ca.issue_until_in_days(9).unwrap();
            second(it, &issued.cert_pem, &issued.key_pem);
        },
        ("certificate", "second.crt: it ends in 9 days", "renew it"),
    )
    .await;
    broken(
        "a second certificate and somebody else's key",
        async |it| {
            let (issued, other) = (it.world.ca.issue(&[]).unwrap(), it.world.ca.issue(&[]).unwrap());
            second(it, &issued.cert_pem, &other.key_pem);
        },
        ("certificate", "second.crt: certificate and key do not belong together", "its own key"),
    )
    .await;
    broken(
        "a second certificate without a key",
        async |it| {
            let both = format!("{0},{0}", it.settings["ENTRADA_TLS_CERT_FILE"]);
            it.set("ENTRADA_TLS_CERT_FILE", both);
        },
        ("settings", "name 2 certificates and 1 keys", "must name a key for each certificate"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn good_certificates() {
    // Proves that a chain through an intermediate is well, that of a short-lived certificate's life a third may be left,
    // and that one which is not ours is not looked at.
    let mut ground = Ground::new().await;
    let between = ground.world.ca.subordinate("in between").unwrap();
    let issued = between.issue(&[]).unwrap();
    ground.file("tls.crt", &format!("{}{}", issued.cert_pem, between.pem()));
    ground.file("tls.key", &issued.key_pem);
    let root = ground.file("root.pem", ground.world.ca.pem());
    ground.set("ENTRADA_PUBLIC_CA_FILE", root);
    assert_well(&ground).await;
    let other = between.issue(&["headlamp.example.com"]).unwrap();
    second(&mut ground, &format!("{}{}", other.cert_pem, between.pem()), &other.key_pem);
    let rows = assert_well(&ground).await;
    let seen = &rows.iter().find(|row| row.check == "certificate").unwrap().seen;
    assert!(
        seen.contains("tls.crt: for localhost") && seen.contains("second.crt: for no host of ours"),
        "{seen}"
    );
    ground.settings.retain(|name, _| !name.starts_with("ENTRADA_TLS"));
    ground.set("ENTRADA_TLS", "off");
    let rows = assert_well(&ground).await;
    assert!(rows.iter().any(|row| row.check == "certificate" && row.seen.contains("ENTRADA_TLS=off")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_limit_that_is_too_low() {
    // Proves that more connections than the file limit carries are a fault, with the limit that would do.
    let mut ground = Ground::new().await;
    ground.set("ENTRADA_MAX_CONNECTIONS", "5000");
    let doctor = subcommand("doctor", &ground.settings);
    let program = doctor.as_std().get_program().to_str().unwrap();
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 1024; exec \"$0\" doctor --output json", program]);
    let output = shell.env_clear().envs(&ground.settings).output().await.unwrap();
    let rows: Vec<super::Row> = serde_json::from_slice(&output.stdout).unwrap();
    let faults: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert_eq!((output.status.code(), faults.len()), (Some(1), 1), "{rows:#?}");
    assert_eq!(faults[0].seen, "ENTRADA_MAX_CONNECTIONS is 5000, but 1024 open files carry 384 connections");
    assert!(faults[0].fix.contains("10256 open files"), "{}", faults[0].fix);
}
