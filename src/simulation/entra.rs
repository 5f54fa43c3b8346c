//! An Entra that takes its time, sometimes fails, and notices when it is asked twice at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::Violation;
use super::net::{Net, pause};
use crate::broker::Minter;
use crate::clock::{Clock, after};
use crate::entra::{Class, EntraFault, Minted};
use crate::secret::{AksToken, RefreshToken};
use crate::session::SessionId;

/// Short, so that a schedule of a few minutes holds several renewals.
pub(super) const TOKEN_LIVES: Duration = Duration::from_secs(45);
/// How long before a call its lease may have been in doubt.
const EXCUSED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct SimulatedEntra {
    net: Arc<Net>,
    clock: Clock,
    calls: Mutex<HashMap<String, usize>>,
    pub(super) violation: Mutex<Option<Violation>>,
}

impl SimulatedEntra {
    pub(super) fn new(net: Arc<Net>, clock: Clock) -> Arc<Self> {
        Arc::new(Self { net, clock, calls: Mutex::default(), violation: Mutex::default() })
    }

    fn begin(&self, session: &str) {
        let mut calls = self.calls.lock().unwrap();
        let under_way = calls.entry(session.to_owned()).or_default();
        *under_way += 1;
        let excused = self.net.excused.lock().unwrap().get(&SessionId::from(session)).copied();
        let is_excused = excused.is_some_and(|at| at.elapsed() < EXCUSED_FOR);
        if *under_way > 1 && !is_excused {
            let what = format!("{under_way} calls at once for session {session}");
            *self.violation.lock().unwrap() = Some(Violation { rule: "no renewal is doubled", what });
        }
    }
}

/// Counts a call down also when its caller dies.
struct UnderWay<'a>(&'a SimulatedEntra, String);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(calls) = self.0.calls.lock().unwrap().get_mut(&self.1) {
            *calls -= 1;
        }
    }
}

#[async_trait]
impl Minter for SimulatedEntra {
    async fn mint(&self, refresh_token: &RefreshToken) -> Result<Minted, EntraFault> {
        let session = refresh_token.expose().split(' ').next().unwrap_or_default().to_owned();
        let minted_at = self.clock.now();
        self.begin(&session);
        let under_way = UnderWay(self, session.clone());
        let (takes, fails) = {
            let mut rng = self.net.rng();
            let is_slow = rng.percent(10);
            (if is_slow { rng.millis(3_000, 12_000) } else { rng.millis(20, 800) }, rng.percent(5))
        };
        pause(takes).await;
        drop(under_way);
        if fails {
            let mut fault = EntraFault::unusable_token();
            fault.class = Class::Transient;
            return Err(fault);
        }
        Ok(Minted {
            aks_token: AksToken::new(format!("aks {session} {minted_at}")),
            minted_at,
            expires_at: after(minted_at, TOKEN_LIVES),
            refresh_in: None,
            refresh_token: Some(RefreshToken::new(format!("{session} {minted_at}"))),
        })
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}
