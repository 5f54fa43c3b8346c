//! How many codes are redeemed at once. Anyone can bring a code: one request to `/login` gives a genuine attempt, and what
//! stands for the code is only known to be none when Entra has been asked. So this is the bound on what somebody
//! without a session can make us ask Entra.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Entra;
use crate::metrics::Metrics;

/// Entra takes a few hundred milliseconds: about a hundred sign-ins a second. Each holds one connection, and Entra may
/// throttle the whole application for many more.
const AT_ONCE: usize = 32;
/// Longer than an honest crowd needs, say when everybody signs in anew, and short enough for a person to wait for.
const WAIT: Duration = Duration::from_secs(5);

/// The turns to redeem a code; who asked first is served first.
#[derive(Debug)]
pub(super) struct Redemptions {
    turns: Arc<Semaphore>,
    waiting: IntGauge,
    under_way: IntGauge,
}

/// The right to redeem one code. Dropping it gives the turn to the next.
#[derive(Debug)]
pub(crate) struct RedemptionTurn {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Nobody's turn ended in time. The code was not spent.
#[derive(Clone, Copy, Debug, Error)]
#[error("too many codes are being redeemed")]
pub(crate) struct TooManyRedemptions;

/// One more in a gauge, for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Redemptions {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |state| metrics.redemptions.with_label_values(&[state]);
        let (waiting, under_way) = (gauge("waiting"), gauge("under_way"));
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting, under_way }
    }
}

impl Entra {
    /// Waits for the turn to redeem a code. Dropping the wait gives the place up.
    ///
    /// # Errors
    /// When it does not come within a few seconds.
    pub(crate) async fn turn_to_redeem(&self) -> Result<RedemptionTurn, TooManyRedemptions> {
        let redemptions = &self.redemptions;
        let waiting = Counted::new(&redemptions.waiting);
        let permit = tokio::select! {
            biased;
            // The semaphore is never closed.
            permit = redemptions.turns.clone().acquire_owned() => permit.map_err(|_| TooManyRedemptions)?,
            () = self.clock.pause(WAIT) => return Err(TooManyRedemptions),
        };
        drop(waiting);
        Ok(RedemptionTurn { _permit: permit, _counted: Counted::new(&redemptions.under_way) })
    }
}

impl Counted {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
