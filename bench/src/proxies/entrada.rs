//! Entrada, as it is shipped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::free_port;
use crate::process::Process;
use crate::world::World;

/// A started one.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) url: String,
    pub(super) admin: SocketAddr,
}

/// Starts one by this command, or the program itself; bare or with all that it does beside proxying.
pub(super) fn start(
    world: &World,
    mut command: Command,
    addr: SocketAddr,
    is_bare: bool,
) -> anyhow::Result<Started> {
    let admin = free_port()?;
    let url = format!("https://localhost:{}", addr.port());
    world.entra.set_redirect_uris(vec![format!("{url}/callback")]);
    command.arg("serve").envs(settings(world, &url, [addr, admin]));
    if is_bare {
        command.env("ENTRADA_LOG", "warn,entrada=info,entrada::record=off");
    } else {
        // A limit that the load does not meet costs as much as one that it does.
        let audit = format!("file:{}", world.file(&format!("entrada-{}.audit", addr.port())).display());
        command.env("ENTRADA_AUDIT", audit).env("ENTRADA_RATE_LIMIT", "1000000/s burst 1000000");
    }
    let process = Process::start(&mut command, world.file(&format!("entrada-{}.log", addr.port())))?;
    Ok(Started { process, url, admin })
}

/// What an Entrada in this world needs.
fn settings(world: &World, url: &str, [addr, admin]: [SocketAddr; 2]) -> Vec<(&'static str, String)> {
    let file = |name: &str| world.file(name).display().to_string();
    vec![
        // A few users have all the watches of a measurement.
        ("ENTRADA_MAX_STREAMS_PER_USER", "1000000".to_owned()),
        ("ENTRADA_PUBLIC_URL", url.to_owned()),
        ("ENTRADA_LISTEN", addr.to_string()),
        ("ENTRADA_ADMIN_LISTEN", admin.to_string()),
        ("ENTRADA_TLS_CERT_FILE", file("tls.crt")),
        ("ENTRADA_TLS_KEY_FILE", file("tls.key")),
        ("ENTRADA_API_SERVER_URL", format!("https://localhost:{}", world.upstream.addr().port())),
        ("ENTRADA_API_SERVER_CA_FILE", file("ca.pem")),
        ("ENTRADA_ENTRA_CA_FILE", file("ca.pem")),
        ("AZURE_TENANT_ID", world.entra.tenant_id()),
        ("AZURE_CLIENT_ID", world.entra.client_id()),
        ("AZURE_AUTHORITY_HOST", world.entra.authority_host()),
        ("AZURE_FEDERATED_TOKEN_FILE", file("assertion")),
    ]
}

/// The release build, or another one to compare it with, such as one from before a change.
pub(super) fn binary() -> PathBuf {
    std::env::var_os("BENCH_ENTRADA").map_or_else(|| PathBuf::from("target/release/entrada"), PathBuf::from)
}
