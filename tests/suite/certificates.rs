//! Several certificates at one listener: which one a client gets, and that each is renewed for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::{CertificateError, ClientConfig, HandshakeKind, NamedGroup};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use standin::pki::Issued;
use tokio::io::AsyncReadExt;

use super::support::wire::{Wire, client};
use super::support::{World, eventually};

const SECOND: &str = "entrada_reloads_total{file=\"certificate_2\",outcome";

/// The public certificate (`localhost`), one for a dashboard's host, and one with a wildcard that covers that, too.
struct Ground {
    world: World,
    public: Vec<u8>,
    dashboard: Vec<u8>,
    wildcard: Vec<u8>,
}

impl Ground {
    async fn new() -> Self {
        let names = ["dashboard", "wildcard"];
        let world = World::start_with(|raw| {
            for setting in [&mut raw.tls_cert_file, &mut raw.tls_key_file] {
                let first = setting.take().unwrap();
                let others = names.map(|name| first.replace("/tls.", &format!("/{name}.")));
                // The files are there before the program reads them; what they hold is written below.
                for path in &others {
                    std::fs::copy(&first, path).unwrap();
                }
                *setting = Some(format!("{first}, {}", others.join(",")));
            }
        })
        .await;
        let mut ground = Self { public: file(&world, "tls"), dashboard: vec![], wildcard: vec![], world };
        for (index, name, host) in
            [(2, "dashboard", "Headlamp.example.test"), (3, "wildcard", "*.example.test")]
        {
            let issued = ground.world.ca.issue(&[host]).unwrap();
            ground.replace(index, name, &issued).await;
        }
        (ground.dashboard, ground.wildcard) =
            (file(&ground.world, "dashboard"), file(&ground.world, "wildcard"));
        ground
    }

    async fn replace(&self, index: usize, name: &str, issued: &Issued) {
        let counted = format!("entrada_reloads_total{{file=\"certificate_{index}\",outcome=\"ok\"}}");
        eventually("the first look", || async { self.world.metric(&counted).await >= 1.0 }).await;
        let before = self.world.metric(&counted).await;
        let path = |ending: &str| self.world.dir.path().join(format!("{name}.{ending}"));
        // The key first: in between they do not belong together, and the old pair stays.
        std::fs::write(path("key"), &issued.key_pem).unwrap();
        std::fs::write(path("crt"), &issued.cert_pem).unwrap();
        self.world.advance(Duration::from_secs(6));
        eventually("the new pair", || async { self.world.metric(&counted).await > before }).await;
    }

    /// The certificate that a client gets which asks for this host.
    async fn presented(&self, host: &str) -> Vec<u8> {
        Wire::open_for(&self.world, host, &Arc::new(client(&self.world))).await.unwrap().certificate()
    }
}

fn file(world: &World, name: &str) -> Vec<u8> {
    let pem = std::fs::read(world.dir.path().join(format!("{name}.crt"))).unwrap();
    CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_certificate_for_the_host_that_it_asks_for() {
    // Proves the choice: the exact name, then a wildcard of one label, else the first; also without a name.
    let ground = Ground::new().await;
    assert_eq!(ground.presented("localhost").await, ground.public);
    assert_eq!(
        ground.presented("headlamp.example.test").await,
        ground.dashboard,
        "it comes before the wildcard"
    );
    assert_eq!(ground.presented("HEADLAMP.example.test").await, ground.dashboard);
    assert_eq!(ground.presented("grafana.example.test").await, ground.wildcard);
    let mut nameless = client(&ground.world);
    nameless.enable_sni = false;
    let nameless = Wire::open_for(&ground.world, "localhost", &Arc::new(nameless)).await.unwrap();
    assert_eq!(nameless.certificate(), ground.public);
    assert_eq!(ground.presented("127.0.0.1").await, ground.public, "an address is no name");
    for unknown in ["example.test", "a.b.example.test", "headlamp.example.com"] {
        let refused = Wire::open_for(&ground.world, unknown, &Arc::new(client(&ground.world))).await;
        let refused = refused.err().expect("its certificate is for another host");
        let refused = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) = refused
        else {
            panic!("{unknown}: {refused:?}")
        };
        assert!(!presented.iter().any(|name| name.contains("example.test")), "{unknown}: {presented:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_is_renewed_for_itself() {
    // Proves that a renewal is presented, that a pair which does not belong together keeps the old one and is told, and that
    // neither touches the others.
    let ground = Ground::new().await;
    let (world, host) = (&ground.world, "headlamp.example.test");
    let renewed = world.ca.issue(&[host]).unwrap();
    std::fs::write(world.dir.path().join("dashboard.crt"), &renewed.cert_pem).unwrap();
    world.advance(Duration::from_secs(6));
    let failed = format!("{SECOND}=\"failed\"}}");
    eventually("the failure", || async { world.metric(&failed).await >= 1.0 }).await;
    let is_current =
        async |file: &str| world.metric(&format!("entrada_last_reload_successful{{file=\"{file}\"}}")).await;
    assert_eq!((is_current("certificate").await, is_current("certificate_2").await), (1.0, 0.0));
    assert_eq!(ground.presented(host).await, ground.dashboard, "the last good pair stays");
    // Meanwhile another pair is renewed.
    ground.replace(3, "wildcard", &world.ca.issue(&["*.example.test", "more.example.com"]).unwrap()).await;
    assert_eq!(ground.presented("more.example.com").await, file(world, "wildcard"));
    ground.replace(2, "dashboard", &renewed).await;
    assert_eq!(ground.presented(host).await, file(world, "dashboard"));
    assert_eq!(is_current("certificate_2").await, 1.0);
    assert_eq!(ground.presented("localhost").await, ground.public);
    let ends = |file: &str| format!("entrada_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}");
    for file in ["certificate", "certificate_2", "certificate_3"] {
        assert!(world.metric(&ends(file)).await > world.now().as_second() as f64, "{file}");
    }
}

/// Keeps tickets without regard to who gave them: what no client should do, and any attacker may.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn anybody() -> ServerName<'static> {
    ServerName::try_from("anybody").unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anybody(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anybody())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anybody(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anybody())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anybody());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anybody(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anybody())
    }
}

/// One request, after which the client has its tickets; how the handshake went.
async fn visit(world: &World, host: &str, client: &Arc<ClientConfig>) -> (HandshakeKind, Vec<u8>) {
    let mut wire = Wire::open_for(world, host, client).await.unwrap();
    wire.write(format!("GET /whoami HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
    wire.0.read_to_end(&mut Vec::new()).await.unwrap();
    (wire.0.get_ref().1.handshake_kind().unwrap(), wire.certificate())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_one_host_is_resumed_for_no_other() {
    // Proves that a ticket counts for the name that it was given for, in both versions of TLS.
    let ground = Ground::new().await;
    let host = "headlamp.example.test";
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ground.world.ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(8))));
        let client = Arc::new(client);
        let full = HandshakeKind::Full;
        assert_eq!(visit(&ground.world, "localhost", &client).await, (full, ground.public.clone()));
        assert_eq!(visit(&ground.world, "localhost", &client).await.0, HandshakeKind::Resumed, "{version:?}");
        assert_eq!(
            visit(&ground.world, host, &client).await,
            (full, ground.dashboard.clone()),
            "{version:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requests_own_host_counts_whatever_its_connection_was_opened_for() {
    // Proves that a browser may send requests for the portal on a connection to another host of the same certificate.
    let ground = Ground::new().await;
    let cookie = ground.world.session_cookie(&ground.world.signed_in("alice").await).unwrap();
    let mut client = client(&ground.world);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let wire = Wire::open_for(&ground.world, "headlamp.example.test", &Arc::new(client)).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(wire.0);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let request =
        Request::get(ground.world.at("/whoami")).header("cookie", format!("__Host-entrada={cookie}"));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    tokio::select! {
        answer = sender.send_request(request) => assert_eq!(answer.unwrap().status(), 200),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}
