//! Alerts and dashboard of manifests/components/monitoring, given to the real Prometheus.

mod app_faults;
mod limit_faults;
mod output_faults;
mod rule_test;
mod surrounding_faults;

use std::collections::BTreeSet;
use std::pin::Pin;

use futures_util::{FutureExt, StreamExt};
use http::Method;
use serde_json::Value;
use standin::redis::Redis;
use tempfile::TempDir;

use self::rule_test::Case;
use super::support::collector::Collector;
use super::support::events::AuditLog;
use super::support::prometheus::{Prometheus, dashboard, promtool, rules};
use super::support::wire::Wire;
use super::support::{PATIENCE, World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// Cases at once: each has stand-ins and an Entrada of its own.
const AT_ONCE: usize = 3;

/// Every way to be in trouble.
fn cases() -> Vec<Pin<Box<dyn Future<Output = Case>>>> {
    vec![
        all_is_well().boxed_local(),
        strangers_make_things_up().boxed_local(),
        surrounding_faults::nobody_answers().boxed_local(),
        surrounding_faults::a_replica_is_not_ready().boxed_local(),
        surrounding_faults::the_federated_credential_is_gone().boxed_local(),
        surrounding_faults::entra_is_away().boxed_local(),
        surrounding_faults::the_api_server_is_away().boxed_local(),
        surrounding_faults::the_store_is_away().boxed_local(),
        app_faults::id_tokens_are_not_accepted().boxed_local(),
        app_faults::the_federated_token_grows_old().boxed_local(),
        app_faults::the_federated_token_is_gone().boxed_local(),
        app_faults::the_certificate_ends_in(10, &["EntradaCertificateExpiresSoon warning"]).boxed_local(),
        app_faults::the_certificate_ends_in(
            1,
            &["EntradaCertificateExpiresSoon critical", "EntradaCertificateExpiresSoon warning"],
        )
        .boxed_local(),
        app_faults::a_renewed_certificate_is_broken().boxed_local(),
        app_faults::the_process_is_restarted().boxed_local(),
        app_faults::it_panics().boxed_local(),
        output_faults::the_audit_log_is_full().boxed_local(),
        output_faults::the_audit_queue_is_full().boxed_local(),
        output_faults::nobody_reads_the_log().boxed_local(),
        output_faults::the_collector_refuses_spans().boxed_local(),
        limit_faults::connections_are_many().boxed_local(),
        limit_faults::upstream_connections_are_used_up().boxed_local(),
        limit_faults::a_user_sends_too_much().boxed_local(),
        limit_faults::tokens_are_waited_for().boxed_local(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_when_its_condition_is_caused() {
    // Proves that promtool, given what was scraped before and after each fault, fires the alerts that the fault should
    // fire and no others, none before it, and that no alert is without a fault.
    let cases: Vec<Case> = futures_util::stream::iter(cases()).buffered(AT_ONCE).collect().await;
    let fired: BTreeSet<&str> = cases.iter().flat_map(|case| case.alerts.iter().copied()).collect();
    let rules = rules();
    let rules_of =
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let known: BTreeSet<String> = rules_of
        .map(|rule| format!("{} {}", text(&rule["alert"]), text(&rule["labels"]["severity"])))
        .collect();
    assert_eq!(fired.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), known);

    let dir = TempDir::new().unwrap();
    let (rules_file, tests_file) = (dir.path().join("rules.yaml"), dir.path().join("tests.yaml"));
    std::fs::write(&rules_file, rules.to_string()).unwrap();
    std::fs::write(&tests_file, rule_test::file(&rules_file, &cases).to_string()).unwrap();
    promtool(&["check", "rules"], &rules_file);
    promtool(&["test", "rules"], &tests_file);
}

/// Signs in, makes a token, asks, watches, and is refused: what people do all day.
async fn traffic(world: &World) {
    let token = world.token(&world.signed_in("alice").await).await;
    for _ in 0..3 {
        let page = world.call(Method::GET, PODS, &token).await;
        assert_eq!(page.status, 200, "{}", page.text());
    }
    assert_eq!(world.call(Method::GET, "/api/v1/namespaces/team-b/secrets", &token).await.status, 403);
    assert_eq!(world.call_with(Method::GET, PODS, &[]).await.status, 401);
    let mut watch = Wire::open(world).await;
    watch
        .write(format!("GET {PODS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"))
        .await;
    assert!(watch.head().await.starts_with("HTTP/1.1 200"));
}

async fn all_is_well() -> Case {
    let world = World::start().await;
    traffic(&world).await;
    let mut case = Case::before(&world).await;
    traffic(&world).await;
    case.after(&world).await;
    case.lasting().fires(&[])
}

/// Whoever has no account shall wake nobody: neither with errors nor with codes that Entra never sent.
async fn strangers_make_things_up() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    for brought in
        ["error=server_error&error_description=AADSTS700016", "code=made-up-by-somebody-without-an-account"]
    {
        let login = world.call_with(Method::GET, "/login", &[]).await;
        let cookie = login.header("set-cookie").split(';').next().unwrap();
        let to_entra = login.location().unwrap();
        let (_, state) = to_entra.query_pairs().find(|(name, _)| name == "state").unwrap();
        let target = format!("/callback?{brought}&state={state}");
        assert_eq!(world.call_with(Method::GET, &target, &[("cookie", cookie)]).await.status, 400);
    }
    let forged = entrada::secret::CredentialSecret::new_token();
    assert_eq!(world.call(Method::GET, PODS, forged.expose()).await.status, 401);
    assert_eq!(world.metric(r#"entrada_sign_ins_total{outcome="refused"}"#).await, 2.0);
    case.after(&world).await;
    case.lasting().fires(&[])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_has_an_answer() {
    // Proves that a real Prometheus which scrapes an Entrada with everything turned on finds numbers for each panel, and
    // can evaluate each alert.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    let (collector, audit) = (Collector::start().await, AuditLog::new());
    let world = World::start_with(|raw| {
        raw.otel_exporter_otlp_endpoint = Some(collector.url.clone());
        raw.audit = Some(audit.setting());
        raw.store = Some(format!("redis://{}", redis.address()));
    })
    .await;
    let prometheus = Prometheus::start(world.entrada.admin_addr).await;
    // Here one user signs in more often than people do.
    world.entra.set_loop_detector(false);
    let mut unanswered = queries(&dashboard());
    let asking = async {
        while !unanswered.is_empty() {
            traffic(&world).await;
            for (panel, query) in std::mem::take(&mut unanswered) {
                if !prometheus.query(&query).await.iter().any(|value| value.is_finite()) {
                    unanswered.push((panel, query));
                }
            }
        }
    };
    let answered = tokio::time::timeout(PATIENCE, asking).await;
    assert!(answered.is_ok(), "no answer: {unanswered:#?}");
    // `unknown` before the first evaluation.
    eventually("the rules' evaluation", || async {
        let rules = prometheus.get("rules").await;
        let rules = rules["groups"][0]["rules"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
        rules.iter().all(|rule| rule["health"] == "ok")
    })
    .await;
}

/// Each panel's title and query, with Grafana's variables put in as for "All".
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap()))
    });
    let put_in = |query: &str| {
        let query = query.replace("$__rate_interval", "1m");
        query.replace("$namespace", ".*").replace("$pod", ".*")
    };
    targets.map(|(title, query)| (title.to_owned(), put_in(query))).collect()
}
