use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use http::{HeaderMap, HeaderValue, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::config::{AuditFile, AuditRule};

static HEADERS: LazyLock<HeaderMap> =
    LazyLock::new(|| HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("kubectl"))]));
static URI: LazyLock<Uri> = LazyLock::new(|| "/api/v1/namespaces/team-a/pods/web?x=1".parse().unwrap());
const SOURCES: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
static ALICE: LazyLock<SessionText> =
    LazyLock::new(|| SessionText::new("alice@contoso.example", "00000000-oid", "00000000-tid", "a-session"));
static TOKEN: LazyLock<CredentialText> = LazyLock::new(|| CredentialText::new("a-credential", "token"));
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn object() -> Object<'static> {
    Object { group: "", version: "v1", resource: "pods", subresource: "", namespace: "team-a", name: "web" }
}

/// Somebody reads a pod.
pub(super) fn exchange() -> Exchange<'static> {
    Exchange {
        audit_id: "an-id",
        verb: "get",
        uri: Some(&URI),
        is_page: false,
        headers: &HEADERS,
        user: Some(User { session: &ALICE, credential: Some(&TOKEN) }),
        object: Some(object()),
        source_ips: &SOURCES,
        received: Timestamp::from_microsecond(1_800_000_000_123_456).unwrap(),
    }
}

pub(super) fn config(sink: AuditSink) -> AuditConfig {
    let everything = AuditRule { recorded: true, ..AuditRule::default() };
    AuditConfig { sink, policy: AuditPolicy { rules: vec![everything] }, strict: false, queue_bytes: 1 << 20 }
}

pub(super) fn start(config: &AuditConfig, clock: &Clock) -> (Audit, Metrics) {
    let metrics = Metrics::default();
    (Audit::start(config, clock, &metrics).unwrap(), metrics)
}

/// An audit log in a file.
struct World {
    audit: Audit,
    dir: tempfile::TempDir,
}

impl World {
    fn new(change: impl FnOnce(&mut AuditConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut config = config(AuditSink::File(AuditFile { path, max_bytes: 1 << 30, keep: 1 }));
        change(&mut config);
        Self { audit: start(&config, &Clock::movable()).0, dir }
    }

    /// The exchange is over.
    fn complete(&self, trail: Trail, outcome: &Outcome<'_>) {
        self.audit.complete(&trail, outcome);
    }

    /// Closes the log; all of its events.
    async fn events(self) -> Vec<Value> {
        self.audit.close(PATIENCE).await;
        let text = std::fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

/// Every field is what the API server's own event has, in the same form.
#[tokio::test]
async fn an_event_has_the_api_servers_form() {
    let world = World::new(|_| {});
    let trail = world.audit.received(&exchange()).unwrap();
    let refused = Outcome {
        reason: Some(RATE_LIMITED),
        told: Some(("TooManyRequests", "Slow \"down\"")),
        ..Outcome::of(429)
    };
    world.complete(trail, &refused);
    let events = world.events().await;
    let mut expected = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "an-id",
        "stage": "RequestReceived", "requestURI": "/api/v1/namespaces/team-a/pods/web?x=1", "verb": "get",
        "user": {"username": "alice@contoso.example", "extra": {
            "entrada.io/credential": ["a-credential"], "entrada.io/credential-kind": ["token"],
            "entrada.io/oid": ["00000000-oid"], "entrada.io/session": ["a-session"],
            "entrada.io/tid": ["00000000-tid"]}},
        "sourceIPs": ["192.0.2.1"], "userAgent": "kubectl",
        "objectRef": {"resource": "pods", "namespace": "team-a", "name": "web", "apiVersion": "v1"},
        "requestReceivedTimestamp": "2027-01-15T08:00:00.123456Z",
        "stageTimestamp": "2027-01-15T08:00:00.123456Z",
    });
    assert_eq!(events[0], expected);
    expected["stage"] = json!("ResponseComplete");
    expected["stageTimestamp"] = events[1]["stageTimestamp"].clone();
    expected["annotations"] = json!({"entrada.io/reason": "rate_limited"});
    expected["responseStatus"] = json!({
        "status": "Failure", "message": "Slow \"down\"", "reason": "TooManyRequests", "code": 429});
    assert_eq!(events[1], expected);
}

/// Only long-running requests have the stage ResponseStarted, and they have it once, refused ones included.
#[tokio::test]
async fn stages_are_the_api_servers() {
    let exec = Object { subresource: "exec", ..object() };
    let pprof = "/debug/pprof/heap".parse().unwrap();
    let get = exchange();
    let long = [
        Exchange { verb: "watch", ..get },
        Exchange { verb: "create", object: Some(exec), ..get },
        Exchange { object: Some(Object { subresource: "log", ..object() }), ..get },
        Exchange { object: None, uri: Some(&pprof), ..get },
    ];
    let short = [get, Exchange { object: Some(Object { subresource: "status", ..object() }), ..get }];
    for (exchanges, expected) in [
        (&long[..], vec!["RequestReceived", "ResponseStarted", "ResponseComplete"]),
        (&short[..], vec!["RequestReceived", "ResponseComplete"]),
    ] {
        for exchange in exchanges {
            for starts in [true, false] {
                let world = World::new(|_| {});
                let trail = world.audit.received(exchange).unwrap();
                if starts {
                    world.audit.started(&trail, &Outcome::of(200));
                }
                world.complete(trail, &Outcome::of(200));
                assert_eq!(stages(&world.events().await), expected, "{exchange:?}");
            }
        }
    }
}

/// Stages that the policy omits are left out, and what it does not record leaves no event at all.
#[tokio::test]
async fn the_policy_is_obeyed() {
    let world = World::new(|config| {
        let verbs = vec!["get".to_owned()];
        config.policy.rules =
            vec![AuditRule { recorded: true, verbs, omit: Stages::RECEIVED, ..AuditRule::default() }];
    });
    let trail = world.audit.received(&exchange()).unwrap();
    world.complete(trail, &Outcome::of(200));
    let trail = world.audit.received(&Exchange { verb: "list", ..exchange() }).unwrap();
    world.complete(trail, &Outcome::of(200));
    for verb in ["list", "get"] {
        let trail = world.audit.unidentified(&Exchange { verb, user: None, ..exchange() });
        world.complete(trail, &Outcome::of(401));
    }
    let events = world.events().await;
    assert_eq!(stages(&events), ["ResponseComplete", "ResponseComplete"]);
    assert_eq!(events[1]["user"], json!({}));
}

/// What people do with their sign-in is told in the same shape, as objects of the group `entrada.io`.
#[tokio::test]
async fn acts_are_events_of_their_own_kind() {
    let world = World::new(|_| {});
    let uri = "/callback?code=hunter2&state=hunter2".parse().unwrap();
    let visit = Exchange { uri: Some(&uri), is_page: true, object: None, ..exchange() };
    for act in [
        Act::SignIn("s"),
        Act::TokenMade("t"),
        Act::TokenArmed("t"),
        Act::TokenRevoked("t"),
        Act::AccessRenewed("s"),
        Act::SessionEnded("s", "user_disabled"),
        Act::SignOut("s"),
        Act::SignOutEverywhere,
        Act::SignOutByEntra,
    ] {
        world.audit.account(&visit, &act, &Outcome::of(200));
    }
    let events = world.events().await;
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let object = &event["objectRef"];
            assert_eq!((&object["apiGroup"], &object["apiVersion"]), (&json!("entrada.io"), &json!("v1")));
            assert!(!event.to_string().contains("hunter2") && event["requestURI"] == "/callback");
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            [
                text(&event["verb"]),
                text(&object["resource"]),
                text(&object["subresource"]),
                text(&object["name"]),
                text(&event["annotations"]["entrada.io/cause"]),
            ]
            .join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "create sessions - s -",
            "create tokens - t -",
            "update tokens arm t -",
            "delete tokens - t -",
            "update sessions access s -",
            "delete sessions - s user_disabled",
            "delete sessions - s sign_out",
            "deletecollection sessions - - sign_out_everywhere",
            "deletecollection sessions - - sign_out_by_entra",
        ]
    );
}

/// Whom a request asks to act as is told as the API server tells it.
#[tokio::test]
async fn impersonation_is_told() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("impersonate-user", "bob"),
        ("impersonate-uid", "7"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-extra-acme.com%2fproject", "one"),
        ("impersonate-extra-acme.com%2fproject", "two"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let world = World::new(|_| {});
    world.audit.received(&Exchange { headers: &headers, ..exchange() }).unwrap();
    let events = world.events().await;
    assert_eq!(
        events[0]["impersonatedUser"],
        json!({
        "username": "bob", "uid": "7", "groups": ["a", "b"], "extra": {"acme.com/project": ["one", "two"]}})
    );
}

/// However much a client sends, its events have a bound, and say what was cut.
#[tokio::test]
async fn what_a_client_sends_is_bounded() {
    let long = "\"".repeat(60_000);
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::try_from(&long).unwrap());
    for _ in 0..100 {
        headers.append("impersonate-group", HeaderValue::try_from("g".repeat(1_000)).unwrap());
    }
    let uri = format!("/api/v1/pods?x={}", "a".repeat(60_000)).parse().unwrap();
    let object = Object { name: &long, ..object() };
    let world = World::new(|_| {});
    world
        .audit
        .received(&Exchange { headers: &headers, uri: Some(&uri), object: Some(object), ..exchange() })
        .unwrap();
    let events = world.events().await;
    assert!(events[0].to_string().len() < 40_000);
    assert_eq!(
        events[0]["annotations"],
        json!({"entrada.io/cut": "impersonatedUser,objectRef,requestURI,userAgent"})
    );
    assert_eq!(events[0]["impersonatedUser"]["groups"].as_array().unwrap().len(), 8);
}

/// A sink that stands still until the test lets go of it.
struct Stuck(Receiver<()>);

impl writer::Sink for Stuck {
    fn write(&mut self, _events: &[u8]) -> anyhow::Result<()> {
        let _released = self.0.recv();
        Ok(())
    }
}

/// A sink that takes no more than so many bytes at once; what it took.
struct Narrow(usize, Sender<Vec<u8>>);

impl writer::Sink for Narrow {
    fn write(&mut self, events: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(events.len() <= self.0, writer::TooLarge);
        Ok(self.1.send(events.to_vec())?)
    }
}

/// What a sink refuses as too large comes in smaller portions; an event that it refuses by itself is lost and counted, and
/// stands in nobody's way.
#[tokio::test]
async fn what_is_too_large_at_once_is_written_in_portions() {
    let (sender, receiver) = channel();
    let (config, metrics) = (config(AuditSink::Stdout), Metrics::default());
    let sink = Box::new(Narrow(3_000, sender));
    let audit = Audit::start_with(sink, &config, &Clock::movable(), &metrics).unwrap();
    let long = Uri::try_from(format!("/api/{}", "x".repeat(5_000))).unwrap();
    for at in 0..20 {
        let one = exchange();
        let exchange = if at == 10 { Exchange { uri: Some(&long), ..one } } else { one };
        audit.received(&exchange).unwrap();
    }
    audit.close(PATIENCE).await;
    let taken: Vec<Vec<u8>> = receiver.try_iter().collect();
    assert!(taken.len() > 1 && taken.iter().all(|portion| portion.ends_with(b"\n")));
    let lines =
        taken.iter().map(|portion| portion.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>();
    let count = |outcome: &str| metrics.audit.events.with_label_values(&[outcome]).get();
    assert_eq!((lines, count("written"), count("dropped")), (19, 19, 1));
}

fn stuck(strict: bool, queue_bytes: usize) -> (Audit, Metrics, Sender<()>) {
    let (release, stuck) = channel();
    let config = AuditConfig { strict, queue_bytes, ..config(AuditSink::Stdout) };
    let metrics = Metrics::default();
    let audit = Audit::start_with(Box::new(Stuck(stuck)), &config, &Clock::movable(), &metrics).unwrap();
    (audit, metrics, release)
}

/// A full queue drops and counts; in strict mode it refuses, and what accepted requests have to say is kept.
#[tokio::test]
async fn strict_mode_refuses_instead_of_losing() {
    for strict in [false, true] {
        let (audit, metrics, release) = stuck(strict, 10_000);
        let answers: Vec<_> = (0..100).map(|_| audit.received(&exchange())).collect();
        let trails: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!((trails.len() < 100, audit.ready().is_err()), (strict, strict));
        trails.iter().for_each(|trail| audit.complete(trail, &Outcome::of(200)));
        let count = |outcome: &str| metrics.audit.events.with_label_values(&[outcome]).get();
        assert_eq!(count("dropped") > 0, !strict);
        let events = 2 * trails.len() as u64;
        drop((release, trails));
        audit.close(PATIENCE).await;
        assert_eq!(count("written") + count("dropped"), events);
        assert_eq!(metrics.audit.queue_bytes.get(), 0);
    }
}

/// While the sink stands still, what strangers and users beyond their rate limit are refused fills half of the queue at
/// most: so they cannot make strict mode refuse everybody else.
#[tokio::test]
async fn the_refused_fill_half_of_the_queue_at_most() {
    const BOUND: usize = 100_000;
    let over_rate = Outcome { reason: Some(RATE_LIMITED), ..Outcome::of(429) };
    let unknown = Exchange { user: None, ..exchange() };
    let bob = SessionText::new("bob@contoso.example", "another-oid", "00000000-tid", "b-session");
    let other = Exchange { user: Some(User { session: &bob, credential: Some(&TOKEN) }), ..exchange() };
    let floods: [&dyn Fn(&Audit); 5] = [
        &|audit| audit.complete(&audit.unidentified(&unknown), &Outcome::of(401)),
        &|audit| audit.account(&unknown, &Act::SignIn(""), &Outcome::of(403)),
        &|audit| audit.account(&exchange(), &Act::AccessRenewed("s"), &over_rate),
        &|audit| audit.account(&exchange(), &Act::TokenMade(""), &Outcome::of(400)),
        &|audit| {
            let _refused = audit.received(&exchange()).map(|trail| audit.complete(&trail, &over_rate));
        },
    ];
    for strict in [false, true] {
        for flood in floods {
            let (audit, metrics, release) = stuck(strict, BOUND);
            let queued = || usize::try_from(metrics.audit.queue_bytes.get()).unwrap();
            (0..1_000).for_each(|_| flood(&audit));
            assert!((BOUND * 2 / 5..=BOUND / 2).contains(&queued()), "{}", queued());
            let before = queued();
            let gone = Outcome::of(CLIENT_GONE);
            (0..16).for_each(|_| audit.account(&exchange(), &Act::TokenMade("t"), &gone));
            assert!(queued() > before, "they may have been made");
            let before = queued();
            let trails: Vec<_> = (0..16).map(|_| audit.received(&other).unwrap()).collect();
            trails.iter().for_each(|trail| audit.complete(trail, &Outcome::of(200)));
            assert!(queued() > before + 16 * 500, "another user's, of which the last may not be told yet");
            drop((release, trails));
            audit.close(PATIENCE).await;
        }
    }
}

/// A user whose rate limit is used up has the whole queue again when that is a while ago.
#[tokio::test]
async fn a_rate_limit_is_held_against_a_user_only_for_a_moment() {
    let over_rate = Outcome { reason: Some(RATE_LIMITED), ..Outcome::of(429) };
    let (audit, _metrics, release) = stuck(true, 10_000);
    let trails: Vec<_> = (0..100).map_while(|_| audit.received(&exchange()).ok()).take(8).collect();
    audit.complete(&trails[0], &over_rate);
    assert!(audit.received(&exchange()).is_err(), "the queue is more than half full");
    let later = exchange().received + jiff::SignedDuration::from_hours(1_000_000);
    assert!(audit.received(&Exchange { received: later, ..exchange() }).is_ok());
    drop((release, trails));
    audit.close(PATIENCE).await;
}

/// Where it is off, everything is answered at once and nothing is made.
#[tokio::test]
async fn without_a_sink_nothing_is_recorded() {
    let audit = Audit::default();
    assert!(!audit.is_on() && audit.ready().is_ok());
    let trail = audit.received(&exchange()).unwrap();
    audit.complete(&trail, &Outcome::of(200));
    audit.account(&exchange(), &Act::SignIn("s"), &Outcome::of(200));
    audit.close(PATIENCE).await;
}
