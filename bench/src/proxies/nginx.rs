//! nginx, as its own experts would have it do this work.

use super::peer::Peer;

/// Explained where a line decides what is measured.
const CONFIG: &str = r#"
daemon off;
pid NAME.pid;
error_log stderr warn;
# Entrada has as many threads as there are cores.
worker_processes WORKERS;
# Each watch takes two: the client's, and the API server's.
worker_rlimit_nofile FILES;

events {
    # Two for each of 10,000 watches, and some more, as not each worker gets as many. (The default of 512 carries 255
    # watches a worker and refuses the rest.) nginx makes room for all of them when it starts, about 0.4 KB each.
    worker_connections CONNECTIONS;
    multi_accept on;
}

http {
    ACCESS_LOG
    client_body_temp_path NAME.body;
    proxy_temp_path NAME.proxy;
    fastcgi_temp_path NAME.fastcgi;
    uwsgi_temp_path NAME.uwsgi;
    scgi_temp_path NAME.scgi;

    server_tokens off;
    tcp_nodelay on;
    # Connections of clients and to the API server stay as long as the measurement takes, as Entrada's do.
    keepalive_timeout 180s;
    keepalive_requests 100000000;

    # The bearer is swapped as Entrada swaps it; who has none that is known is turned away.
    map_hash_max_size 65536;
    map_hash_bucket_size 256;
    map $http_authorization $minted {
        default "";
        include NAME.tokens;
    }
    map $http_upgrade $connection_upgrade {
        default upgrade;
        "" "";
    }

    upstream api {
        server API;
        # Idle connections that each worker keeps; more than there are clients.
        keepalive 256;
        keepalive_requests 100000000;
        keepalive_timeout 180s;
    }

    server {
        # Each worker has a queue of its own, so that none of them gets most of the connections.
        listen ADDR ssl http2 reuseport;
        http2_max_concurrent_streams 250;
        ssl_certificate tls.crt;
        ssl_certificate_key tls.key;
        ssl_protocols TLSv1.3;
        ssl_session_cache shared:tls:10m;
        # ssl_buffer_size stays at its 16k. With 4k a watch takes 76 KiB of memory instead of 86, but an answer of 100 KB
        # or 1 MB 1.45 times as much processor time, and watches and lists come to the same port.
        # An answer goes out as it comes, and a watch must: nginx would otherwise hold and gather it.
        proxy_buffering off;
        proxy_request_buffering off;
        client_max_body_size 0;

        location / {
            if ($minted = "") { return 401; }
            proxy_pass https://api;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Authorization $minted;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate ca.pem;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_session_reuse on;
            # No watch or tunnel ends because it is silent.
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            send_timeout 1h;
        }
    }
}
"#;

pub(super) const NGINX: Peer = Peer {
    program: "nginx",
    arguments: &["-p", ".", "-e", "stderr", "-c"],
    config: CONFIG,
    logs: &[("ACCESS_LOG", ["access_log NAME.access combined;", "access_log off;"])],
    line: |swap| format!("\"Bearer {}\" \"{}\";\n", swap.token, swap.minted),
};
