//! Static files, compiled in.

use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use super::Pages;
use crate::http::body::Body;
use crate::problem::Problem;
use crate::view::protect;

/// Short: a new version of Entrada shows its new look soon.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

impl Pages {
    /// One file by its name, for the host of a mounted dashboard.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn asset(&self, name: &str) -> Result<Response<Body>, Problem> {
        asset(name)
    }
}

/// One file by its name.
pub(super) fn asset(name: &str) -> Result<Response<Body>, Problem> {
    let (kind, bytes): (&'static str, &'static [u8]) = match name {
        "entrada.css" => ("text/css; charset=utf-8", include_bytes!("assets/entrada.css")),
        "portal.js" => ("text/javascript; charset=utf-8", include_bytes!("assets/portal.js")),
        "mount.js" => ("text/javascript; charset=utf-8", include_bytes!("assets/mount.js")),
        "icon.svg" => ("image/svg+xml", include_bytes!("assets/icon.svg")),
        _ => return Err(Problem::not_found()),
    };
    let mut response = Response::new(Body::from(bytes));
    protect(response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, CACHE);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
