//! Which sessions may have followed which in one browser.

use std::collections::{HashMap, HashSet};

use crate::session::SessionId;

/// What began in the place of a session, as far as its browser can tell: also where the sign-in may have failed.
#[derive(Debug, Default)]
pub(super) struct Browsers {
    followed_by: HashMap<SessionId, HashSet<SessionId>>,
}

impl Browsers {
    /// A session begins in the place of `old`. These may have followed that one, and end for it as well.
    pub(super) fn begins(&mut self, new: &SessionId, old: &SessionId) -> HashSet<SessionId> {
        let (mut all, mut left) = (HashSet::new(), vec![old.clone()]);
        while let Some(session) = left.pop() {
            if all.insert(session.clone()) {
                left.extend(self.followed_by.get(&session).into_iter().flatten().cloned());
            }
        }
        for session in &all {
            self.followed_by.entry(session.clone()).or_default().insert(new.clone());
        }
        all.remove(old);
        all
    }
}
