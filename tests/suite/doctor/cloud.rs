//! What can be wrong with Entra, with the way there, and with the app registration.

use std::time::Duration;

use standin::entra::{Endpoint, Fault};
use standin::pki::Ca;

use super::{Ground, broken};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong() {
    // Proves that a clock apart from Entra's is the one fault, whatever else follows from it.
    let behind = ("clock", "s behind Entra's", "NTP");
    broken("a clock behind", async |it| it.world.advance(Duration::from_secs(600)), behind).await;
    broken(
        "a clock so far behind that Entra takes the token for expired",
        async |it| it.world.advance_without_kubelet(Duration::from_secs(2 * 3_600)),
        behind,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_cannot_be_used() {
    // Proves that each way in which the sign-in host may fail is told from the others, and nothing after it is failed.
    broken(
        "nobody listens",
        async |it| it.world.entra.kill().await,
        ("authority", "Connection refused", "allow the pod DNS, and TCP to localhost, port 443"),
    )
    .await;
    broken(
        "no such host",
        async |it| it.set("AZURE_AUTHORITY_HOST", "https://login.invalid/"),
        ("authority", "dns error", "allow the pod DNS"),
    )
    .await;
    broken(
        "no answer, where a proxy is the way out",
        async |it| {
            it.world.entra.fail_always(Endpoint::Discovery, Fault::Hang);
            it.set("HTTPS_PROXY", "http://user:hunter2@proxy.example.com:3128");
        },
        ("authority", "no answer within 5 s; HTTPS_PROXY is set", "Entrada makes no use of a proxy"),
    )
    .await;
    broken(
        "an inspecting proxy",
        async |it| {
            let other = it.file("other.pem", Ca::new("another").unwrap().pem());
            it.set("ENTRADA_ENTRA_CA_FILE", other);
        },
        (
            "authority",
            "is not accepted: no authority that is trusted here",
            "put its CA into ENTRADA_ENTRA_CA_FILE",
        ),
    )
    .await;
    broken(
        "a trust root that is none",
        async |it| {
            let text = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
            let path = it.file("root.pem", text);
            it.set("ENTRADA_ENTRA_CA_FILE", path);
        },
        ("authority", "ENTRADA_ENTRA_CA_FILE: ", "correct ENTRADA_ENTRA_CA_FILE"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_the_tenants_own() {
    // Proves that an answer is not enough: it must be Entra's, and this tenant's.
    broken(
        "a gateway's page",
        async |it| {
            let page = Fault::Status { status: 200, retry_after: None, html: true };
            it.world.entra.fail_always(Endpoint::Discovery, page);
        },
        ("authority", "answered 200 OK with text/html in place of JSON", "a proxy or gateway in between"),
    )
    .await;
    broken(
        "another tenant's document",
        async |it| it.world.entra.set_discovery_issuer(Some("https://sts.example.com/v2.0")),
        ("authority", "issuer is https://sts.example.com/v2.0", "set AZURE_TENANT_ID"),
    )
    .await;
    broken(
        "a tenant that is not there",
        async |it| it.set("AZURE_TENANT_ID", "00000000-0000-4000-8000-000000000001"),
        ("authority", "AADSTS90002: localhost knows no tenant 00000000-", "correct AZURE_TENANT_ID"),
    )
    .await;
    broken(
        "keys that are none",
        async |it| it.world.entra.fail_always(Endpoint::Keys, Fault::Empty(200)),
        ("authority", "is not the JSON that was expected", "AZURE_AUTHORITY_HOST"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_identity_that_entra_refuses() {
    // Proves that each mismatch of the federated credential is named, with our own claims as the remedy.
    let subject = "system:serviceaccount:entrada:entrada";
    broken(
        "no federated credential",
        async |it| it.world.entra.remove_federated_credential(),
        ("client_assertion", "AADSTS70025: the app c11e47ed-", subject),
    )
    .await;
    broken(
        "the issuer without its slash",
        async |it| {
            let issuer = it.world.entra.cluster_issuer();
            let without = issuer.trim_end_matches('/');
            it.world.entra.set_federated_credential(Some((without, subject)));
        },
        ("client_assertion", "AADSTS700211: no federated credential", "/cluster/, subject"),
    )
    .await;
    broken(
        "another service account",
        async |it| {
            let issuer = it.world.entra.cluster_issuer();
            it.world.entra.set_federated_credential(Some((&issuer, "system:serviceaccount:entrada:default")));
        },
        ("client_assertion", "AADSTS700213", subject),
    )
    .await;
    broken(
        "an audience of another cloud",
        async |it| {
            let token = it.world.entra.assertion_with(|claims| {
                claims.insert("aud".to_owned(), serde_json::json!("api://AzureADTokenExchangeChina"));
            });
            it.file("assertion", &token);
        },
        ("client_assertion", "AADSTS700212", "audience api://AzureADTokenExchangeChina"),
    )
    .await;
    broken(
        "a token of a key that was replaced",
        async |it| {
            let token = it.world.entra.assertion_of_unknown_key().unwrap();
            it.file("assertion", &token);
        },
        ("client_assertion", "AADSTS700027: no key of https://localhost", "make the pod anew"),
    )
    .await;
    broken(
        "an app that is not there",
        async |it| it.set("AZURE_CLIENT_ID", "00000000-0000-4000-8000-000000000002"),
        ("client_assertion", "AADSTS700016: the tenant", "set AZURE_CLIENT_ID"),
    )
    .await;
    for (code, seen, fix) in [
        (90_061, "AADSTS90061: Entra cannot fetch the keys of", "must be public"),
        (70_021, "AADSTS70021: no federated credential", subject),
        (700_024, "AADSTS700024: the token is outside of its time", "kubelet"),
        (7_000_112, "AADSTS7000112: the app", "enable it"),
        (7_000_218, "is no confidential web app", "platform Web (not SPA)"),
        (90_033, "AADSTS90033: Entra does not answer", "try again"),
    ] {
        broken(
            &code.to_string(),
            async |it| it.world.entra.fail_always(Endpoint::TokenCode, Fault::Error(code)),
            ("client_assertion", seen, fix),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_registration_that_lacks_something() {
    // Proves that redirect URI and AKS permission are told apart from the identity, which Entra accepts in each case.
    broken(
        "a redirect URI that is not registered",
        async |it| it.world.entra.set_redirect_uris(vec!["https://old.example.com/callback".to_owned()]),
        ("redirect_uri", "AADSTS50011: https://localhost:", "platform Web: https://localhost:"),
    )
    .await;
    broken(
        "a tenant without an AKS cluster",
        async |it| it.world.entra.set_aks_present(false),
        ("aks_permission", "AADSTS500011: the tenant does not know", "az ad sp create --id 6dae42f8-"),
    )
    .await;
    broken(
        "a permission that is not listed",
        async |it| it.world.entra.fail_always(Endpoint::TokenCode, Fault::Error(650_057)),
        ("aks_permission", "AADSTS650057", "/adminconsent?client_id="),
    )
    .await;
    broken(
        "a policy against workload identities",
        async |it| it.world.entra.fail_always(Endpoint::TokenCode, Fault::Error(53_003)),
        ("aks_permission", "AADSTS53003: Entra gives the app no token", "Conditional Access"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_when_nobody_answers() {
    // Proves that an Entra, an API server and a store which take connections and say nothing cost seconds, not minutes.
    let mut ground = Ground::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    ground.set("ENTRADA_STORE", format!("redis://127.0.0.1:{silent}"));
    ground.set("ENTRADA_API_SERVER_URL", format!("https://localhost:{silent}"));
    ground.set("AZURE_AUTHORITY_HOST", format!("https://localhost:{silent}"));
    let began = std::time::Instant::now();
    let (code, rows) = ground.rows().await;
    let faults: Vec<&str> = rows.iter().filter(|row| !row.ok).map(|row| row.check.as_str()).collect();
    assert_eq!((code, faults), (Some(1), vec!["authority", "api_server", "store"]), "{rows:#?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_hangs() {
    // Proves that also the request in the middle of the chain has its limit in time.
    broken(
        "a token endpoint that hangs",
        async |it| it.world.entra.fail_always(Endpoint::TokenCode, Fault::Hang),
        ("client_assertion", "no answer within 5 s", "try again"),
    )
    .await;
}
