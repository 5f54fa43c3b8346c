//! hyper's offer to go on with a connection in another protocol.
//!
//! It makes one for each request with an `Upgrade` header, and keeps it although the answer is no 101, also for later requests. A
//! connection with such an offer it ends without closing in order: it gives the connection to whoever would go on with it. So
//! that has to be closed here, or an answer that is still on its way could be lost. (Not after a head that hyper could not
//! read, and not what it had still to write to a client that was slow to read: both are lost in hyper 1.12.)

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use http::Request;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

/// The last offer of a connection. A clone is another handle to the same.
#[derive(Clone, Default)]
pub(super) struct Offered(Arc<Mutex<Option<OnUpgrade>>>);

impl Offered {
    /// Notes that of a request; nothing where it has none.
    pub(super) fn note<B>(&self, request: &Request<B>) -> Option<Self> {
        let offer = request.extensions().get::<OnUpgrade>()?;
        self.put(Some(offer.clone()));
        Some(self.clone())
    }

    /// Somebody goes on with the connection.
    pub(super) fn is_taken(&self) {
        self.put(None);
    }

    /// hyper is done. Closes what it gave to nobody.
    pub(super) async fn close(self) {
        let offer = self.put(None);
        if let Some(Ok(stream)) = offer.and_then(OnUpgrade::now_or_never) {
            let _gone = Box::pin(TokioIo::new(stream)).shutdown().await;
        }
    }

    fn put(&self, offer: Option<OnUpgrade>) -> Option<OnUpgrade> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), offer)
    }
}
