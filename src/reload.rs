//! Files that change under us: Kubernetes swaps symlinks, so the content is read again by its path and compared.

use std::path::PathBuf;
use std::time::Duration;

use crate::metrics::Metrics;

/// The kubelet itself takes about a minute to bring a changed Secret to a pod.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What watches a set of files.
pub struct Reload<'a> {
    /// Name in metrics and logs.
    pub what: &'static str,
    /// All are read; a change of any counts.
    pub files: &'a [PathBuf],
    /// Counts outcomes.
    pub metrics: &'a Metrics,
}

impl Reload<'_> {
    /// Calls `publish` with the files' content whenever it has changed, for ever. A content that cannot be read or
    /// that `publish` refuses leaves the last good one in force; it is logged and counted once.
    pub async fn run(&self, publish: impl Fn(&[Vec<u8>]) -> anyhow::Result<()>) {
        let mut last = self.read().await.ok();
        let mut interval = tokio::time::interval(LOOK_EVERY);
        let mut was_unreadable = false;
        loop {
            interval.tick().await;
            let read = self.read().await;
            if read.is_ok() && read.as_ref().ok() == last.as_ref() {
                continue;
            }
            let unreadable = read.is_err();
            let result = match read {
                Err(_) if was_unreadable => continue,
                Err(error) => Err(error.into()),
                Ok(content) => {
                    let published = publish(&content);
                    last = Some(content);
                    published
                }
            };
            was_unreadable = unreadable;
            let outcome = if result.is_ok() { "ok" } else { "failed" };
            self.metrics.reloads.with_label_values(&[self.what, outcome]).inc();
            match result {
                Ok(()) => tracing::info!(file = self.what, "reloaded"),
                Err(error) => {
                    tracing::error!(file = self.what, %error, "could not reload; the last good content stays in force");
                }
            }
        }
    }

    async fn read(&self) -> std::io::Result<Vec<Vec<u8>>> {
        let mut content = Vec::with_capacity(self.files.len());
        for file in self.files {
            content.push(tokio::fs::read(file).await?);
        }
        Ok(content)
    }
}
