//! One replica: the real store, broker, streams and authenticator, wired as `app` wires them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::Broken;
use super::net::{Net, Wire};
use crate::audit::Audit;
use crate::broker::{Broker, Minter};
use crate::clock::Clock;
use crate::identity::{Authenticator, Identity, Refused};
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::session::{Endings, Opener, SealedStore, Uses};
use crate::shutdown::Shutdown;
use crate::streams::{NotOpened, Stream, StreamKind, Streams};
use crate::upkeep::Upkeep;

/// As `ENTRADA_STORE_STALENESS`, but shorter, so that schedules reach it.
pub(super) const STALENESS: Duration = Duration::from_secs(10);

/// Nobody reads them: to make them anew for each replica would be a seventh of the work.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(Arc::default);

pub(super) struct Replica {
    pub(super) store: Arc<SealedStore<Wire>>,
    pub(super) broker: Arc<Broker>,
    streams: Streams,
    authenticator: Authenticator,
    shutdown: Shutdown,
}

impl Replica {
    pub(super) fn start(
        net: &Arc<Net>,
        replica: usize,
        minter: Arc<dyn Minter>,
        clock: &Clock,
        broken: Broken,
    ) -> Self {
        let (shutdown, endings) = (Shutdown::default(), Endings::default());
        let wire = Wire { net: net.clone(), replica };
        let store = Arc::new(SealedStore::new(wire, endings.clone(), STALENESS));
        let streams = Streams::new(1_000, clock.clone(), shutdown.clone(), Duration::ZERO, METRICS.clone());
        if broken.no_recheck {
            streams.skip_recheck();
        }
        let broker = Broker::new(minter, store.clone(), clock.clone(), shutdown.clone(), Audit::default());
        endings.listen({
            let (streams, broker) = (streams.clone(), Arc::downgrade(&broker));
            move |ended| {
                streams.end(ended);
                if let Some(broker) = broker.upgrade() {
                    broker.forget(ended);
                }
            }
        });
        let uses = Uses::new(store.clone());
        let authenticator = Authenticator::new(store.clone(), uses.clone(), clock.clone());
        let kept = store.clone();
        shutdown.spawn_beside("store", async move { kept.run().await });
        let upkeep = Upkeep {
            quotas: Arc::new(Quotas::new(None, None, usize::MAX, usize::MAX)),
            streams: streams.clone(),
            authenticator: authenticator.clone(),
            broker: broker.clone(),
            store: store.clone(),
            uses,
            clock: clock.clone(),
        };
        shutdown.spawn_beside("judging of streams", upkeep.judge_streams());
        Self { store, broker, streams, authenticator, shutdown }
    }

    /// Who presents this credential.
    pub(super) async fn identify(&self, opener: &Opener) -> Result<Identity, Refused> {
        self.authenticator.confirm(opener).await
    }

    /// Opens a stream for who was identified.
    pub(super) fn open(&self, identity: &Identity) -> Result<Stream, NotOpened> {
        self.streams.open(StreamKind::Watch, identity.opener(), identity.ends_at(), identity.found_at())
    }

    /// Dies: what is under way stops where it is.
    pub(super) async fn die(self) {
        self.shutdown.finish().await;
    }
}
