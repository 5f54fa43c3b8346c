//! Ordinary requests of many users, spread over replicas, while something happens to these or to their store.
//!
//! Each client has a connection of its own and keeps it as long as it is good. A request that was never sent, because
//! its connection turned out to be closed, is sent on another one, as every client does; one that was sent and got no
//! answer has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Dialer, H1, get};
use super::eventually;
use super::figures::Spread;
use super::service::{REPLICAS, Service, Targets, Told};
use super::world::{Account, Visitor};

/// 250 requests a second in all.
const CLIENTS: usize = 30;
const EVERY: Duration = Duration::from_millis(120);
/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that go on until they are stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Asked>>,
}

struct Shared {
    dialer: Dialer,
    targets: Arc<Targets>,
    accounts: Vec<Account>,
    stop: AtomicBool,
    answered: AtomicUsize,
    unsent: AtomicUsize,
}

/// A request and what became of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) replica: usize,
    /// The answer, or why there was none.
    pub(crate) outcome: Result<Told, String>,
}

/// All that was asked.
pub(crate) struct Record {
    pub(crate) all: Vec<Asked>,
    /// How many requests met a closed connection and were sent on another.
    pub(crate) unsent: usize,
}

impl Load {
    /// Begins to ask.
    pub(crate) fn start(dialer: &Dialer, service: &Service, visitors: &[Visitor]) -> Self {
        let shared = Arc::new(Shared {
            dialer: dialer.clone(),
            targets: service.targets.clone(),
            accounts: visitors.iter().map(|visitor| visitor.account.clone()).collect(),
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
        });
        let mut clients = JoinSet::new();
        (0..CLIENTS).for_each(|n| drop(clients.spawn(client(shared.clone(), n))));
        Self { shared, clients }
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn goes_on(&self, count: usize) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let until = answered() + count;
        eventually("load", || async { answered() >= until }).await;
    }

    pub(crate) async fn stop(self) -> Record {
        self.shared.stop.store(true, Ordering::Relaxed);
        let all = self.clients.join_all().await.into_iter().flatten().collect();
        Record { all, unsent: self.shared.unsent.load(Ordering::Relaxed) }
    }
}

async fn client(shared: Arc<Shared>, n: usize) -> Vec<Asked> {
    let mut open: Option<(H1, usize)> = None;
    let mut record = Vec::new();
    let offset = EVERY * u32::try_from(n).unwrap() / u32::try_from(CLIENTS).unwrap();
    let mut tick = tokio::time::interval_at(Instant::now() + offset, EVERY);
    // Each client asks for each user in turn.
    for account in shared.accounts.iter().cycle().skip(n) {
        let at = tick.tick().await;
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let asked = tokio::time::timeout(PATIENCE, ask(&shared, &mut open, n, account)).await;
        let (replica, outcome) = asked.unwrap_or_else(|_| {
            let replica = open.take().map_or(n % REPLICAS, |(_, replica)| replica);
            (replica, Err("no answer in time".to_owned()))
        });
        shared.answered.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        record.push(Asked { at, took: at.elapsed(), replica, outcome });
    }
    record
}

/// One request, on the open connection or on a new one.
async fn ask(
    shared: &Shared,
    open: &mut Option<(H1, usize)>,
    n: usize,
    account: &Account,
) -> (usize, Result<Told, String>) {
    let mut why = String::new();
    for step in 0..2 * REPLICAS {
        if let Some((sender, _)) = open
            && sender.ready().await.is_err()
        {
            *open = None;
        }
        if open.is_none() {
            let replica = shared.targets.at_or_after(n + step);
            match shared.dialer.h1(shared.targets.addrs[replica]).await {
                Ok(sender) => *open = Some((sender, replica)),
                Err(error) => {
                    why = format!("connect: {error}");
                    continue;
                }
            }
        }
        let (sender, replica) = open.as_mut().expect("opened above");
        let replica = *replica;
        match sender.try_send_request(get(&account.pods(), &account.token)).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                return match body.collect().await {
                    Ok(_) => (replica, Ok(Told::of(head.status, &head.headers))),
                    Err(error) => (replica, Err(format!("broken body: {error}"))),
                };
            }
            Err(mut error) => {
                *open = None;
                if error.take_message().is_none() {
                    return (replica, Err(format!("no answer: {:?}", error.error())));
                }
                shared.unsent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    (n % REPLICAS, Err(format!("not sent: {why}")))
}

impl Record {
    /// How many were answered with this status.
    pub(crate) fn told(&self, status: u16) -> usize {
        self.all.iter().filter(|asked| asked.outcome.as_ref().is_ok_and(|told| told.status == status)).count()
    }

    /// Those that were not served.
    pub(crate) fn failures(&self) -> Vec<&Asked> {
        self.other_than(&[200])
    }

    /// Those that were not answered with one of these statuses.
    pub(crate) fn other_than(&self, statuses: &[u16]) -> Vec<&Asked> {
        let is_one = |told: &Told| statuses.contains(&told.status);
        self.all.iter().filter(|asked| !asked.outcome.as_ref().is_ok_and(is_one)).collect()
    }

    /// How long those took that were due in this time, whatever their answer.
    pub(crate) fn spread(&self, from: Instant, to: Instant) -> Spread {
        let due = self.all.iter().filter(|asked| (from..to).contains(&asked.at));
        Spread::of(due.map(|asked| asked.took).collect())
    }

    /// Answers by status: 200, 401, 503, others, and none at all.
    pub(crate) fn summary(&self) -> String {
        let known = [200, 401, 503].map(|status| self.told(status));
        let none = self.all.iter().filter(|asked| asked.outcome.is_err()).count();
        let others = self.all.len() - none - known.iter().sum::<usize>();
        format!("{}, {}, {}, {others}, {none}", known[0], known[1], known[2])
    }
}
