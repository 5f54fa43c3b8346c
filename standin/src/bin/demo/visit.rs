//! The first steps of a user, taken by the demo itself: they prove that everything works before a person tries.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use standin::browser::Browser;
use standin::pki::Ca;
use tokio::process::Command;

use super::folder::{self, Folder};
use super::project;

/// Longer than kubectl needs on a slow computer.
const KUBECTL_WITHIN: Duration = Duration::from_secs(60);
/// What the check runs.
pub(crate) const FIRST_ARGUMENTS: [&str; 4] = ["-n", "team-a", "get", "pods"];

/// Signs in as alice, page by page as a browser would, and downloads a kubeconfig.
pub(crate) async fn download_kubeconfig(url: &str, ca: &Ca) -> anyhow::Result<String> {
    let browser = Browser::new(ca.pem())?;
    let portal = browser.sign_in(url, "alice").await.context("alice's sign-in")?;
    if portal.status != 200 {
        bail!("alice's sign-in ended at {} with {}:\n{}", portal.url, portal.status, portal.text());
    }
    let file = browser.post_form(&format!("{url}/kubeconfig"), &[], &[("origin", url)]).await?;
    if file.status != 200 {
        bail!("the kubeconfig was answered with {}:\n{}", file.status, file.text());
    }
    Ok(file.text())
}

/// What alice's pods are, in kubectl's words; none if there is no kubectl.
pub(crate) async fn first_kubectl(folder: &Folder) -> anyhow::Result<Option<String>> {
    let program = kubectl();
    if !program.exists() {
        return Ok(None);
    }
    let output = Command::new(&program)
        .args(FIRST_ARGUMENTS)
        .env_clear()
        .env("KUBECONFIG", folder.file(folder::KUBECONFIG))
        .env("KUBECACHEDIR", folder.kubectl_cache())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(KUBECTL_WITHIN, output).await;
    let output = output.context("kubectl does not end")?.with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!("kubectl failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Where `scripts/tools` puts it, wherever cargo builds.
pub(crate) fn kubectl() -> PathBuf {
    project().join("target/tools/kubectl")
}
