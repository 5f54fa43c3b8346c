//! An upgraded connection: bytes both ways, whatever they mean. Half-closes pass through; there is no idle limit.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use crate::streams::Stream;

/// Enough for exec and port-forward at full speed; 500 tunnels hold 16 MiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// Runs until both sides have closed, one has broken, or the tunnel's credential has ended.
pub(super) async fn run(client: OnUpgrade, upstream: OnUpgrade, stream: Stream) {
    let copy = async {
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(sides) => sides,
            Err(error) => {
                tracing::debug!(%error, "an upgrade was not completed");
                return;
            }
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let copied =
            copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "a tunnel broke");
        }
    };
    tokio::select! {
        () = copy => {}
        // Dropping both sides closes them.
        () = stream.over() => tracing::info!("a tunnel was closed because its credential has ended"),
    }
}
