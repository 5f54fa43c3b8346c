//! The backend that replicas share: Redis or Valkey, alone, behind Sentinel, or as a cluster.
//!
//! ```text
//! entrada:1:{<user>}:records          hash   v version, d document
//! entrada:1:{<user>}:grant:<session>  hash   at granted at, g sealed grant
//! entrada:1:{<user>}:uses             hash   credential → last use
//! entrada:1:{<user>}:lease:<session>  string h<holder>, or f<sealed failure>
//! entrada:1:credential:<digest>       string user
//! entrada:1:sid:<digest>              set    "user session"
//! entrada:1:beat:<replica>            string, a minute: that the server takes writes
//! entrada:1:mark                      string: that the store is the one that was seen before
//! entrada:1:changes                   channel
//! ```
//!
//! The braces put all keys of a user into one slot of a cluster, and each script touches the keys of one user only. The
//! two indexes lie elsewhere: they are written before the document and removed after it, so that what they lead to may be
//! missing, and is then unknown, but what stands is always found. Every key has an expiry.

mod link;
mod login;
mod scripts;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, RedisError, ScriptInvocation};

use self::link::Link;
pub(crate) use self::login::{Credentials, Login};
use self::scripts::Scripts;
use super::{Backend, Events, Lease, Stored, StoredGrant, Swap, UsesOf, Version};
use crate::config::RedisConfig;
use crate::secret::Digest;
use crate::session::{CredentialId, LastUse, SessionId, StoreError, UserTag};

/// Changes in this form of the records change this number: see `docs/security.md`.
const PREFIX: &str = "entrada:1:";
const CHANNEL: &str = "entrada:1:changes";

/// Sealed records in Redis.
pub(crate) struct Redis {
    link: Link,
    scripts: Scripts,
}

impl Redis {
    /// Nothing is connected yet: [`Backend::run`] does that, and goes on doing it.
    #[must_use]
    pub(crate) fn new(config: RedisConfig, login: Login) -> Self {
        Self { link: Link::new(config, login), scripts: Scripts::new() }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.link.connection()?;
        let value = connection.req_packed_command(command).await;
        value.and_then(|value| Ok(T::from_redis_value(value)?)).map_err(|error| self.link.failed(&error))
    }

    async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut connection = self.link.connection()?;
        script.invoke_async(&mut connection).await.map_err(|error: RedisError| self.link.failed(&error))
    }

    /// What leads to the user, before there is a document to be led to.
    async fn index(&self, user: UserTag, swap: &Swap) -> Result<(), StoreError> {
        for (digest, until) in &swap.digests {
            let mut set = redis::cmd("SET");
            set.arg(credential_key(digest)).arg(user.to_string()).arg("PXAT").arg(until.as_millisecond());
            self.ask::<()>(&set).await?;
        }
        for (sid, session, until) in &swap.sids {
            let member = format!("{user} {session}");
            let mut add = self.scripts.add_to_set.prepare_invoke();
            add.key(sid_key(sid)).arg(member).arg(until.as_millisecond());
            self.call::<()>(&add).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Redis {
    async fn run(&self, events: &dyn Events) {
        self.link.run(events).await;
    }

    async fn user_of(&self, digest: &Digest) -> Result<Option<UserTag>, StoreError> {
        let user: Option<String> = self.ask(redis::cmd("GET").arg(credential_key(digest))).await?;
        Ok(user.and_then(|text| UserTag::parse(&text)))
    }

    async fn load(&self, user: UserTag) -> Result<Stored, StoreError> {
        let mut invocation = self.scripts.load.prepare_invoke();
        invocation.key(records_key(user)).key(uses_key(user));
        let (version, document, uses): (Option<String>, Option<Vec<u8>>, Vec<(String, String)>) =
            self.call(&invocation).await?;
        let uses =
            uses.iter().filter_map(|(id, text)| Some((CredentialId::from(id.as_str()), parse_use(text)?)));
        Ok(Stored {
            version: Version(version.unwrap_or_default()),
            document: document.map(Bytes::from),
            uses: uses.collect(),
        })
    }

    async fn swap(&self, user: UserTag, swap: Swap) -> Result<bool, StoreError> {
        self.index(user, &swap).await?;
        let mut invocation = self.scripts.swap.prepare_invoke();
        invocation.key(records_key(user)).key(uses_key(user));
        invocation.arg(&swap.expected.0).arg(&swap.version.0).arg(&*swap.document);
        invocation
            .arg(swap.expires_at.as_millisecond())
            .arg(CHANNEL)
            .arg(format!("c {user} {}", swap.version.0));
        invocation.arg(swap.ended.len()).arg(swap.grants.len()).arg(swap.gone.len());
        for session in &swap.ended {
            invocation.key(grant_key(user, session));
        }
        for grant in &swap.grants {
            invocation.key(grant_key(user, &grant.session));
            invocation
                .arg(order(grant.granted_at))
                .arg(&*grant.sealed)
                .arg(grant.expires_at.as_millisecond());
        }
        for (id, _) in &swap.gone {
            invocation.arg(id.as_str());
        }
        let swapped: bool = self.call(&invocation).await?;
        if swapped && !swap.gone.is_empty() {
            for (_, digest) in &swap.gone {
                // One that stays leads to nothing, and expires.
                let _left = self.ask::<()>(redis::cmd("DEL").arg(credential_key(digest))).await;
            }
        }
        Ok(swapped)
    }

    async fn grant(&self, user: UserTag, session: &SessionId) -> Result<Option<Bytes>, StoreError> {
        let sealed: Option<Vec<u8>> =
            self.ask(redis::cmd("HGET").arg(grant_key(user, session)).arg("g")).await?;
        Ok(sealed.map(Bytes::from))
    }

    async fn renew(&self, user: UserTag, grant: &StoredGrant) -> Result<bool, StoreError> {
        let mut invocation = self.scripts.renew.prepare_invoke();
        invocation.key(grant_key(user, &grant.session)).arg(order(grant.granted_at)).arg(&*grant.sealed);
        invocation.arg(CHANNEL).arg(format!("r {}", grant.session));
        self.call(&invocation).await
    }

    async fn touch(&self, uses: &[UsesOf]) -> Result<(), StoreError> {
        for UsesOf { user, uses, expires_at } in uses {
            let mut invocation = self.scripts.touch.prepare_invoke();
            invocation.key(uses_key(*user)).key(records_key(*user)).arg(expires_at.as_millisecond());
            for (id, last) in uses {
                invocation.arg(id.as_str()).arg(format!("{} {}", order(last.at), last.from));
            }
            self.call::<()>(&invocation).await?;
        }
        Ok(())
    }

    async fn by_sid(&self, sid: &Digest) -> Result<Vec<(UserTag, SessionId)>, StoreError> {
        let members: Vec<String> = self.ask(redis::cmd("SMEMBERS").arg(sid_key(sid))).await?;
        let parse = |text: &String| {
            let (user, session) = text.split_once(' ')?;
            Some((UserTag::parse(user)?, SessionId::from(session)))
        };
        Ok(members.iter().filter_map(parse).collect())
    }

    async fn lease(
        &self,
        user: UserTag,
        session: &SessionId,
        holder: &str,
        lasts: Duration,
        insists: bool,
    ) -> Result<Lease, StoreError> {
        let mut invocation = self.scripts.lease.prepare_invoke();
        invocation.key(lease_key(user, session)).arg(format!("h{holder}"));
        invocation.arg(millis(lasts)).arg(u8::from(insists));
        let (answer, left): (Vec<u8>, u64) = self.call(&invocation).await?;
        Ok(match answer.split_first() {
            Some((b'f', failure)) => Lease::Failed(Bytes::copy_from_slice(failure)),
            Some((b'h', other)) if other != holder.as_bytes() => Lease::Theirs(Duration::from_millis(left)),
            _ => Lease::Mine,
        })
    }

    async fn release(
        &self,
        user: UserTag,
        session: &SessionId,
        holder: &str,
        failure: Option<(Bytes, Duration)>,
    ) -> Result<(), StoreError> {
        let mut invocation = self.scripts.release.prepare_invoke();
        invocation.key(lease_key(user, session)).arg(format!("h{holder}"));
        let (left, lasts) = failure.unwrap_or_default();
        invocation.arg(&*left).arg(millis(lasts)).arg(CHANNEL).arg(format!("r {session}"));
        self.call(&invocation).await
    }

    /// Redis forgets by itself.
    async fn sweep(&self, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

fn records_key(user: UserTag) -> String {
    format!("{PREFIX}{{{user}}}:records")
}

fn uses_key(user: UserTag) -> String {
    format!("{PREFIX}{{{user}}}:uses")
}

fn grant_key(user: UserTag, session: &SessionId) -> String {
    format!("{PREFIX}{{{user}}}:grant:{session}")
}

fn lease_key(user: UserTag, session: &SessionId) -> String {
    format!("{PREFIX}{{{user}}}:lease:{session}")
}

fn credential_key(digest: &Digest) -> String {
    format!("{PREFIX}credential:{}", hex(digest))
}

fn sid_key(sid: &Digest) -> String {
    format!("{PREFIX}sid:{}", hex(sid))
}

fn hex(digest: &Digest) -> String {
    use fmt::Write as _;
    digest.as_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A time as text whose alphabetical order is that of the times: nanoseconds in twenty digits.
fn order(time: Timestamp) -> String {
    format!("{:020}", time.as_nanosecond().max(0))
}

fn parse_use(text: &str) -> Option<LastUse> {
    let (at, from) = text.split_once(' ')?;
    let at = Timestamp::from_nanosecond(at.parse().ok()?).ok()?;
    Some(LastUse { at, from: from.parse().ok()? })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
