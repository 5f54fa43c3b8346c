//! HAProxy, as its own experts would have it do this work.

use super::peer::Peer;

/// Explained where a line decides what is measured.
const CONFIG: &str = r#"
global
    # Entrada has as many threads as there are cores.
    nbthread WORKERS
    ACCESS_LOG
    # As Entrada allows: 250 streams in an HTTP/2 connection.
    tune.h2.max-concurrent-streams 250
    # Idle connections to the API server are shared by all threads and kept.
    tune.pool-high-fd-ratio 90

defaults
    mode http
    log global
    LOG_FORMAT
    option http-keep-alive
    # An idle connection to the API server may serve any client's next request, as in Entrada and nginx.
    http-reuse always
    timeout connect 10s
    timeout http-request 20s
    timeout http-keep-alive 180s
    # No watch or tunnel ends because it is silent.
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h

frontend https
    bind ADDR ssl crt both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3
    # The bearer is swapped as Entrada swaps it; who has none that is known is turned away.
    http-request set-var(txn.minted) http_auth_bearer,map_str(NAME.tokens)
    http-request deny deny_status 401 unless { var(txn.minted) -m found }
    http-request set-header Authorization %[var(txn.minted)]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    default_backend api

backend api
    server api API ssl verify required ca-file ca.pem verifyhost localhost sni str(localhost) alpn http/1.1 ssl-min-ver TLSv1.3 pool-purge-delay 180s
"#;

pub(super) const HAPROXY: Peer = Peer {
    program: "haproxy",
    arguments: &["-db", "-f"],
    config: CONFIG,
    logs: &[("ACCESS_LOG", ["log stdout format raw local0", ""]), ("LOG_FORMAT", ["option httplog", ""])],
    line: |swap| format!("{} {}\n", swap.token, swap.minted),
};
