//! Entrada with dashboards on hosts of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use entrada::config::RawConfig;
use standin::apiserver::Recorded;
use standin::dashboard::{Dashboard, Kind};

use super::webdriver::Chromium;
use super::{PATIENCE, World, eventually};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where browsers find every host of the domain.
const HOSTS: &str = "MAP *.contoso.example 127.0.0.1";

/// The page for those who write their own.
pub(crate) const OWN_PAGE: &str = include_str!("../../../manifests/dashboards/own-page/index.html");

/// A world whose public URL is `k8s.contoso.example`, with dashboards at other hosts of that domain: one site for a
/// browser, whose pages may send each other's cookies. Entra is of another site.
pub(crate) struct Mounted {
    pub(crate) world: World,
    dashboards: Vec<(&'static str, Dashboard)>,
}

impl Mounted {
    /// Starts it with these dashboards, by the first part of their hosts.
    pub(crate) async fn start(kinds: &[(&'static str, Kind)]) -> Self {
        Self::start_with(kinds, |_| {}).await
    }

    pub(crate) async fn start_with(
        kinds: &[(&'static str, Kind)],
        change: impl FnOnce(&mut RawConfig),
    ) -> Self {
        let mut dashboards = Vec::new();
        for (name, kind) in kinds {
            dashboards.push((*name, Dashboard::start(LOOPBACK, kind.clone()).await.unwrap()));
        }
        let mut api_url = String::new();
        let mut world = World::start_with(|raw| {
            let public = raw.public_url.take().unwrap();
            let at = |name: &str| public.replace("localhost", &format!("{name}.contoso.example"));
            api_url = public.replace("localhost", "127.0.0.1");
            let mounts = dashboards.iter().map(|(name, own)| format!("{}={};insecure", at(name), own.url()));
            raw.mounts = Some(mounts.collect::<Vec<_>>().join(","));
            raw.public_url = Some(at("k8s"));
            change(raw);
        })
        .await;
        world.url = world.url.replace("localhost", "k8s.contoso.example");
        world.entra.set_redirect_uris(vec![world.at("/callback")]);
        for (_, dashboard) in &dashboards {
            dashboard.use_api_server(&api_url, world.ca.pem()).unwrap();
        }
        Self { world, dashboards }
    }

    /// An address on a dashboard's host.
    pub(crate) fn at(&self, name: &str, path: &str) -> String {
        let origin = self.world.url.replace("//k8s.", &format!("//{name}."));
        format!("{origin}{path}")
    }

    pub(crate) fn dashboard(&self, name: &str) -> &Dashboard {
        &self.dashboards.iter().find(|(own, _)| *own == name).unwrap().1
    }

    /// A Chromium that finds the domain's hosts here.
    pub(crate) async fn chromium(&self) -> Chromium {
        Chromium::start(self.world.ca.pem(), HOSTS).await
    }

    /// A second one beside it, as another person's.
    pub(crate) async fn chromium_beside(&self, other: &Chromium) -> Chromium {
        other.beside(self.world.ca.pem(), HOSTS).await
    }

    /// The open streams at the API server.
    pub(crate) fn open_streams(&self) -> Vec<Recorded> {
        let is_stream =
            |request: &Recorded| request.target.contains("watch=") || request.target.contains("/exec?");
        self.world
            .api
            .requests()
            .into_iter()
            .filter(|request| request.is_open && is_stream(request))
            .collect()
    }

    /// Waits until so many streams are open at the API server.
    pub(crate) async fn streams(&self, count: usize) {
        let enough = eventually("the open streams", async || self.open_streams().len() == count);
        if tokio::time::timeout(PATIENCE / 2, enough).await.is_err() {
            let open: Vec<_> = self.open_streams().into_iter().map(|open| open.target).collect();
            panic!("waited in vain for {count} streams, there are {open:?}");
        }
    }

    /// Since `began`, all streams have ended within a second.
    pub(crate) async fn streams_end_within_a_second(&self, began: Instant) {
        self.streams(0).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

impl Drop for Mounted {
    /// Has the log searched for what the dashboards got.
    fn drop(&mut self) {
        for (_, dashboard) in &self.dashboards {
            for bearer in dashboard.bearers() {
                self.world.keep_secret(bearer);
            }
        }
    }
}
