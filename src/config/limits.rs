//! Bounds: numbers and durations, each with its default.

use std::time::Duration;

use super::check::{Checker, given};
use super::{Limits, RateLimit, RawConfig};

/// hyper needs this much to hold a head at all.
const LEAST_HEAD_BYTES: usize = 8 * 1024;

impl Checker {
    pub(super) fn limits(&mut self, raw: &RawConfig) -> Limits {
        let default = Limits::default();
        Limits {
            streams_per_user: self
                .count("ENTRADA_MAX_STREAMS_PER_USER", raw.max_streams_per_user.as_deref())
                .unwrap_or(default.streams_per_user),
            requests_per_user: self
                .count("ENTRADA_MAX_REQUESTS_PER_USER", raw.max_requests_per_user.as_deref())
                .unwrap_or(default.requests_per_user),
            rate: self.rate("ENTRADA_RATE_LIMIT", raw.rate_limit.as_deref()),
            sign_in_rate: self.rate("ENTRADA_SIGNIN_RATE_LIMIT", raw.signin_rate_limit.as_deref()),
            connections: self.count("ENTRADA_MAX_CONNECTIONS", raw.max_connections.as_deref()),
            connections_per_address: self
                .count("ENTRADA_MAX_CONNECTIONS_PER_ADDRESS", raw.max_connections_per_address.as_deref()),
            upstream_connections: self
                .count("ENTRADA_MAX_UPSTREAM_CONNECTIONS", raw.max_upstream_connections.as_deref()),
            handshake: self.phase("ENTRADA_HANDSHAKE_TIMEOUT", &raw.handshake_timeout, default.handshake),
            head: self.phase("ENTRADA_HEAD_TIMEOUT", &raw.head_timeout, default.head),
            idle: self.phase("ENTRADA_IDLE_TIMEOUT", &raw.idle_timeout, default.idle),
            connect: self.phase("ENTRADA_CONNECT_TIMEOUT", &raw.connect_timeout, default.connect),
            response: self.phase("ENTRADA_RESPONSE_TIMEOUT", &raw.response_timeout, default.response),
            stall: self.phase("ENTRADA_STALL_TIMEOUT", &raw.stall_timeout, default.stall),
            head_bytes: self.head_bytes(raw).unwrap_or(default.head_bytes),
            h2_streams: self
                .count("ENTRADA_MAX_H2_STREAMS", raw.max_h2_streams.as_deref())
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(default.h2_streams),
            h2_resets: self
                .count("ENTRADA_MAX_H2_RESETS", raw.max_h2_resets.as_deref())
                .unwrap_or(default.h2_resets),
            body_bytes: self
                .count("ENTRADA_MAX_BODY_BYTES", raw.max_body_bytes.as_deref())
                .unwrap_or(default.body_bytes),
        }
    }

    fn phase(&mut self, name: &str, value: &Option<String>, default: Duration) -> Duration {
        self.duration(name, value.as_deref(), default)
    }

    fn rate(&mut self, name: &str, value: Option<&str>) -> Option<RateLimit> {
        let text = given(value).filter(|text| *text != "off")?;
        let rate = parse_rate(text);
        if rate.is_none() {
            self.fault(name, format!("is `{text}`"), "must be `off`, or a rate such as `50/s burst 300`");
        }
        rate
    }

    fn head_bytes(&mut self, raw: &RawConfig) -> Option<usize> {
        let bytes = self.count("ENTRADA_MAX_HEAD_BYTES", raw.max_head_bytes.as_deref())?;
        if bytes < LEAST_HEAD_BYTES {
            let fix = format!("must be at least {LEAST_HEAD_BYTES}");
            self.fault("ENTRADA_MAX_HEAD_BYTES", format!("is `{bytes}`"), fix);
        }
        Some(bytes.max(LEAST_HEAD_BYTES))
    }

    fn count(&mut self, name: &str, value: Option<&str>) -> Option<usize> {
        let text = given(value)?;
        let parsed = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        if parsed.is_none() {
            self.fault(name, format!("is `{text}`"), "must be a number from 1 to 1000000");
        }
        parsed
    }
}

/// `50/s burst 300`, also `/m` and `/h`; without a burst, it is the count.
fn parse_rate(text: &str) -> Option<RateLimit> {
    let mut words = text.split_whitespace();
    let (count, unit) = words.next()?.split_once('/')?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    let number = |text: &str| text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    let count = number(count)?;
    let burst = match (words.next(), words.next(), words.next()) {
        (None, ..) => count,
        (Some("burst"), Some(burst), None) => number(burst)?,
        _ => return None,
    };
    Some(RateLimit { per_second: f64::from(count) / seconds, burst })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented default can be written, too.
    #[test]
    fn a_rate_can_be_off() {
        let mut checker = Checker::default();
        assert_eq!(checker.rate("ENTRADA_RATE_LIMIT", Some("off")), None);
        assert!(checker.into_faults().0.is_empty());
    }

    /// The forms that the documents show, and what is none.
    #[test]
    fn rates_are_read_as_they_are_written() {
        let rate = |per_second, burst| Some(RateLimit { per_second, burst });
        assert_eq!(parse_rate("50/s burst 300"), rate(50.0, 300));
        assert_eq!(parse_rate("120/m"), rate(2.0, 120));
        assert_eq!(parse_rate("3600/h burst 1"), rate(1.0, 1));
        for nonsense in
            ["", "50", "0/s", "50/d", "50/s burst", "50/s burst 0", "50/s 300", "50/s burst 3 4", "-1/s"]
        {
            assert_eq!(parse_rate(nonsense), None, "{nonsense}");
        }
    }
}
