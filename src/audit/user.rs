//! What events say of who does it, put together once for each session and credential: it is a third of each event.

use super::flood::slot_of;
use crate::json::{field, key, object, string};

/// Of a session and its user.
#[derive(Debug)]
pub(crate) struct SessionText {
    pub(super) username: Box<str>,
    pub(super) oid: Box<str>,
    /// See `flood`.
    pub(super) slot: usize,
    /// A `UserInfo`.
    json: Box<[u8]>,
    /// Where in it that of the credential belongs: keys of maps stand in the order of the alphabet, as the API server writes
    /// them.
    credential_at: usize,
}

/// Of a credential.
#[derive(Debug)]
pub(crate) struct CredentialText(Box<[u8]>);

impl SessionText {
    /// `username`: the name that AKS knows the user by. Object id, tenant, and the session's id.
    #[must_use]
    pub(crate) fn new(username: &str, oid: &str, tid: &str, session: &str) -> Self {
        let (mut json, mut credential_at) = (Vec::new(), 0);
        object(&mut json, |json| {
            field(json, key!("username"), username);
            json.extend_from_slice(key!("extra").as_bytes());
            object(json, |json| {
                credential_at = json.len();
                list_of_one(json, key!("entrada.io/oid"), oid);
                list_of_one(json, key!("entrada.io/session"), session);
                list_of_one(json, key!("entrada.io/tid"), tid);
            });
        });
        Self {
            username: username.into(),
            oid: oid.into(),
            slot: slot_of(oid),
            json: json.into(),
            credential_at,
        }
    }

    pub(super) fn write(&self, text: &mut Vec<u8>, credential: Option<&CredentialText>) {
        let (before, after) = self.json.split_at(self.credential_at);
        text.extend_from_slice(before);
        match credential {
            None => text.extend_from_slice(after),
            Some(CredentialText(credential)) => {
                text.extend_from_slice(credential);
                text.push(b',');
                text.extend_from_slice(&after[1..]);
            }
        }
    }
}

impl CredentialText {
    /// Its id and its kind.
    #[must_use]
    pub(crate) fn new(id: &str, kind: &str) -> Self {
        let mut json = Vec::new();
        object(&mut json, |json| {
            list_of_one(json, key!("entrada.io/credential"), id);
            list_of_one(json, key!("entrada.io/credential-kind"), kind);
        });
        // It begins the object that it becomes part of, and does not end it.
        json.pop();
        Self(json.into())
    }
}

fn list_of_one(text: &mut Vec<u8>, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    text.push(b'[');
    string(text, value);
    text.push(b']');
}
