//! Runs the stand-in API server until it is interrupted: `cargo run -p standin --example apiserver -- DIR`.
//!
//! DIR gets `ca.pem` and one kubeconfig each for alice and bob, with tokens that are good for an hour.

#[path = "../tests/support/signer.rs"]
mod signer;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use standin::apiserver::ApiServer;
use standin::pki::Ca;
use standin::time::Time;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).context("usage: apiserver DIR")?);
    let time = Time::default();
    let ca = Ca::new("stand-in API server CA")?;
    let signer = signer::Signer::new(time.clone())?;
    let server = ApiServer::start("127.0.0.1:0".parse()?, &ca, time, signer.trust()).await?;
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("ca.pem"), ca.pem())?;
    for (name, namespace) in [("alice", "team-a"), ("bob", "team-b")] {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "standin",
            "clusters": [{ "name": "standin", "cluster": {
                "server": server.url(), "certificate-authority": dir.join("ca.pem") } }],
            "users": [{ "name": name, "user": { "token": signer.token(name, json!({})) } }],
            "contexts": [{ "name": "standin", "context": {
                "cluster": "standin", "user": name, "namespace": namespace } }],
        });
        std::fs::write(dir.join(format!("{name}.kubeconfig")), kubeconfig.to_string())?;
    }
    tokio::signal::ctrl_c().await?;
    server.kill().await;
    Ok(())
}
