//! The backend that replicas share: Redis or Valkey, alone, behind Sentinel, or as a cluster.
//!
//! ```text
//! entrada:1:{<user>}:records          hash   v version, d document
//! entrada:1:{<user>}:grant:<session>  hash   at granted at, g sealed grant
//! entrada:1:{<user>}:uses             hash   credential → last use
//! entrada:1:{<user>}:lease:<session>  string h<holder>, or f<sealed failure>
//! entrada:1:{<user>}:claim:<session>  string that an access was renewed by hand within the last minute
//! entrada:1:credential:<digest>       string user
//! entrada:1:sid:<digest>              set    "user session"
//! entrada:1:handover:<place>          string, for minutes: what waits between two requests of a hand-over
//! entrada:1:beat:<replica>            string, a minute: that the server takes writes
//! entrada:1:mark                      string: that the store is the one that was seen before
//! entrada:1:changes                   channel
//! ```
//!
//! The braces put all keys of a user into one slot of a cluster, and each script touches the keys of one user only. The
//! two indexes lie elsewhere: they are written before the document and removed after it, so that what they lead to may be
//! missing, and is then unknown, but what stands is always found. Every key has an expiry.

mod connection;
mod examine;
mod handovers;
mod link;
mod login;
mod scripts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue};
use tokio::time::Instant;

pub(crate) use self::examine::{Examined, Unreached, examine};
use self::link::Link;
pub(crate) use self::login::{Credentials, Login};
use self::scripts::Script;
use super::{Backend, Events, Lease, Stored, StoredGrant, Swap, UsesOf, Version};
use crate::config::RedisConfig;
use crate::metrics::Metrics;
use crate::secret::Digest;
use crate::session::{CredentialId, LastUse, SessionId, StoreError, UserTag};

/// Changes in this form of the records change this number: see `docs/security.md`.
const PREFIX: &str = "entrada:1:";
const CHANNEL: &str = "entrada:1:changes";

/// Sealed records in Redis.
pub(crate) struct Redis {
    link: Link,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Nothing is connected yet: [`Backend::run`] does that, and goes on doing it.
    #[must_use]
    pub(crate) fn new(config: RedisConfig, login: Login, metrics: Arc<Metrics>) -> Self {
        Self { link: Link::new(config, login), metrics }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.link.connection()?;
        let began = Instant::now();
        let value = connection.req_packed_command(command).await;
        self.metrics.store_seconds.observe(began.elapsed().as_secs_f64());
        value.and_then(|value| Ok(T::from_redis_value(value)?)).map_err(|error| {
            self.metrics.store_failures.inc();
            self.link.failed(&error)
        })
    }

    async fn call<T: FromRedisValue>(&self, script: &Script) -> Result<T, StoreError> {
        self.ask(&script.command()).await
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
            let mut add = Script::new(scripts::ADD_TO_SET);
            add.key(sid_key(sid)).arg(member).arg(until.as_millisecond());
            self.call::<()>(&add).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Redis {
    const IS_SHARED: bool = true;

    async fn run(&self, events: &dyn Events) {
        self.link.run(events).await;
    }

    async fn user_of(&self, digest: &Digest) -> Result<Option<UserTag>, StoreError> {
        let user: Option<String> = self.ask(redis::cmd("GET").arg(credential_key(digest))).await?;
        Ok(user.and_then(|text| UserTag::parse(&text)))
    }

    async fn load(&self, user: UserTag, known: &Version) -> Result<Stored, StoreError> {
        let mut script = Script::new(scripts::LOAD);
        script.key(records_key(user)).key(uses_key(user)).arg(&known.0);
        let (version, document, uses): (Option<String>, Option<Vec<u8>>, Vec<(String, String)>) =
            self.call(&script).await?;
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
        let mut script = Script::new(scripts::SWAP);
        script.key(records_key(user)).key(uses_key(user));
        script.arg(&swap.expected.0).arg(&swap.version.0).arg(&*swap.document);
        script.arg(swap.expires_at.as_millisecond()).arg(CHANNEL).arg(format!("c {user} {}", swap.version.0));
        script.arg(swap.ended.len()).arg(swap.grants.len()).arg(swap.gone.len());
        for session in &swap.ended {
            script.key(grant_key(user, session));
        }
        for grant in &swap.grants {
            script.key(grant_key(user, &grant.session));
            script.arg(order(grant.granted_at)).arg(&*grant.sealed).arg(grant.expires_at.as_millisecond());
        }
        for id in &swap.gone {
            script.arg(id.as_str());
        }
        self.call(&script).await
    }

    async fn grant(&self, user: UserTag, session: &SessionId) -> Result<Option<Bytes>, StoreError> {
        let sealed: Option<Vec<u8>> =
            self.ask(redis::cmd("HGET").arg(grant_key(user, session)).arg("g")).await?;
        Ok(sealed.map(Bytes::from))
    }

    async fn renew(&self, user: UserTag, grant: &StoredGrant) -> Result<bool, StoreError> {
        let mut script = Script::new(scripts::RENEW);
        script.key(grant_key(user, &grant.session)).arg(order(grant.granted_at)).arg(&*grant.sealed);
        script.arg(CHANNEL).arg(format!("r {}", grant.session));
        self.call(&script).await
    }

    async fn touch(&self, uses: &[UsesOf]) -> Result<(), StoreError> {
        for UsesOf { user, uses, expires_at } in uses {
            let mut script = Script::new(scripts::TOUCH);
            script.key(uses_key(*user)).key(records_key(*user)).arg(expires_at.as_millisecond());
            for (id, last) in uses {
                script.arg(id.as_str()).arg(format!("{} {}", order(last.at), last.from));
            }
            self.call::<()>(&script).await?;
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
        let mut script = Script::new(scripts::LEASE);
        script.key(lease_key(user, session)).arg(format!("h{holder}"));
        script.arg(millis(lasts)).arg(u8::from(insists));
        let (answer, left): (Vec<u8>, u64) = self.call(&script).await?;
        Ok(match answer.split_first() {
            Some((b'f', failure)) => {
                Lease::Failed(Bytes::copy_from_slice(failure), Duration::from_millis(left))
            }
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
        let mut script = Script::new(scripts::RELEASE);
        script.key(lease_key(user, session)).arg(format!("h{holder}"));
        let (left, lasts) = failure.unwrap_or_default();
        script.arg(&*left).arg(millis(lasts)).arg(CHANNEL).arg(format!("r {session}"));
        self.call(&script).await
    }

    async fn claim(
        &self,
        user: UserTag,
        session: &SessionId,
        lasts: Duration,
    ) -> Result<Duration, StoreError> {
        let mut script = Script::new(scripts::CLAIM);
        script.key(claim_key(user, session)).arg(millis(lasts));
        self.call(&script).await.map(Duration::from_millis)
    }

    async fn forget(&self, digests: &[Digest]) {
        let mut pipeline = redis::pipe();
        for digest in digests {
            pipeline.cmd("DEL").arg(credential_key(digest)).ignore();
        }
        if let Ok(mut connection) = self.link.connection()
            && let Err(error) = pipeline.exec_async(&mut connection).await
        {
            self.link.failed(&error);
        }
    }

    async fn forget_sid(&self, sid: &Digest, user: UserTag, session: &SessionId) {
        let member = format!("{user} {session}");
        // One that stays is found dead the next time.
        let _left = self.ask::<()>(redis::cmd("SREM").arg(sid_key(sid)).arg(member)).await;
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

fn claim_key(user: UserTag, session: &SessionId) -> String {
    format!("{PREFIX}{{{user}}}:claim:{session}")
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
