//! What failed a moment ago and need not be tried again yet: per user, and for the whole process where the fault is
//! an administrator's. Entra itself counts identical requests (15 in 5 minutes trip its loop detector).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use jiff::Timestamp;

use crate::clock::after;
use crate::entra::{Class, EntraFault};
use crate::session::UserKey;

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LATER_PAUSE: Duration = Duration::from_secs(60);
/// Entra's `Retry-After` is honoured up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct FaultMemory {
    users: DashMap<UserKey, Remembered>,
    process: ArcSwapOption<Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    fault: Arc<EntraFault>,
    until: Timestamp,
    count: u32,
}

impl FaultMemory {
    /// The failure that makes a call pointless right now.
    pub(super) fn active(&self, user: &UserKey, now: Timestamp) -> Option<Arc<EntraFault>> {
        let of_user = self.users.get(user).map(|remembered| remembered.clone());
        let of_process = self.process.load_full().map(|remembered| (*remembered).clone());
        let active = of_user.into_iter().chain(of_process).find(|remembered| now < remembered.until);
        active.map(|remembered| remembered.fault)
    }

    /// The last failure of the user that no success followed, however long ago.
    pub(super) fn standing(&self, user: &UserKey) -> Option<Arc<EntraFault>> {
        let of_user = self.users.get(user).map(|remembered| remembered.fault.clone());
        of_user.or_else(|| self.process.load().as_ref().map(|remembered| remembered.fault.clone()))
    }

    pub(super) fn remember(&self, user: &UserKey, fault: &Arc<EntraFault>, now: Timestamp) {
        let again = |before: u32| Remembered {
            fault: fault.clone(),
            until: after(now, pause(fault, before)),
            count: before.saturating_add(1),
        };
        if fault.class == Class::Admin {
            let before = self.process.load().as_ref().map_or(0, |remembered| remembered.count);
            self.process.store(Some(Arc::new(again(before))));
        } else {
            let before = self.users.get(user).map_or(0, |remembered| remembered.count);
            self.users.insert(user.clone(), again(before));
        }
    }

    /// After a new sign-in of the user.
    pub(super) fn forget(&self, user: &UserKey) {
        self.users.remove(user);
    }

    /// After a success: what stood in the way of the user, and of the process, is gone.
    pub(super) fn succeeded(&self, user: &UserKey) {
        self.users.remove(user);
        if self.process.load().is_some() {
            self.process.store(None);
        }
    }

    /// Drops what is long over; a standing fault is kept for an hour for the portal and the next sign-in.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.users.retain(|_, remembered| now < after(remembered.until, Duration::from_secs(3_600)));
    }
}

fn pause(fault: &EntraFault, before: u32) -> Duration {
    let own = if before == 0 { FIRST_PAUSE } else { LATER_PAUSE };
    fault.retry_after.map_or(own, |asked| asked.clamp(own, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pause grows once, and Entra's own wish is honoured within bounds.
    #[test]
    fn pauses_back_off() {
        let fault = |seconds: Option<u64>| EntraFault {
            class: Class::Transient,
            sentence: String::new(),
            code: None,
            error: String::new(),
            correlation_id: String::new(),
            trace_id: None,
            claims: None,
            retry_after: seconds.map(Duration::from_secs),
        };
        assert_eq!(pause(&fault(None), 0).as_secs(), 30);
        assert_eq!(pause(&fault(None), 1).as_secs(), 60);
        assert_eq!(pause(&fault(Some(120)), 0).as_secs(), 120);
        assert_eq!(pause(&fault(Some(86_400)), 0).as_secs(), 600);
        assert_eq!(pause(&fault(Some(1)), 0).as_secs(), 30);
    }
}
