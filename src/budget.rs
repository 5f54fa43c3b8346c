//! How many connections the file limit carries: half for clients, half for the API server, and a reserve.

use crate::config::Limits;

/// Files that are neither: listeners, log, reloads, probes, calls to Entra, and some to spare, so that a full house
/// still answers.
const RESERVE: u64 = 256;
/// Where the file limit is tiny.
const AT_LEAST: u64 = 64;

/// Connections that may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From clients.
    pub(crate) clients: usize,
    /// To the API server. One HTTP/2 client may need many of them.
    pub(crate) upstream: usize,
}

impl Budget {
    /// Raises the soft file limit to the hard one, and divides it. A setting that asks for more than fits is cut.
    #[must_use]
    pub(crate) fn raise(limits: &Limits) -> Self {
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
        let budget = Self::of(files, limits);
        tracing::info!(files, clients = budget.clients, upstream = budget.upstream, "connections that fit");
        budget
    }

    fn of(files: u64, limits: &Limits) -> Self {
        let half = (files.saturating_sub(RESERVE) / 2).max(AT_LEAST);
        let half = usize::try_from(half).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS);
        let fit = |name, asked: Option<usize>| {
            let asked = asked.unwrap_or(half);
            if asked > half {
                tracing::warn!(asked, carried = half, "{name} is more than the file limit carries");
            }
            asked.min(half)
        };
        Self {
            clients: fit("ENTRADA_MAX_CONNECTIONS", limits.connections),
            upstream: fit("ENTRADA_MAX_UPSTREAM_CONNECTIONS", limits.upstream_connections),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both halves and the reserve fit; a setting can only ask for less.
    #[test]
    fn the_file_limit_is_divided() {
        let limits = Limits::default();
        assert_eq!(Budget::of(20_000, &limits), Budget { clients: 9_872, upstream: 9_872 });
        assert_eq!(Budget::of(100, &limits), Budget { clients: 64, upstream: 64 });
        let asked = Limits { connections: Some(10), upstream_connections: Some(50_000), ..limits };
        assert_eq!(Budget::of(20_000, &asked), Budget { clients: 10, upstream: 9_872 });
    }
}
