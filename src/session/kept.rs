//! What later stages keep beside a session or a credential, because each of its requests needs it.
//!
//! A request finds it with the session, and asks no further map for it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// One stage's place. What is kept there is no part of the session: it is made, or found elsewhere, when it is asked for
/// first, and goes with the session.
#[derive(Default)]
pub(crate) struct Kept(OnceLock<Arc<dyn Any + Send + Sync>>);

/// The places beside a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Of its user, for the log and the audit log.
    pub(crate) text: Kept,
    /// What its user has of the limits.
    pub(crate) limits: Kept,
    /// Its AKS token.
    pub(crate) token: Kept,
}

impl Kept {
    /// What is kept here, or what `find` says when there is nothing yet.
    ///
    /// # Panics
    /// When the place is used for two types.
    pub(crate) fn get<T: Any + Send + Sync>(&self, find: impl FnOnce() -> Arc<T>) -> &T {
        self.0.get_or_init(|| find()).downcast_ref().expect("one place, one type")
    }

    /// Reads a word of what is kept here.
    pub(super) fn word(&self) -> usize {
        self.0.get().map_or(0, Arc::strong_count)
    }

    /// The same, to be held on its own.
    ///
    /// # Panics
    /// When the place is used for two types.
    pub(crate) fn share<T: Any + Send + Sync>(&self, find: impl FnOnce() -> Arc<T>) -> Arc<T> {
        self.0.get_or_init(|| find()).clone().downcast().expect("one place, one type")
    }
}

impl Clone for Kept {
    /// An empty place: a copy of a record may be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Kept(…)" } else { "Kept" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is found once, both ways of asking give the same, and a copy has nothing of it.
    #[test]
    #[expect(clippy::redundant_clone, reason = "the copy is what is tested")]
    fn what_is_kept_is_found_once() {
        let kept = Kept::default();
        let found = kept.share(|| Arc::new("first".to_owned()));
        assert_eq!(kept.get(|| Arc::new("second".to_owned())), "first");
        assert!(Arc::ptr_eq(&found, &kept.share(|| Arc::new("third".to_owned()))));
        assert_eq!(kept.clone().get(|| Arc::new("of the copy".to_owned())), "of the copy");
        assert_eq!(format!("{:?} {kept:?}", Kept::default()), "Kept Kept(…)");
    }
}
