//! Files that change under us: Kubernetes swaps symlinks, so the content is read again by its path and compared.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// The kubelet itself takes about a minute to bring a changed Secret to a pod.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What watches a set of files.
pub(crate) struct Reload<'a> {
    /// Name in metrics and logs.
    pub(crate) what: &'a str,
    /// All are read; a change of any counts.
    pub(crate) files: &'a [PathBuf],
    /// When to look again.
    pub(crate) clock: &'a Clock,
    /// Counts outcomes.
    pub(crate) metrics: &'a Metrics,
}

/// The name of one of several: `certificate`, `certificate_2`, …
pub(crate) fn numbered(what: &str, index: usize) -> String {
    if index == 0 { what.to_owned() } else { format!("{what}_{}", index + 1) }
}

impl Reload<'_> {
    /// Calls `publish` with the files' content, now and whenever it has changed, for ever. A content that cannot be read
    /// or that `publish` refuses leaves the last good one in force; it is logged and counted once.
    pub(crate) async fn run(&self, publish: impl Fn(&[Vec<u8>]) -> anyhow::Result<()>) {
        let mut last: Option<Result<Vec<Vec<u8>>, std::io::ErrorKind>> = None;
        loop {
            let read = self.read().await.map_err(|error| error.kind());
            if last.as_ref() != Some(&read) {
                let published = match &read {
                    Ok(content) => publish(content),
                    Err(kind) => Err(anyhow::anyhow!("cannot read it: {kind}")),
                };
                self.note(published);
                last = Some(read);
            }
            self.clock.pause(LOOK_EVERY).await;
        }
    }

    fn note(&self, published: anyhow::Result<()>) {
        let outcome = if published.is_ok() { "ok" } else { "failed" };
        let is_current = self.metrics.last_reload_successful.with_label_values(&[self.what]);
        is_current.set(i64::from(published.is_ok()));
        self.metrics.reloads.with_label_values(&[self.what, outcome]).inc();
        match published {
            Ok(()) => tracing::info!(file = self.what, "loaded"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    file = self.what,
                    error,
                    "could not load; the last good content stays in force"
                );
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
