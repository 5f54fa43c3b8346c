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
mod user;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use dashmap::DashMap;
use thiserror::Error;

use self::rate::Buckets;
pub(crate) use self::user::Share;
use self::user::{Kind, Limits, User};
use crate::config::RateLimit;
use crate::identity::Identity;
use crate::policy::{Passage, Permit};
use crate::route::Facts;
use crate::session::{Session, UserKey};

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
    limits: Limits,
    users: DashMap<UserKey, Arc<User>>,
    sign_in_rate: Option<Buckets<IpAddr>>,
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
            limits: Limits { rate, requests: requests_per_user, dashboards: dashboards_per_user },
            users: DashMap::new(),
            sign_in_rate: sign_in_rate.map(Buckets::new),
        }
    }

    /// Admits one Kubernetes request. Waits a second at most for the user's other requests.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub(crate) async fn admit(&self, permit: Permit) -> Result<Admitted, OverQuota> {
        let user = self.user(permit.identity().session());
        if !permit.facts().is_counted_as_stream() && !user.take_turn().await {
            return Err(OverQuota::Rate);
        }
        let share = Some(user.take_share(Kind::Request).await.ok_or(OverQuota::Requests)?);
        Ok(Admitted { permit, share })
    }

    /// Admits one request to a dashboard. Waits a second at most for the user's other ones.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub(crate) async fn admit_passage(&self, passage: Passage) -> Result<AdmittedPassage, OverQuota> {
        let user = self.user(passage.identity().session());
        if !user.take_turn().await {
            return Err(OverQuota::Rate);
        }
        let share = user.take_share(Kind::Dashboard).await.ok_or(OverQuota::Dashboards)?;
        Ok(AdmittedPassage { passage, share })
    }

    /// Admits one request of a user to a page of ours.
    ///
    /// # Errors
    /// When the user's rate is used up.
    pub(crate) async fn admit_visit(&self, identity: &Identity) -> Result<(), OverQuota> {
        let is_within = self.user(identity.session()).take_turn().await;
        if is_within { Ok(()) } else { Err(OverQuota::Rate) }
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
        if let Some(rate) = &self.sign_in_rate {
            rate.sweep();
        }
        // Each request under way has a handle to its user, and each session that is known here. Who has none can get one from the map
        // alone, which waits while this looks.
        self.users.retain(|_, user| Arc::strong_count(user) > 1 || !user.is_fresh(self.limits));
    }

    /// The session's user, who is the same for all of the user's sessions.
    fn user(&self, session: &Session) -> Arc<User> {
        session.places.limits.share(|| {
            let user = self.users.entry(session.user.clone());
            user.or_insert_with(|| Arc::new(User::new(self.limits))).clone()
        })
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
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::clock::pause;
    use crate::session::conformance::new_session;

    fn session(user: &str) -> Arc<Session> {
        new_session(user, Timestamp::UNIX_EPOCH).1.session
    }

    /// A user's sessions share the user's limits, and nobody else does.
    #[tokio::test(start_paused = true)]
    async fn each_user_has_limits_of_their_own() {
        let quotas = Quotas::new(None, None, 1, 1);
        let take = |session: &Session| quotas.user(session).take_share(Kind::Request);
        let _first = take(&session("alice")).await.unwrap();
        assert!(take(&session("alice")).await.is_none());
        assert!(take(&session("bob")).await.is_some());
    }

    /// Forgotten is who has used nothing for a while, has nothing under way, and whose session is not known here any more.
    #[tokio::test(start_paused = true)]
    async fn a_user_who_uses_nothing_is_forgotten() {
        let limit = RateLimit { per_second: 1.0, burst: 2 };
        let quotas = Quotas::new(Some(limit), None, 1, 1);
        let alice = session("alice");
        assert!(quotas.user(&alice).take_turn().await);
        let share = quotas.user(&session("bob")).take_share(Kind::Request).await;
        quotas.sweep();
        assert_eq!(quotas.users.len(), 2);
        drop((alice, share));
        quotas.sweep();
        assert_eq!(quotas.users.len(), 1, "alice's rate is still used");
        pause(Duration::from_secs(1)).await;
        quotas.sweep();
        assert!(quotas.users.is_empty());
    }

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
