//! What can happen to a user's records. Each change is applied to a copy and put back as a whole, or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::{
    AddTokenError, Arming, EXPIRED_IS_KNOWN_FOR, Ending, MAX_SESSIONS_PER_USER, MAX_TOKENS_PER_USER,
    NewSession,
};
use super::{
    Broken, Credential, CredentialId, CredentialKind, CredentialRecord, Form, Identity, Opener, Owner,
    Records, Session, SessionId, SessionRecord, Successor, UserKey, UserTag, seal_grant, session_context,
    write,
};
use crate::secret::{CredentialKey, Digest};
use crate::session::seal::{CredentialKeys, DataKey, PublicKey};

/// A session that began, for what stands beside the document.
#[derive(Debug)]
pub(in crate::session) struct Begun {
    pub(in crate::session) grant: Vec<u8>,
    pub(in crate::session) sid: Option<Digest>,
}

impl Records {
    /// Begins a session with its first credential, in the place of the one that its browser had. Says which one of that
    /// browser is still to end in another user's records.
    pub(in crate::session) fn begin(
        &mut self,
        user: UserTag,
        new: &NewSession,
    ) -> (Begun, Option<Successor>) {
        let Opener { credential: cookie, session, key } = &new.opener;
        let (data_key, keys) = (DataKey::random(), CredentialKeys::of(key));
        let record = SessionRecord {
            created_at: session.created_at,
            expires_at: session.expires_at,
            identity: Vec::new(),
            data_keys: BTreeMap::new(),
            waits: None,
            other: serde_json::Map::new(),
        };
        self.sessions.insert(session.id.clone(), record);
        self.credentials.insert(cookie.id.clone(), CredentialRecord::new(user, cookie, &keys));
        let mut identity = Identity::new(session);
        self.bind(user, &cookie.id, &session.id, &data_key, &mut identity);
        let elsewhere = self.succeed(user, new, &data_key, &mut identity);
        self.seal_identity(user, &session.id, &data_key, &identity);
        while self.sessions.len() > MAX_SESSIONS_PER_USER {
            let oldest = self.sessions.iter().min_by_key(|(_, record)| record.created_at);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { break };
            self.end(&oldest, Ending::Natural);
        }
        let grant = seal_grant(&data_key, user, session, &new.grant);
        (Begun { grant, sid: session.sid }, elsewhere)
    }

    /// Adds a token to the opener's session.
    ///
    /// # Errors
    /// When the session has ended or the user has too many tokens.
    pub(in crate::session) fn add_token(
        &mut self,
        user: UserTag,
        opener: &Opener,
        token: &Credential,
        key: &CredentialKey,
    ) -> Result<(), AddTokenError> {
        let unsealed = self.unseal(user, opener).map_err(|_| AddTokenError::SessionGone)?;
        let (data_key, mut identity) = unsealed.ok_or(AddTokenError::SessionGone)?;
        self.make_room(token.created_at)?;
        let record = CredentialRecord::new(user, token, &CredentialKeys::of(key));
        self.credentials.insert(token.id.clone(), record);
        self.bind(user, &token.id, &opener.session.id, &data_key, &mut identity);
        self.seal_identity(user, &opener.session.id, &data_key, &identity);
        Ok(())
    }

    /// Lets tokens open the opener's session. What has expired or was changed meanwhile is left alone; says which were not.
    ///
    /// # Errors
    /// When the session's record was changed by somebody who does not hold the credential.
    pub(in crate::session) fn arm(
        &mut self,
        user: UserTag,
        opener: &Opener,
        tokens: &[Arming],
        now: Timestamp,
    ) -> Result<Vec<CredentialId>, Broken> {
        let Some((data_key, mut identity)) = self.unseal(user, opener)? else { return Ok(Vec::new()) };
        let mut armed = Vec::new();
        for Arming { token, had } in tokens {
            let Some(record) = self.credentials.get(token) else { continue };
            let is_token = record.kind() == CredentialKind::Token && now < record.expires_at;
            let has = record.session.as_ref().filter(|session| self.sessions.contains_key(session));
            if is_token && has == had.as_ref() {
                self.bind(user, token, &opener.session.id, &data_key, &mut identity);
                armed.push(token.clone());
            }
        }
        self.seal_identity(user, &opener.session.id, &data_key, &identity);
        Ok(armed)
    }

    /// Revokes a token, or a browser's cookie for a mounted dashboard, for ever. `false` when there is none by that id.
    pub(in crate::session) fn revoke(&mut self, id: &CredentialId) -> bool {
        let kind = self.credentials.get(id).map(CredentialRecord::kind);
        let is_one = matches!(kind, Some(CredentialKind::Token | CredentialKind::MountCookie));
        if is_one {
            self.remove(id);
        }
        is_one
    }

    /// Brings the end of the opener's credential forward. It takes the credential's key, under which the record is
    /// authenticated. `false`: it is gone, or ends by then anyway.
    ///
    /// # Errors
    /// When the record was changed by somebody who does not hold the credential.
    pub(in crate::session) fn shorten(
        &mut self,
        user: UserTag,
        opener: &Opener,
        ends_at: Timestamp,
    ) -> Result<bool, Broken> {
        let id = &opener.credential.id;
        let Some(record) = self.credentials.get_mut(id).filter(|record| ends_at < record.expires_at) else {
            return Ok(false);
        };
        let keys = CredentialKeys::of(&opener.key);
        let owner = keys.open(&record.context(user, id), &record.owner)?;
        record.expires_at = ends_at;
        record.owner = keys.seal(&record.context(user, id), &owner);
        Ok(true)
    }

    /// Ends a session: its cookie goes; its tokens too, or they become dormant. `false` when it had ended already.
    pub(in crate::session) fn end(&mut self, session: &SessionId, ending: Ending) -> bool {
        let existed = self.sessions.remove(session).is_some();
        self.credentials.retain(|_, record| {
            record.session.as_ref() != Some(session)
                || (record.kind() == CredentialKind::Token && ending == Ending::Natural)
        });
        for record in self.credentials.values_mut().filter(|record| record.session.as_ref() == Some(session))
        {
            record.session = None;
        }
        existed
    }

    /// Ends, naturally, the session that this cookie opens. `None` when there is no such cookie, or it opens none.
    pub(in crate::session) fn end_browser(&mut self, cookie: &CredentialId) -> Option<SessionId> {
        let record = self.credentials.get(cookie).filter(|record| record.kind() == CredentialKind::Cookie)?;
        let session = record.session.clone()?;
        self.end(&session, Ending::Natural).then_some(session)
    }

    /// Ends everything.
    pub(in crate::session) fn end_all(&mut self) {
        self.sessions.clear();
        self.credentials.clear();
        self.superseded.clear();
    }

    /// Ends sessions that have expired, and forgets credentials a day after their end.
    pub(in crate::session) fn prune(&mut self, now: Timestamp) {
        let over = self.sessions.iter().filter(|(_, record)| now >= record.expires_at);
        for session in over.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end(&session, Ending::Natural);
        }
        let long_ago = now.saturating_sub(EXPIRED_IS_KNOWN_FOR).unwrap_or(Timestamp::MIN);
        let old = self.credentials.iter().filter(|(_, record)| long_ago >= record.expires_at);
        for id in old.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
        self.forget_superseded(now);
    }

    /// Makes a credential open the session: seals the session's data key to it. One whose public key is none is left out.
    pub(super) fn bind(
        &mut self,
        user: UserTag,
        credential: &CredentialId,
        session: &SessionId,
        data_key: &DataKey,
        identity: &mut Identity,
    ) {
        let Some(record) = self.credentials.get_mut(credential) else { return };
        let Some(to) = self.sessions.get_mut(session) else { return };
        let context = to.context("data key", user, session).and(credential.as_str());
        let Ok(sealed) = data_key.seal_to(&record.public_key, &context) else { return };
        to.data_keys.insert(credential.clone(), sealed);
        identity.credentials.insert(credential.clone(), record.public_key);
        let before = record.session.replace(session.clone());
        if let Some(before) = before.filter(|before| before != session)
            && let Some(before) = self.sessions.get_mut(&before)
        {
            before.data_keys.remove(credential);
        }
    }

    pub(super) fn seal_identity(
        &mut self,
        user: UserTag,
        session: &SessionId,
        data_key: &DataKey,
        identity: &Identity,
    ) {
        let mut identity = identity.clone();
        // Who was revoked, or has moved to another session, is not listed any more.
        identity.credentials.retain(|id, _| {
            self.credentials.get(id).is_some_and(|record| record.session.as_ref() == Some(session))
        });
        if let Some(record) = self.sessions.get_mut(session) {
            let context = session_context("identity", user, session, record.created_at, record.expires_at);
            record.identity = data_key.seal(&context, &write(&identity));
        }
    }

    /// A bearer goes with the cookie that it is derived from.
    pub(super) fn remove(&mut self, credential: &CredentialId) {
        let derived = self.credentials.iter().filter(|(_, record)| record.of.as_ref() == Some(credential));
        let mut all: Vec<CredentialId> = derived.map(|(id, _)| id.clone()).collect();
        all.push(credential.clone());
        for id in all {
            let session = self.credentials.remove(&id).and_then(|record| record.session);
            if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
                session.data_keys.remove(&id);
            }
        }
    }

    /// Expired tokens are kept for a day, but only as long as there is room.
    fn make_room(&mut self, now: Timestamp) -> Result<(), AddTokenError> {
        let tokens = || self.credentials.iter().filter(|(_, record)| record.kind() == CredentialKind::Token);
        let live = tokens().filter(|(_, record)| now < record.expires_at).count();
        if live >= MAX_TOKENS_PER_USER {
            return Err(AddTokenError::TooMany);
        }
        if tokens().count() >= MAX_TOKENS_PER_USER {
            let oldest = tokens().min_by_key(|(_, record)| record.expires_at).map(|(id, _)| id.clone());
            if let Some(oldest) = oldest {
                self.remove(&oldest);
            }
        }
        Ok(())
    }
}

impl CredentialRecord {
    pub(super) fn new(user: UserTag, credential: &Credential, keys: &CredentialKeys) -> Self {
        let UserKey { tid, oid } = &credential.user;
        let idle = credential.idle.map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        let mounted = credential.mounted.as_ref();
        let mut record = Self {
            digest: credential.digest,
            form: Form::of(credential.kind),
            name: credential.name.clone(),
            created_at: credential.created_at,
            expires_at: credential.expires_at,
            idle_ms: idle,
            mount: mounted.map(|mounted| mounted.origin.to_string()),
            of: mounted.and_then(|mounted| mounted.cookie.clone()),
            public_key: keys.public(),
            owner: Vec::new(),
            session: None,
            other: serde_json::Map::new(),
        };
        let proof = mounted.and_then(|mounted| mounted.proof.as_ref());
        let owner = Owner {
            tid: tid.to_string(),
            oid: oid.to_string(),
            renewable: credential.renewable,
            proof: proof.map(|proof| proof.expose().to_vec()),
        };
        record.owner = keys.seal(&record.context(user, &credential.id), &write(&owner));
        record
    }
}

impl Identity {
    fn new(session: &Session) -> Self {
        Self {
            tid: session.user.tid.to_string(),
            oid: session.user.oid.to_string(),
            name: session.name.clone(),
            username: session.username.clone(),
            home_account_id: session.home_account_id.clone(),
            login_hint: session.login_hint.clone(),
            sid: session.sid,
            stepped_up: session.stepped_up,
            credentials: BTreeMap::<CredentialId, PublicKey>::new(),
        }
    }
}
