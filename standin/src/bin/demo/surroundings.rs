//! What Entrada meets: a tenant with people, a cluster with pods, and a little life in both.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use standin::apiserver::{ApiServer, People, Trust, default_rules};
use standin::entra::{AKS_SERVER_APP, Entra, Options};
use standin::pki::Ca;
use standin::time::Time;

use super::folder::{self, Folder};

pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// A projected token is good for an hour. A minute keeps it fresh also after the computer has slept.
const ASSERTION_EVERY: Duration = Duration::from_secs(60);
const WORK_EVERY: Duration = Duration::from_secs(2);

/// The stand-ins, and the authority that vouches for them.
pub(crate) struct Surroundings {
    pub(crate) ca: Ca,
    pub(crate) entra: Entra,
    pub(crate) api: ApiServer,
}

impl Surroundings {
    /// Starts both on free ports, and writes the files that Entrada will read.
    pub(crate) async fn start(folder: &Folder) -> anyhow::Result<Self> {
        // Its key stays in memory and is gone with the demo: a browser may safely be told to trust it.
        let ca = Ca::new("Entrada's demo")?;
        let time = Time::default();
        let any_port = SocketAddr::from((LOOPBACK, 0));
        let options = Options { keep_secrets: false, ..Options::default() };
        let entra = Entra::start(any_port, &ca, time.clone(), options).await.context("stand-in Entra")?;
        let trust =
            Trust { issuer: entra.aks_issuer(), audience: AKS_SERVER_APP.to_owned(), keys: entra.keyset() };
        let api = ApiServer::start(any_port, &ca, time, trust).await.context("stand-in API server")?;
        entra.add_user("carol");
        let surroundings = Self { ca, entra, api };
        surroundings.api.set_rules(default_rules(&surroundings.people()?));
        surroundings.furnish();

        let issued = surroundings.ca.issue(&[])?;
        folder.write(folder::CA, surroundings.ca.pem())?;
        folder.write(folder::TLS_CERT, &issued.cert_pem)?;
        folder.write(folder::TLS_KEY, &issued.key_pem)?;
        surroundings.project_assertion(folder)?;
        Ok(surroundings)
    }

    /// Whom RBAC knows, by the names that it sees.
    pub(crate) fn people(&self) -> anyhow::Result<People> {
        let name = |first: &str| {
            let user = self.entra.user(first).with_context(|| format!("the tenant has no {first}"))?;
            anyhow::Ok(user.kubernetes_name().to_owned())
        };
        Ok(People { alice: name("alice")?, bob: name("bob")?, carol: name("carol")? })
    }

    /// Keeps the projected token fresh, as the kubelet does, and lets the worker work. Returns only with a fault.
    pub(crate) async fn live(&self, folder: &Folder) -> anyhow::Result<Infallible> {
        let mut project = tokio::time::interval(ASSERTION_EVERY);
        let mut work = tokio::time::interval(WORK_EVERY);
        let mut jobs = 0_u64;
        loop {
            tokio::select! {
                _ = project.tick() => self.project_assertion(folder)?,
                _ = work.tick() => {
                    jobs += 1;
                    self.api.append_log("team-a", "worker", &format!("job {jobs} is done"));
                }
            }
        }
    }

    /// Beside the pods `web` and `api`, and the `settings` of each team, which are there from the start.
    fn furnish(&self) {
        self.api.put_pod("team-a", "worker");
        self.api.put_pod("team-b", "database");
        for (namespace, text) in [("team-a", "Good morning, team A"), ("team-b", "Good morning, team B")] {
            self.api.put(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "namespace": namespace, "name": "greeting" },
                "data": { "text": text },
            }));
        }
    }

    fn project_assertion(&self, folder: &Folder) -> anyhow::Result<()> {
        folder.write(folder::ASSERTION, &format!("{}\n", self.entra.assertion()))
    }
}
