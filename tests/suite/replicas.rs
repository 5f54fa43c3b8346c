//! Several replicas of one Entrada that share a real Redis: the world's own, and others as processes beside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use standin::browser::Page;
use standin::entra::Endpoint;
use standin::redis::Redis;
use tempfile::TempDir;

use super::support::kubectl::Kubectl;
use super::support::program::{Program, settings, start};
use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// Requests of one user under way: more than a test sends at once.
const MANY: &str = "2000";

/// Replica A is the world's own Entrada; the others are processes of their own.
pub(crate) struct Replicas {
    pub(crate) world: World,
    others: Vec<Program>,
    pub(crate) redis: Redis,
    _directory: TempDir,
}

impl Replicas {
    pub(crate) async fn start(others: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let redis = Redis::start(directory.path()).await.unwrap();
        let store = format!("redis://{}", redis.address());
        let world = World::start_with(|raw| {
            raw.store = Some(store.clone());
            raw.max_requests_per_user = Some(MANY.to_owned());
        })
        .await;
        let mut replicas = Self { world, others: Vec::new(), redis, _directory: directory };
        for _ in 0..others {
            replicas.add().await;
        }
        replicas
    }

    /// One more replica, ready to serve.
    async fn add(&mut self) {
        let mut settings: BTreeMap<&str, String> = settings(&self.world);
        settings.insert("ENTRADA_STORE", format!("redis://{}", self.redis.address()));
        settings.insert("ENTRADA_MAX_REQUESTS_PER_USER", MANY.to_owned());
        let program = start(&settings).await;
        eventually("readiness", || async { program.probe("/readyz").await.starts_with("HTTP/1.1 200") })
            .await;
        self.others.push(program);
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let others = self.others.iter().map(|other| other.addr.parse().unwrap());
        std::iter::once(self.world.entrada.addr).chain(others).collect()
    }

    /// The addresses of all, the world's own first.
    pub(crate) fn urls(&self) -> Vec<String> {
        let others = self.others.iter().map(|other| format!("https://{}", other.addr));
        std::iter::once(self.world.url.clone()).chain(others).collect()
    }

    pub(crate) async fn get(&self, url: &str, path: &str, headers: &[(&str, &str)]) -> Page {
        let (browser, url) = (self.world.browser(), format!("{url}{path}"));
        browser.request(Method::GET, &url, headers, Bytes::new()).await.unwrap()
    }

    async fn list(&self, url: &str, token: &str) -> Page {
        self.get(url, PODS, &[("authorization", &format!("Bearer {token}"))]).await
    }
}

/// An HTTP/2 connection to a replica.
async fn h2(world: &World, addr: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(Wire::open_at(world, addr, b"h2").await.0);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The status of one list.
async fn list_over(mut connection: SendRequest<Empty<Bytes>>, token: &str) -> StatusCode {
    let request = Request::get(format!("https://localhost{PODS}"));
    let request = request.header("authorization", format!("Bearer {token}")).body(Empty::new()).unwrap();
    connection.ready().await.unwrap();
    let answer = connection.send_request(request).await.unwrap();
    let status = answer.status();
    answer.into_body().collect().await.unwrap();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_at_one_is_signed_in_at_all() {
    // Proves that cookie and token of one replica work at the others at once, and that a sign-out there ends them here.
    let replicas = Replicas::start(2).await;
    let (world, urls) = (&replicas.world, replicas.urls());
    let browser = world.signed_in("alice").await;
    let cookie = format!("__Host-entrada={}", world.session_cookie(&browser).unwrap());
    let token = world.token(&browser).await;
    for url in &urls {
        assert_eq!(replicas.list(url, &token).await.status, 200, "{url}");
        let who = replicas.get(url, "/whoami", &[("cookie", &cookie)]).await.json().unwrap();
        assert_eq!(who["credential"]["kind"], "cookie", "{url}");
    }
    // Signed out at another replica than the one that signed in.
    let headers = [("cookie", cookie.as_str()), ("origin", world.url.as_str())];
    let out = format!("{}/logout/everywhere", urls[1]);
    let answer = world.browser().request(Method::POST, &out, &headers, Bytes::new()).await.unwrap();
    assert_eq!(answer.status, 303);
    let signed_out = Instant::now();
    for url in &urls {
        eventually("the end", || async { replicas.list(url, &token).await.status == 401 }).await;
    }
    assert!(signed_out.elapsed() < Duration::from_secs(1), "{:?}", signed_out.elapsed());
    assert_eq!(world.entra.refreshes_of("alice"), 1, "of three replicas one asked Entra");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_and_three_thousand_requests_are_one_token_call() {
    // Proves that replicas which all need a new token at the same moment ask Entra once between them.
    let replicas = Replicas::start(2).await;
    let world = &replicas.world;
    // Too short to be of use to anybody but those who wait for it.
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.entra.set_access_token_lifetime(None);
    let before = world.entra.refreshes_of("alice");
    // As streams of a few connections: thousands of handshakes at once are another test.
    let addresses = replicas.addresses().into_iter().flat_map(|addr| [addr; 10]);
    let connections = join_all(addresses.map(|addr| h2(world, addr))).await;
    let requests = connections.iter().flat_map(|connection| [connection; 100]);
    let answers = join_all(requests.map(|connection| list_over(connection.clone(), &token))).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 3_000);
    assert_eq!(world.entra.refreshes_of("alice") - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_finds_its_session_gone_takes_the_token_with_it() {
    // Proves that the present token, which is good for ten more minutes, is not used any more, although nobody announced
    // the end.
    let replicas = Replicas::start(0).await;
    let (world, redis) = (&replicas.world, &replicas.redis);
    world.entra.set_access_token_lifetime(Some(Duration::from_hours(1)));
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(replicas.list(&world.url, &token).await.status, 200);
    world.advance(Duration::from_mins(50));
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    assert_eq!(replicas.list(&world.url, &token).await.status, 200, "while the renewal is under way");
    hold.arrived(1).await;
    let grants = redis.run(&["KEYS", "entrada:1:*:grant:*"]).unwrap();
    assert_eq!(redis.run(&["DEL", grants.trim()]).unwrap().trim(), "1");
    hold.release();
    eventually("the end", || async { replicas.list(&world.url, &token).await.status == 401 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_to_all_replicas_and_asked_for_once() {
    // Proves that a demand of a policy, which one replica met, is known to the others: Entra is not asked by each.
    let replicas = Replicas::start(2).await;
    let world = &replicas.world;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let token = world.token(&world.signed_in("alice").await).await;
    world.entra.set_mfa_required(true);
    let before = world.entra.refreshes_of("alice");
    for url in &replicas.urls() {
        let answer = replicas.list(url, &token).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("entrada-reason")),
            (401, "step_up_required"),
            "{url}"
        );
    }
    assert_eq!(world.entra.refreshes_of("alice") - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_demand_after_a_step_up_is_one_at_a_replica_that_has_just_started_too() {
    // Proves that the store tells whether a step-up has worked: what the replica knew that saw it is not needed.
    let mut replicas = Replicas::start(0).await;
    replicas.world.entra.set_mfa_required(true);
    let browser = replicas.world.browser();
    let page = browser.sign_in(&replicas.world.url, "alice").await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!(page.url.as_str(), replicas.world.at("/"), "{}", page.text());
    replicas.add().await;
    let (world, url) = (&replicas.world, replicas.urls().pop().unwrap());
    let cookie = world.session_cookie(&browser).unwrap();
    world.keep_secret(cookie.clone());
    world.entra.set_refused_with("alice", Some(50078));
    let cookie = format!("__Host-entrada={cookie}");
    let headers = [("cookie", cookie.as_str()), ("origin", world.url.as_str())];
    let refresh = format!("{url}/refresh");
    let demand = browser.request(Method::POST, &refresh, &headers, Bytes::new()).await.unwrap();
    assert_eq!((demand.status.as_u16(), demand.header("entrada-reason")), (401, "step_up_required"));
    let login = replicas.get(&url, "/login", &headers[..1]).await.location().unwrap();
    assert!(login.query().unwrap().contains("6dae42f8"), "{login}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_one_replica_was_told_of_counts_at_the_sign_in_at_another() {
    // Proves that the tokens of a blocked user wait for a click also where nobody had heard of the block.
    let mut replicas = Replicas::start(1).await;
    let world = &replicas.world;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let browser = world.signed_in("alice").await;
    let (token, other) = (world.token(&browser).await, world.signed_in("alice").await);
    world.entra.set_assigned("alice", false);
    let blocked = replicas.list(&replicas.urls()[1], &token).await;
    assert_eq!(blocked.header("entrada-reason"), "blocked_by_policy", "{}", blocked.text());
    // Nor is a token shown as active that does not work: it could not be armed then.
    let list = other.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    assert_eq!(list["tokens"][0]["state"], "dormant");
    world.entra.set_assigned("alice", true);
    replicas.others.remove(0).signal("-KILL");
    let world = &replicas.world;
    browser.sign_in(&world.url, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_one_ends_an_exec_through_another_within_a_second() {
    // Proves that live streams of other replicas end, with a real kubectl at one of them.
    let replicas = Replicas::start(1).await;
    let (world, urls) = (&replicas.world, replicas.urls());
    let browser = world.signed_in("alice").await;
    let kubeconfig = world.kubeconfig(&browser).await;
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let elsewhere = kubeconfig.with_extension("elsewhere.yaml");
    std::fs::write(&elsewhere, text.replace(&world.url, &urls[1])).unwrap();
    let kubectl = Kubectl::new(&elsewhere);
    let mut exec = kubectl.start(&["exec", "-i", "-n", "team-a", "web", "--", "cat"]);
    let mut stdin = exec.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"still there\n").await.unwrap();
    assert_eq!(exec.line().await.as_deref(), Some("still there"));
    let id = token_id(world, &browser).await;
    let origin = [("origin", world.url.as_str())];
    let revoked = Instant::now();
    let answer = browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    assert_eq!(answer.status, 204);
    exec.child.wait().await.unwrap();
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    let refused = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
    assert_ne!(refused.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_knows_everybody_and_a_killed_one_takes_nobody_along() {
    // Proves that neither a lost replica nor a new one signs anybody out.
    let mut replicas = Replicas::start(1).await;
    let token = replicas.world.token(&replicas.world.signed_in("alice").await).await;
    let url = replicas.urls().pop().unwrap();
    assert_eq!(replicas.list(&url, &token).await.status, 200);
    let killed = replicas.others.remove(0);
    killed.signal("-KILL");
    killed.ended().await;
    replicas.add().await;
    for url in replicas.urls() {
        assert_eq!(replicas.list(&url, &token).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_nothing_is_claimed_and_nobody_is_signed_out() {
    // Proves the outage rules as a client meets them: known sessions work, all else is a 503 that says to try again.
    let mut replicas = Replicas::start(0).await;
    let browser = replicas.world.signed_in("alice").await;
    let token = replicas.world.token(&browser).await;
    let id = token_id(&replicas.world, &browser).await;
    replicas.redis.kill();
    let world = &replicas.world;
    eventually("the loss", || async { world.admin("/readyz").await.1.contains("[!] store: away") }).await;
    assert_eq!(world.admin("/readyz").await.0, 200, "known sessions are served");
    assert_eq!(world.metric("entrada_store_up").await as i64, 0);
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let origin = [("origin", world.url.as_str())];
    let revoked = browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    assert_eq!((revoked.status.as_u16(), revoked.header("entrada-reason")), (503, "store_unavailable"));
    let stranger = entrada::secret::CredentialSecret::new_token();
    let unknown = world.call(Method::GET, PODS, stranger.expose()).await;
    assert_eq!((unknown.status.as_u16(), unknown.header("entrada-reason")), (503, "store_unavailable"));
    assert!(!unknown.header("retry-after").is_empty());
    let unknown = world.with_cookie("/whoami", "0000000000000000000000000000000000000000000000000").await;
    assert!(unknown.header("set-cookie").is_empty(), "no cookie is cleared");
    let sign_in = world.browser().sign_in(&world.url, "bob").await.unwrap();
    assert_eq!(sign_in.status, 400, "a callback that fails is a page");
    assert!(sign_in.text().contains("again"), "{}", sign_in.text());
    // And then all is well again. Nothing was kept on disk: the sessions are gone, which is said as what it is.
    replicas.redis.restart().await.unwrap();
    let world = &replicas.world;
    eventually("the return", || async { world.admin("/readyz").await.1.contains("[+] store") }).await;
    eventually("the news", || async { world.call(Method::GET, PODS, &token).await.status == 401 }).await;
    eventually("the log", || async { !world.logged("the store has lost its records").is_empty() }).await;
    world.signed_in("alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entra_refuses_while_the_store_is_away_is_not_asked_for_again() {
    // Proves that a session which cannot be ended now costs one call to Entra, and not one for each request.
    let mut replicas = Replicas::start(0).await;
    replicas.world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let token = replicas.world.token(&replicas.world.signed_in("alice").await).await;
    assert_eq!(replicas.list(&replicas.world.url, &token).await.status, 200);
    replicas.redis.kill();
    let world = &replicas.world;
    eventually("the loss", || async { world.admin("/readyz").await.1.contains("[!] store: away") }).await;
    world.entra.set_refused_with("alice", Some(50173));
    world.entra.reset_calls();
    let first = world.call(Method::GET, PODS, &token).await;
    assert_eq!((first.status.as_u16(), first.header("entrada-reason")), (503, "store_unavailable"));
    for _ in 0..5 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 401);
    }
    assert_eq!(world.entra.calls().token_refresh, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_for_its_user_waits_at_every_replica() {
    // Proves that no replica lets a computer in by a session whose user has to meet a demand first, whoever was told of it.
    let replicas = Replicas::start(1).await;
    let world = &replicas.world;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.entra.set_mfa_required(true);
    assert_eq!(replicas.list(&world.url, &token).await.header("entrada-reason"), "step_up_required");
    let cookie = format!("__Host-entrada={}", world.session_cookie(&browser).unwrap());
    for url in replicas.urls() {
        let answer = replicas.get(&url, "/device", &[("cookie", &cookie)]).await;
        let told = (answer.status.as_u16(), answer.header("entrada-reason"));
        assert_eq!(told, (401, "step_up_required"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_store_after_all_that_holds_no_secret_and_no_name() {
    // Proves it for all that people do: sign-ins, tokens, renewals and a sign-out, with everything that was issued.
    let replicas = Replicas::start(1).await;
    let (world, urls) = (&replicas.world, replicas.urls());
    let mut secrets = Vec::new();
    for user in ["alice", "bob"] {
        let browser = world.signed_in(user).await;
        let named = world.new_token(&browser, json!({ "name": "label-in-clear" })).await;
        let token = named["token"].as_str().unwrap().to_owned();
        for url in &urls {
            assert!([200, 403].contains(&replicas.list(url, &token).await.status.as_u16()));
        }
        let origin = [("origin", world.url.as_str())];
        browser.post_form(&world.at("/refresh"), &[], &origin).await.unwrap();
        browser.get(&world.at("/tokens")).await.unwrap();
        secrets.extend([token, world.session_cookie(&browser).unwrap()]);
        let who: Value = browser.get(&world.at("/whoami")).await.unwrap().json().unwrap();
        secrets
            .extend(["oid", "name", "username"].map(|field| who["user"][field].as_str().unwrap().to_owned()));
    }
    secrets.extend(world.entra.secrets());
    let dump = replicas.redis.dump().unwrap();
    let text = String::from_utf8_lossy(&dump);
    assert!(text.contains("label-in-clear"), "the dump is that of the store");
    let found = aho_corasick::AhoCorasick::new(&secrets).unwrap().find(&*text);
    assert!(found.is_none(), "{}", found.map(|found| &secrets[found.pattern()][..12]).unwrap_or_default());
}

async fn token_id(world: &World, browser: &standin::browser::Browser) -> String {
    let list = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    list["tokens"][0]["id"].as_str().unwrap().to_owned()
}
