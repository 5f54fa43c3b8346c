//! A plain HTTP/1.1 client over TLS, one connection a request, that shows what came as it came.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::request::Builder;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use standin::apiserver::ApiServer;
use standin::pki::Ca;
use standin::time::Time;

use crate::signer::Signer;

/// A server, who signs for it, and how to reach it.
pub(crate) struct Fixture {
    pub(crate) server: ApiServer,
    pub(crate) signer: Signer,
    pub(crate) time: Time,
    tls: Arc<rustls::ClientConfig>,
}

/// A complete answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    pub(crate) fn message(&self) -> String {
        let status = self.json().unwrap_or_default();
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Fixture {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let time = Time::default();
        let ca = Ca::new("stand-in API server CA")?;
        let signer = Signer::new(time.clone())?;
        let server = ApiServer::start("127.0.0.1:0".parse()?, &ca, time.clone(), signer.trust()).await?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { server, signer, time, tls: Arc::new(tls) })
    }

    /// A request head of this user.
    pub(crate) fn ask(&self, user: &str, method: &str, path: &str) -> Builder {
        let token = self.signer.token(user, serde_json::json!({}));
        Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {token}"))
    }

    pub(crate) async fn tls(&self) -> anyhow::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let stream = tokio::net::TcpStream::connect(self.server.addr()).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        Ok(connector.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// Sends the request and returns the head of the answer; the body is still to be read.
    pub(crate) async fn open(
        &self,
        head: Builder,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.tls().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = head.header(HOST, "localhost").body(Full::new(body.into()))?;
        Ok(sender.send_request(request).await?)
    }

    pub(crate) async fn send(&self, head: Builder, body: impl Into<Bytes>) -> anyhow::Result<Reply> {
        let (head, body) = self.open(head, body).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    pub(crate) async fn get(&self, user: &str, path: &str) -> anyhow::Result<Reply> {
        self.send(self.ask(user, "GET", path), "").await
    }

    /// Sends JSON of the given type.
    pub(crate) async fn write(
        &self,
        user: &str,
        method: &str,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> anyhow::Result<Reply> {
        self.send(self.ask(user, method, path).header("content-type", media_type), body.to_string()).await
    }

    pub(crate) async fn watch(&self, user: &str, path: &str) -> anyhow::Result<Lines> {
        Ok(Lines { body: self.open(self.ask(user, "GET", path), "").await?.into_body(), rest: Vec::new() })
    }
}

/// A stream of lines.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line without its end; nothing when the stream ended in order.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.drain(..=at).take(at).collect();
                return Ok(Some(String::from_utf8(line)?));
            }
            match self.body.frame().await.transpose()? {
                None => return Ok(None),
                Some(frame) => self.rest.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }

    /// The next event of a watch: its type and its object.
    pub(crate) async fn event(&mut self) -> anyhow::Result<(String, Value)> {
        let line = self.next().await?.context("the watch ended")?;
        let mut event: Value = serde_json::from_str(&line)?;
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        Ok((kind, event["object"].take()))
    }
}
