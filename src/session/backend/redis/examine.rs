//! What `entrada doctor` looks at: the connection that the server would make, the server's own description of itself,
//! and the rights that it gives us. Nothing that is kept is read or changed.

use redis::aio::ConnectionLike as _;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::sync::mpsc::unbounded_channel;

use super::connection::Connection;
use super::link::{CONNECT_TIMEOUT, Link, timed_out};
use super::scripts::{Script, TRY_RIGHTS};
use super::{CHANNEL, Login, PREFIX};
use crate::config::RedisConfig;
use crate::secret::random_base62;
use crate::tls;

/// What was seen of a store that lets us in.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// What each master says of itself: lines of `name:value`.
    pub(crate) info: Vec<String>,
    /// Rights that are missing, as the store says it.
    pub(crate) refused: Vec<String>,
    /// Who we are there, where we may ask: with the documented rights we may not.
    pub(crate) user: Option<String>,
    /// Whether we may read the server's configuration, which only an administrator needs.
    pub(crate) is_administrator: bool,
}

/// Why the store does not let us in.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// The login, or the right to listen to the channel.
    Refused(String),
    /// Its certificate.
    Certificate(String),
    /// No connection, or nobody there who speaks Redis.
    NoAnswer(String),
}

/// Connects as the server does, looks, and leaves.
///
/// # Errors
/// Why it does not come to that.
pub(crate) async fn examine(config: RedisConfig, login: Login) -> Result<Examined, Unreached> {
    // Nobody reads what the channel tells; with its other end gone, the library would close the connection.
    let (sender, _pushes) = unbounded_channel();
    let link = Link::new(config, login);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, link.connect(sender)).await;
    let mut connection =
        connected.unwrap_or_else(|_| Err(timed_out())).map_err(|error| Unreached::of(&error))?;
    look(&mut connection).await.map_err(|error| Unreached::of(&error))
}

async fn look(connection: &mut Connection) -> RedisResult<Examined> {
    let info = ask(connection, &redis::cmd("INFO")).await?;
    let info = each_masters(info);
    let mut rights = Script::new(TRY_RIGHTS);
    // A message that replicas pass over: none begins with this letter.
    rights.key(format!("{PREFIX}{{doctor}}:{}", random_base62(12))).arg(CHANNEL).arg("d doctor");
    let refused = match ask(connection, &rights.command()).await {
        Ok(errors) => Vec::<String>::from_redis_value(errors)?,
        // The script itself was refused: no right to EVAL, or no writes here at all.
        Err(error) if error.kind() != ErrorKind::Io => vec![said(&error)],
        Err(error) => return Err(error),
    };
    let user = ask(connection, redis::cmd("ACL").arg("WHOAMI")).await.ok();
    let user = user.and_then(|user| String::from_redis_value(user).ok());
    let configuration = ask(connection, redis::cmd("CONFIG").arg("GET").arg("maxmemory-policy")).await;
    Ok(Examined { info, refused, user, is_administrator: configuration.is_ok() })
}

async fn ask(connection: &mut Connection, command: &Cmd) -> RedisResult<Value> {
    connection.req_packed_command(command).await?.extract_error()
}

/// One server's answer is a text, a cluster's a text for each master.
fn each_masters(info: Value) -> Vec<String> {
    match info {
        Value::Map(of_each) => {
            of_each.into_iter().filter_map(|(_, text)| String::from_redis_value(text).ok()).collect()
        }
        one => String::from_redis_value(one).into_iter().collect(),
    }
}

impl Unreached {
    fn of(error: &RedisError) -> Self {
        if let Some(why) = tls::refused_certificate(error) {
            return Self::Certificate(tls::why_refused(&why));
        }
        let text = said(error);
        match error.code() {
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Self::Refused(text),
            _ if error.kind() == ErrorKind::AuthenticationFailed => Self::Refused(text),
            _ => Self::NoAnswer(text),
        }
    }
}

/// What the server said, in its own words.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
