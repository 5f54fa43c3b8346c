use super::*;
use crate::clock::after;
use crate::secret::CredentialSecret;
use crate::session::{Credential, CredentialKind, Places, Session, SessionId};

struct World {
    clock: Clock,
    shutdown: Shutdown,
    streams: Streams,
}

const DRAIN: Duration = Duration::from_secs(20);

fn world() -> World {
    let (clock, shutdown) = (Clock::movable(), Shutdown::default());
    let streams = Streams::new(2, clock.clone(), shutdown.clone(), DRAIN, Arc::default());
    World { clock, shutdown, streams }
}

fn opener(now: Timestamp) -> Opener {
    let user = UserKey { tid: "t".into(), oid: "o".into() };
    let key = CredentialSecret::new_token().key();
    let hour = Duration::from_secs(3_600);
    let kind = CredentialKind::Token;
    let credential = Credential::new(*key.digest(), kind, user.clone(), String::new(), now, hour, None);
    let session = Session {
        id: SessionId::random(),
        user,
        name: String::new(),
        username: String::new(),
        home_account_id: None,
        login_hint: None,
        sid: None,
        stepped_up: false,
        created_at: now,
        expires_at: after(now, hour),
        places: Places::default(),
    };
    Opener { credential: Arc::new(credential), session: Arc::new(session), key }
}

impl World {
    fn open(&self, kind: StreamKind, opener: &Opener) -> Result<Stream, NotOpened> {
        self.streams.open(kind, opener, self.in_seconds(60), Instant::now())
    }

    fn in_seconds(&self, seconds: u64) -> Timestamp {
        after(self.clock.now(), Duration::from_secs(seconds))
    }
}

async fn is_over(stream: &Stream) -> bool {
    tokio::time::timeout(Duration::ZERO, stream.over()).await.is_ok()
}

/// A stream ends with its credential, and only with its own.
#[tokio::test]
async fn a_stream_ends_with_its_credential() {
    let world = world();
    let (one, two) = (opener(world.clock.now()), opener(world.clock.now()));
    let first = world.open(StreamKind::Watch, &one).unwrap();
    let second = world.open(StreamKind::Tunnel, &two).unwrap();
    assert_eq!(world.open(StreamKind::Watch, &one).unwrap_err(), NotOpened::TooMany);
    world.streams.end_of(&one.credential.id, Fate::Void);
    assert_eq!(first.over().await, Over::Credential(Fate::Void));
    assert!(!is_over(&second).await);
    drop(second);
    // A token that is armed again while its old stream still lingers begins anew.
    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
    let second = world.open(StreamKind::Watch, &one).unwrap();
    assert!(!is_over(&second).await);
    drop(first);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(second.over().await, Over::Credential(Fate::Dormant), "the session's deadline");
}

/// An end between the lookup of a credential and the opening of its stream is not missed.
#[tokio::test]
async fn a_credential_that_ended_since_the_look_at_it_opens_no_stream() {
    let world = world();
    let opener = opener(world.clock.now());
    let found_at = Instant::now();
    world.streams.end_of(&opener.credential.id, Fate::Dormant);
    let late = world.streams.open(StreamKind::Watch, &opener, world.in_seconds(60), found_at);
    assert_eq!(late.unwrap_err(), NotOpened::Ended(Fate::Dormant));
    assert!(world.streams.openers().is_empty(), "nothing is left of it");
}

/// A stream lives on when its credential's end moves, and ends at the new one.
#[tokio::test]
async fn a_deadline_moves_with_its_credential() {
    let world = world();
    let opener = opener(world.clock.now());
    let later = world.in_seconds(600);
    let stream = world.open(StreamKind::Tunnel, &opener).unwrap();
    world.streams.set_deadline(&opener.credential.id, later);
    world.clock.advance(Duration::from_secs(61));
    assert!(!is_over(&stream).await);
    world.clock.advance(Duration::from_secs(540));
    stream.over().await;
}

/// At a soft stop a watch leaves within the window, a tunnel does not.
#[tokio::test]
async fn a_soft_stop_ends_watches_and_spares_tunnels() {
    let world = world();
    let watch = world.open(StreamKind::Watch, &opener(world.clock.now())).unwrap();
    let tunnel = world.open(StreamKind::Tunnel, &opener(world.clock.now())).unwrap();
    let over = watch.over();
    tokio::pin!(over);
    assert!(tokio::time::timeout(Duration::ZERO, &mut over).await.is_err());
    world.shutdown.begin();
    // Looked at once, so that its moment is chosen before the clock moves.
    if tokio::time::timeout(Duration::ZERO, &mut over).await.is_err() {
        world.clock.advance(DRAIN);
        assert_eq!(over.await, Over::Stopping);
    }
    assert!(!is_over(&tunnel).await);
}

/// A stream that is over counts for its user until its client has taken the end; for the metric, and for the credential, not.
#[tokio::test(start_paused = true)]
async fn a_closed_stream_keeps_its_place() {
    let world = world();
    let opener = opener(world.clock.now());
    let place = world.open(StreamKind::Watch, &opener).unwrap().close();
    let _second = world.open(StreamKind::Watch, &opener).unwrap();
    assert_eq!(world.open(StreamKind::Watch, &opener).unwrap_err(), NotOpened::TooMany);
    let open = world.streams.inner.metrics.streams.with_label_values(&["watch"]);
    assert_eq!((open.get(), world.streams.openers().len()), (1, 1));
    drop(place);
    assert!(world.open(StreamKind::Watch, &opener).is_ok());
}
