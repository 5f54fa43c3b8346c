//! What is left of a request's body when its answer is there already.
//!
//! A refusal needs no body, but many clients send all of it before they read. If the connection were closed with bytes
//! unread, TCP would reset it, and the answer would be lost on the way. So the rest travels with the answer to the
//! listener, which reads a bounded part of it.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Extensions, Response};
use hyper::body::{Body as _, Incoming};

/// An extension of an answer: the request's body, as far as nobody has read it.
#[derive(Clone, Debug)]
pub(crate) struct Unread(Arc<Mutex<Option<Incoming>>>);

/// An extension of a request: whoever reads its body holds this meanwhile, so that the client's connection is known to be
/// busy, also when the answer has been sent before the body has come.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    _guard: Arc<dyn Any + Send + Sync>,
}

/// Whether somebody still reads a request's body.
#[derive(Debug)]
pub(crate) struct StillInUse(Weak<dyn Any + Send + Sync>);

impl StillInUse {
    /// Whether somebody does.
    #[must_use]
    pub(crate) fn is_so(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Unread {
    /// Lets the rest of a body travel with the answer, where there is one.
    pub(crate) fn attach<B>(body: Incoming, response: &mut Response<B>) {
        if !body.is_end_stream() {
            response.extensions_mut().insert(Self(Arc::new(Mutex::new(Some(body)))));
        }
    }

    /// Takes it off the answer.
    pub(crate) fn detach<B>(response: &mut Response<B>) -> Option<Incoming> {
        let Self(body) = response.extensions_mut().remove()?;
        body.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl InUse {
    /// Holds `guard` for as long as the request's body is in use. What is returned tells whether it still is.
    pub(crate) fn attach(guard: impl Any + Send + Sync, extensions: &mut Extensions) -> StillInUse {
        let guard: Arc<dyn Any + Send + Sync> = Arc::new(guard);
        let still = StillInUse(Arc::downgrade(&guard));
        extensions.insert(Self { _guard: guard });
        still
    }
}
