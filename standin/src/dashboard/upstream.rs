//! A dashboard's way to its API server.

use std::error::Error;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::serve::{Body, full};

#[derive(Clone)]
pub(super) struct Upstream {
    url: Url,
    tls: TlsConnector,
}

impl Upstream {
    pub(super) fn new(url: &str, ca_pem: &str) -> anyhow::Result<Self> {
        let url = Url::parse(url)?;
        anyhow::ensure!(url.scheme() == "https" && url.host_str().is_some(), "{url} is not https");
        Ok(Self { url, tls: crate::pki::trusting(ca_pem)? })
    }

    /// What stands in `Host`, and where the connection goes.
    pub(super) fn authority(&self) -> String {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default());
        format!("{host}:{}", port.unwrap_or(443))
    }

    /// Sends a request over a connection of its own, which a 101 leaves open.
    pub(super) async fn send<B>(&self, mut request: Request<B>) -> anyhow::Result<Response<Incoming>>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let host = self.url.host_str().context("a host")?.to_owned();
        let stream = TcpStream::connect(self.authority()).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(host)?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.authority())?);
        Ok(sender.send_request(request).await?)
    }

    /// Sends a caller's request, and gives the answer back; where that switches protocols, so does the caller's connection.
    pub(super) async fn hand_on(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let caller = hyper::upgrade::on(&mut request);
        let mut answer = self.send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer.map(|body| body.map_err(anyhow::Error::from).boxed_unsync()));
        }
        let server = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            if let (Ok(caller), Ok(server)) = tokio::join!(caller, server) {
                let (mut caller, mut server) = (TokioIo::new(caller), TokioIo::new(server));
                let _gone = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
            }
        });
        Ok(answer.map(|_| full("")))
    }

    /// Asks as the bearer's user, or as nobody: status and JSON.
    pub(super) async fn ask(&self, path: &str, bearer: Option<&str>) -> anyhow::Result<(u16, Value)> {
        let mut request = Request::get(path).header("accept", "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let response = self.send(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
