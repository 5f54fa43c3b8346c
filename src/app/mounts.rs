//! Dashboards on hosts of their own.

use anyhow::Context;

use super::Foundation;
use crate::config::{Config, MountConfig, PublicUrl};
use crate::http::forwarded::Forwarding;
use crate::mounts::{Mount, Mounts};
use crate::transport::{Timeouts, Transport};

impl Foundation {
    /// Each with connections of its own, so that a dashboard that hangs keeps none from the API.
    pub(super) fn mounts(&self, config: &Config, timeouts: Timeouts) -> anyhow::Result<Mounts> {
        let mount = |mount: &MountConfig| {
            let connections = self.budget.mount;
            let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
            let transport = Transport::new(mount.dashboard.clone(), connections, timeouts, metrics, shutdown)
                .context("ENTRADA_MOUNTS")?;
            let forwarding = forwarding(config, &mount.url);
            let (streams, clock) = (self.streams.clone(), self.clock.clone());
            Ok(Mount::new(mount.url.clone(), transport, streams, forwarding, clock))
        };
        Ok(Mounts::new(config.mounts.iter().map(mount).collect::<anyhow::Result<_>>()?))
    }
}

/// Makes the headers that tell a server behind us by which host and way a request came.
pub(super) fn forwarding(config: &Config, url: &PublicUrl) -> Forwarding {
    Forwarding::new(config.trusted_proxies.clone(), url.origin().trim_start_matches("https://"))
}
