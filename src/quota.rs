//! What one user may take at once, so that enough is left for the others: [`Permit`] in, [`Admitted`] out.
//!
//! - *Rate*: requests in a second, a token bucket (`ENTRADA_RATE_LIMIT`; off by default). Watch, exec, attach and
//!   port-forward do not count: they have a bound of their own, `ENTRADA_MAX_STREAMS_PER_USER`.
//! - *Share*: ordinary requests under way at once (`ENTRADA_MAX_REQUESTS_PER_USER`), each counted until its answer's
//!   last byte. So one user never holds every connection to the API server.
//! - Requests to mounted dashboards have both: the same rate, and a share of their own, because each of their answers may
//!   go on for ever.
//! - Sign-ins have a rate for each address (`ENTRADA_SIGNIN_RATE_LIMIT`; off by default).
//!
//! Each replica counts for itself.

mod rate;
mod share;

use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

use self::rate::Buckets;
pub(crate) use self::share::Share;
use self::share::Shares;
use crate::config::RateLimit;
use crate::identity::Identity;
use crate::policy::{Passage, Permit};
use crate::route::Facts;
use crate::session::UserKey;

/// Evidence that a permitted request is within its user's limits. Made here only.
#[derive(Debug)]
pub(crate) struct Admitted {
    permit: Permit,
    share: Option<Share>,
}

/// Evidence that a request to a dashboard is within its user's limits. Made here only.
#[derive(Debug)]
pub(crate) struct AdmittedPassage {
    passage: Passage,
    share: Share,
}

/// Which limit a request exceeds.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum OverQuota {
    /// More requests in a second than `ENTRADA_RATE_LIMIT`.
    #[error("the user's rate limit is used up")]
    Rate,
    /// More requests under way than `ENTRADA_MAX_REQUESTS_PER_USER`.
    #[error("the user has too many requests under way")]
    Requests,
    /// More requests to dashboards under way than one user may have.
    #[error("the user has too many requests to dashboards under way")]
    Dashboards,
    /// More sign-ins from an address than `ENTRADA_SIGNIN_RATE_LIMIT`.
    #[error("the address's sign-in rate limit is used up")]
    SignIns,
}

/// The limits, and what is used of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    rate: Option<Buckets<UserKey>>,
    sign_in_rate: Option<Buckets<IpAddr>>,
    shares: Shares,
    dashboards: Shares,
}

impl AdmittedPassage {
    /// The request, and its place among its user's, to be held until its answer's last byte.
    pub(crate) fn into_parts(self) -> (Passage, Share) {
        (self.passage, self.share)
    }
}

impl Admitted {
    /// Whose request it is.
    #[must_use]
    pub(crate) fn identity(&self) -> &Identity {
        self.permit.identity()
    }

    /// What the request's head says.
    #[must_use]
    pub(crate) fn facts(&self) -> &Facts {
        self.permit.facts()
    }

    /// Takes its place among its user's requests, to be held until its answer's last byte; that of a stream, until it is
    /// registered as one.
    pub(crate) fn take_share(&mut self) -> Option<Share> {
        self.share.take()
    }
}

impl Quotas {
    /// Rates that are `None` have no limit. `requests_per_user`: how many may be under way at once; `dashboards_per_user`, to
    /// all dashboards together.
    #[must_use]
    pub(crate) fn new(
        rate: Option<RateLimit>,
        sign_in_rate: Option<RateLimit>,
        requests_per_user: usize,
        dashboards_per_user: usize,
    ) -> Self {
        Self {
            rate: rate.map(Buckets::new),
            sign_in_rate: sign_in_rate.map(Buckets::new),
            shares: Shares::new(requests_per_user),
            dashboards: Shares::new(dashboards_per_user),
        }
    }

    /// Admits one Kubernetes request. Waits a second at most for the user's other requests.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub(crate) async fn admit(&self, permit: Permit) -> Result<Admitted, OverQuota> {
        let user = &permit.identity().credential().user;
        if !permit.facts().is_counted_as_stream() {
            self.admit_visit(user).await?;
        }
        let share = Some(self.shares.take(user).await.ok_or(OverQuota::Requests)?);
        Ok(Admitted { permit, share })
    }

    /// Admits one request to a dashboard. Waits a second at most for the user's other ones.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub(crate) async fn admit_passage(&self, passage: Passage) -> Result<AdmittedPassage, OverQuota> {
        let user = &passage.identity().credential().user;
        self.admit_visit(user).await?;
        let share = self.dashboards.take(user).await.ok_or(OverQuota::Dashboards)?;
        Ok(AdmittedPassage { passage, share })
    }

    /// Admits one request of a user to a page of ours.
    ///
    /// # Errors
    /// When the user's rate is used up.
    pub(crate) async fn admit_visit(&self, user: &UserKey) -> Result<(), OverQuota> {
        match &self.rate {
            Some(buckets) if !buckets.take_soon(user).await => Err(OverQuota::Rate),
            _ => Ok(()),
        }
    }

    /// Admits one step of a sign-in, by anyone.
    ///
    /// # Errors
    /// When the address's rate is used up.
    pub(crate) fn admit_sign_in(&self, client: IpAddr) -> Result<(), OverQuota> {
        let is_within = self.sign_in_rate.as_ref().is_none_or(|buckets| buckets.take(&block(client)));
        if is_within { Ok(()) } else { Err(OverQuota::SignIns) }
    }

    /// Forgets users and addresses that use nothing of their limits.
    pub(crate) fn sweep(&self) {
        if let Some(rate) = &self.rate {
            rate.sweep();
        }
        if let Some(rate) = &self.sign_in_rate {
            rate.sweep();
        }
        self.shares.sweep();
        self.dashboards.sweep();
    }
}

/// What is counted as one address. Of IPv6 it is the /64, all of which one machine may have.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with a whole /64 is one address; its neighbour is another.
    #[test]
    fn a_network_of_one_machine_is_one_address() {
        let limit = RateLimit { per_second: 0.001, burst: 1 };
        let quotas = Quotas::new(None, Some(limit), 1, 1);
        let admit = |text: &str| quotas.admit_sign_in(text.parse().unwrap());
        assert_eq!(admit("2001:db8::1"), Ok(()));
        assert_eq!(admit("2001:db8::ffff:2"), Err(OverQuota::SignIns));
        assert_eq!(admit("2001:db8:0:1::1"), Ok(()));
        assert_eq!(admit("192.0.2.1"), Ok(()));
        assert_eq!(admit("::ffff:192.0.2.1"), Err(OverQuota::SignIns), "the same, in the other form");
        assert_eq!(admit("192.0.2.2"), Ok(()));
    }
}
