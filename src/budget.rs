//! How many connections the file limit carries: half for clients, half for the API server and dashboards,
//! and a reserve.

use crate::config::Limits;

/// Files that are neither: listeners, log, reloads, probes, calls to Entra, and some to spare, so that a full house
/// still answers.
const RESERVE: u64 = 256;
/// Where the file limit is tiny.
const AT_LEAST: u64 = 64;

/// Of the connections to the API server, what one user may hold with requests, and as much again with streams. A quarter
/// is left for the others.
const ONE_USERS_EIGHTHS: usize = 3;

/// Connections to one mounted dashboard: the people who look at it have some tens of requests under way.
const MOST_FOR_A_MOUNT: usize = 512;

/// Connections that may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From clients.
    pub(crate) clients: usize,
    /// To the API server. One HTTP/2 client may need many of them.
    pub(crate) upstream: usize,
    /// To each mounted dashboard.
    pub(crate) mount: usize,
    /// Requests of one user to dashboards under way: of one dashboard's connections, enough are left for the others.
    pub(crate) dashboards_per_user: usize,
    /// Ordinary requests of one user under way.
    pub(crate) requests_per_user: usize,
    /// Open streams of one user.
    pub(crate) streams_per_user: usize,
}

impl Budget {
    /// Raises the soft file limit to the hard one, and divides it. A setting that asks for more than fits is cut.
    #[must_use]
    pub(crate) fn raise(limits: &Limits, mounts: usize) -> Self {
        let files = Self::raise_file_limit();
        let budget = Self::of(files, limits, mounts);
        tracing::info!(files, clients = budget.clients, upstream = budget.upstream, "connections that fit");
        budget
    }

    /// Raises the soft file limit to the hard one, and says what it is then.
    pub(crate) fn raise_file_limit() -> u64 {
        rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024)
    }

    /// How many connections each side may have with so many open files.
    pub(crate) fn carried(files: u64) -> usize {
        let half = (files.saturating_sub(RESERVE) / 2).max(AT_LEAST);
        usize::try_from(half).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS)
    }

    fn of(files: u64, limits: &Limits, mounts: usize) -> Self {
        let half = Self::carried(files);
        // A quarter of the API server's half is for dashboards, at most.
        let mount = (half / 4).checked_div(mounts).map_or(0, |each| each.clamp(1, MOST_FOR_A_MOUNT));
        let fit = |name, asked: Option<usize>| {
            let asked = asked.unwrap_or(half);
            if asked > half {
                tracing::warn!(asked, carried = half, "{name} is more than the file limit carries");
            }
            asked.min(half)
        };
        let upstream = fit("ENTRADA_MAX_UPSTREAM_CONNECTIONS", limits.upstream_connections);
        let upstream = upstream.min(half.saturating_sub(mount * mounts).max(1));
        let per_user = |name, asked: usize| {
            let most = (upstream * ONE_USERS_EIGHTHS / 8).max(1);
            if asked > most {
                tracing::warn!(asked, most, "{name} is cut, or one user could hold every connection");
            }
            asked.min(most)
        };
        Self {
            clients: fit("ENTRADA_MAX_CONNECTIONS", limits.connections),
            upstream,
            mount,
            dashboards_per_user: (mount * ONE_USERS_EIGHTHS / 8).max(1),
            requests_per_user: per_user("ENTRADA_MAX_REQUESTS_PER_USER", limits.requests_per_user),
            streams_per_user: per_user("ENTRADA_MAX_STREAMS_PER_USER", limits.streams_per_user),
        }
    }
}

/// How many open files carry so many connections on each side.
pub(crate) fn files_for(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both halves and the reserve fit; a setting can only ask for less.
    #[test]
    fn the_file_limit_is_divided() {
        let limits = Limits::default();
        let budget = Budget {
            clients: 9_872,
            upstream: 9_872,
            mount: 0,
            dashboards_per_user: 1,
            requests_per_user: 400,
            streams_per_user: 1_000,
        };
        assert_eq!(Budget::of(20_000, &limits, 0), budget);
        let tiny = Budget {
            clients: 64,
            upstream: 64,
            mount: 0,
            dashboards_per_user: 1,
            requests_per_user: 24,
            streams_per_user: 24,
        };
        assert_eq!(Budget::of(100, &limits, 0), tiny, "and one user leaves a quarter for the others");
        let asked = Limits { connections: Some(10), upstream_connections: Some(50_000), ..limits };
        assert_eq!(Budget::of(20_000, &asked, 0), Budget { clients: 10, ..budget });
        let mounted = Budget::of(20_000, &limits, 3);
        let told = (mounted.upstream, mounted.mount, mounted.dashboards_per_user);
        assert_eq!(told, (9_872 - 3 * 512, 512, 192), "dashboards take from that half");
    }
}
