//! How tokens are handed over to computers.

use std::time::Duration;

use super::check::Checker;
use super::{HandoverConfig, Lifetimes, RawConfig};

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3_600);

impl Checker {
    pub(super) fn handover(&mut self, raw: &RawConfig, lifetimes: &Lifetimes) -> HandoverConfig {
        const ON_OR_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
        let loopback = self.choice("ENTRADA_LOOPBACK_LOGIN", raw.loopback_login.as_deref(), ON_OR_OFF);
        let device = self.choice("ENTRADA_DEVICE_LOGIN", raw.device_login.as_deref(), ON_OR_OFF);
        let lifetime = raw.cli_token_lifetime.as_deref();
        HandoverConfig {
            loopback: loopback.unwrap_or_default(),
            device: device.unwrap_or_default(),
            // Who allows no token to live longer than an hour means these, too.
            token_lifetime: self
                .duration("ENTRADA_CLI_TOKEN_LIFETIME", lifetime, HALF_A_DAY)
                .min(lifetimes.token),
        }
    }
}
