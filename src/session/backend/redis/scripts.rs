//! What must happen in one step, as scripts that Redis runs. Each touches the keys of one user.

use redis::{Cmd, ToRedisArgs};

/// A script with its keys and arguments. Sent whole each time (under 1 KiB): a server that was just promoted knows no
/// scripts by their digests, and loading them takes all servers of a cluster, of which one may be down.
pub(super) struct Script {
    code: &'static str,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn key(&mut self, key: String) -> &mut Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    pub(super) fn command(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.code).arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(argument);
        }
        command
    }
}

/// KEYS records, uses. ARGV the version that is known. Version, document where it is another one, and uses as pairs.
pub(super) const LOAD: &str = "
local version = redis.call('HGET', KEYS[1], 'v')
local document = false
if version and version ~= ARGV[1] then document = redis.call('HGET', KEYS[1], 'd') end
local uses, pairs_of = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #uses, 2 do pairs_of[#pairs_of + 1] = { uses[i], uses[i + 1] } end
return { version, document, pairs_of }";

/// KEYS records, uses, then a grant for each session that ends, then one for each that begins. ARGV expected version, new
/// version, document, its expiry, channel, message; how many end, begin, and how many credentials
/// are gone; for each grant that begins its time, itself and its expiry; the ids of the credentials that are gone.
pub(super) const SWAP: &str = "
if (redis.call('HGET', KEYS[1], 'v') or '') ~= ARGV[1] then return 0 end
local ended, begun, gone = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
for i = 1, ended do redis.call('DEL', KEYS[2 + i]) end
for i = 1, begun do
  local key, at = KEYS[2 + ended + i], 9 + (i - 1) * 3
  redis.call('HSET', key, 'at', ARGV[at + 1], 'g', ARGV[at + 2])
  redis.call('PEXPIREAT', key, ARGV[at + 3])
end
for i = 1, gone do redis.call('HDEL', KEYS[2], ARGV[9 + begun * 3 + i]) end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1";

/// KEYS grant. ARGV its time, the grant, channel, message. 0: there is none, because its session has ended.
pub(super) const RENEW: &str = "
local at = redis.call('HGET', KEYS[1], 'at')
if not at then return 0 end
if at <= ARGV[1] then redis.call('HSET', KEYS[1], 'at', ARGV[1], 'g', ARGV[2]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1";

/// KEYS uses, records. ARGV expiry, then credential and use in turn. Nothing is noted of a user who has no records.
pub(super) const TOUCH: &str = "
if redis.call('EXISTS', KEYS[2]) == 0 then return end
for i = 2, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or string.sub(known, 1, 20) <= string.sub(ARGV[i + 1], 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
local left = redis.call('PTTL', KEYS[1])
if left == -1 then
  redis.call('PEXPIREAT', KEYS[1], ARGV[1])
elseif left >= 0 then
  redis.call('PEXPIREAT', KEYS[1], ARGV[1], 'GT')
end";

/// KEYS lease. ARGV holder, milliseconds, 1 to pass over a failure. What stands there then, and for how long.
pub(super) const LEASE: &str = "
local held = redis.call('GET', KEYS[1])
local failed = held and string.sub(held, 1, 1) == 'f'
if not held or held == ARGV[1] or (failed and ARGV[3] == '1') then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return { ARGV[1], ARGV[2] }
end
return { held, math.max(redis.call('PTTL', KEYS[1]), 0) }";

/// KEYS lease. ARGV holder, failure (empty: none) and its milliseconds, channel, message.
pub(super) const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'f' .. ARGV[2], 'PX', ARGV[3])
end
redis.call('PUBLISH', ARGV[4], ARGV[5])";

/// KEYS set. ARGV member, expiry: the set lives as long as its longest member.
pub(super) const ADD_TO_SET: &str = "
redis.call('SADD', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
else
  redis.call('PEXPIREAT', KEYS[1], ARGV[2], 'GT')
end";

/// KEYS claim. ARGV milliseconds. How long to wait; 0: it was taken now.
pub(super) const CLAIM: &str = "
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 0 end
return math.max(redis.call('PTTL', KEYS[1]), 1)";

/// KEYS one that nothing is kept under. ARGV channel, message. Tries each right that the other scripts need, in one step
/// and without a trace: what it writes it also takes away, and it writes nothing that it could not take away. The first
/// write is one that needs memory, because Redis lets a script that has begun to write go on. The errors that came.
pub(super) const TRY_RIGHTS: &str = "
local key, errors = KEYS[1], {}
local function try(...)
  local answer = redis.pcall(...)
  local failed = type(answer) == 'table' and answer.err
  if failed then errors[#errors + 1] = ({...})[1] .. ': ' .. answer.err end
  return not failed
end
try('SET', key, '1', 'XX', 'PX', 1000)
try('GET', key) try('EXISTS', key) try('PTTL', key) try('HGET', key, 'f') try('HGETALL', key)
try('HDEL', key, 'f') try('SMEMBERS', key) try('SREM', key, 'm')
local expires = try('PEXPIREAT', key, 1)
if try('DEL', key) and expires then
  try('HSET', key, 'f', '1') redis.call('DEL', key)
  try('SADD', key, 'm') redis.call('DEL', key)
end
try('PUBLISH', ARGV[1], ARGV[2])
return errors";

/// KEYS record. ARGV what it must be, what it is then, its expiry. 0: it is not the expected one.
pub(super) const EXCHANGE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1";

/// KEYS record. What it was; it is gone.
pub(super) const TAKE: &str = "
local record = redis.call('GET', KEYS[1])
if record then redis.call('DEL', KEYS[1]) end
return record";
