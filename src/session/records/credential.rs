//! A credential's record, read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::bearer::ProofKey;
use super::super::{Credential, CredentialId, CredentialKind, Kept, Mounted, UserKey, UserTag};
use super::{Broken, Context, CredentialKeys, CredentialRecord, Owner, read};

/// How a credential is presented. What it is says `mount`, too: a version that does not know mounts still reads the
/// document, and accepts no credential of one, because it cannot verify the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    Cookie,
    Token,
}

impl CredentialRecord {
    /// The credential, as its own key proves it.
    pub(super) fn open(
        &self,
        user: UserTag,
        id: &CredentialId,
        keys: &CredentialKeys,
    ) -> Result<Credential, Broken> {
        let owner: Owner = read(&keys.open(&self.context(user, id), &self.owner)?)?;
        let key = UserKey { tid: owner.tid.as_str().into(), oid: owner.oid.as_str().into() };
        if key.tag() != user {
            return Err(Broken);
        }
        let mut credential = Credential { renewable: owner.renewable, ..self.credential(id, key) };
        if let (Some(mounted), Some(proof)) = (&mut credential.mounted, &owner.proof) {
            mounted.proof = ProofKey::from_bytes(proof);
        }
        Ok(credential)
    }

    /// What it is.
    pub(super) fn kind(&self) -> CredentialKind {
        match (self.form, &self.mount) {
            (Form::Cookie, None) => CredentialKind::Cookie,
            (Form::Cookie, Some(_)) => CredentialKind::MountCookie,
            (Form::Token, None) => CredentialKind::Token,
            (Form::Token, Some(_)) => CredentialKind::Bearer,
        }
    }

    /// Binds the owner to all that is fixed about the credential.
    pub(super) fn context(&self, user: UserTag, id: &CredentialId) -> Context {
        let idle = self.idle_ms.map_or_else(String::new, |idle| idle.to_string());
        let context = Context::of("credential")
            .and(user.as_bytes())
            .and(id.as_str())
            .and(self.digest.as_bytes())
            .and(self.form.name())
            .and(&self.name)
            .and(self.created_at.to_string())
            .and(self.expires_at.to_string())
            .and(idle)
            .and(self.public_key.as_bytes());
        match &self.mount {
            None => context,
            Some(mount) => context.and(mount).and(self.of.as_ref().map_or("", CredentialId::as_str)),
        }
    }

    pub(super) fn credential(&self, id: &CredentialId, user: UserKey) -> Credential {
        Credential {
            id: id.clone(),
            digest: self.digest,
            kind: self.kind(),
            user,
            name: self.name.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            idle: self.idle_ms.map(Duration::from_millis),
            // Told by the sealed part alone.
            renewable: false,
            mounted: self.mount.as_deref().map(|origin| Mounted {
                origin: origin.into(),
                cookie: self.of.clone(),
                proof: None,
            }),
            text: Kept::default(),
        }
    }
}

impl Form {
    pub(super) fn of(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Cookie | CredentialKind::MountCookie => Self::Cookie,
            CredentialKind::Token | CredentialKind::Bearer => Self::Token,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Token => "token",
        }
    }
}
