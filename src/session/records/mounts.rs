//! What a browser has on the host of a mounted dashboard: a cookie, and the dashboard's bearer, which is derived from it.

use super::super::{AddTokenError, MAX_COOKIES_PER_MOUNT, MountEntry};
use super::{
    CredentialId, CredentialKeys, CredentialKind, CredentialRecord, Opener, Records, SessionId, UserTag,
};

impl Records {
    /// Adds both to the opener's session. More cookies than a browser has use for take the oldest one's place.
    ///
    /// # Errors
    /// When the session has ended.
    pub(in crate::session) fn enter_mount(
        &mut self,
        user: UserTag,
        opener: &Opener,
        entry: &MountEntry,
    ) -> Result<(), AddTokenError> {
        let unsealed = self.unseal(user, opener).map_err(|_| AddTokenError::SessionGone)?;
        let (data_key, mut identity) = unsealed.ok_or(AddTokenError::SessionGone)?;
        let session = &opener.session.id;
        while let Some(surplus) = self.surplus_cookie(session, entry) {
            self.remove(&surplus);
        }
        for (credential, key) in [&entry.cookie, &entry.bearer] {
            let record = CredentialRecord::new(user, credential, &CredentialKeys::of(key));
            self.credentials.insert(credential.id.clone(), record);
            self.bind(user, &credential.id, session, &data_key, &mut identity);
        }
        self.seal_identity(user, session, &data_key, &identity);
        Ok(())
    }

    /// The oldest of the session's cookies for the mount, where there are as many as there may be.
    fn surplus_cookie(&self, session: &SessionId, entry: &MountEntry) -> Option<CredentialId> {
        let is_one = |(_, record): &(&CredentialId, &CredentialRecord)| {
            record.kind() == CredentialKind::MountCookie
                && record.session.as_ref() == Some(session)
                && record.mount.as_deref() == entry.cookie.0.mounted.as_ref().map(|mounted| &*mounted.origin)
        };
        let cookies = || self.credentials.iter().filter(is_one);
        let is_full = cookies().count() >= MAX_COOKIES_PER_MOUNT;
        let oldest = cookies().min_by_key(|(_, record)| record.created_at).map(|(id, _)| id.clone());
        oldest.filter(|_| is_full)
    }
}
