//! The real Prometheus and its promtool, as `scripts/tools` fetched them, and what manifests/components/monitoring gives them.

#[expect(dead_code, reason = "the tests of the manifests need more of it")]
#[path = "../../manifests/render.rs"]
mod render;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr};

use self::render::kustomize;
use super::PATIENCE;

/// The labels that the Prometheus Operator gives a pod's metrics, after manifests/components/monitoring/podmonitor.yaml.
pub(crate) fn labels(pod: &str) -> Value {
    json!({ "namespace": "entrada", "pod": pod, "container": "entrada", "job": "entrada", "endpoint": "admin" })
}

/// The groups of the PrometheusRule, as Prometheus itself takes them.
pub(crate) fn rules() -> Value {
    json!({ "groups": object("PrometheusRule")["spec"]["groups"] })
}

/// The dashboard, out of its ConfigMap.
pub(crate) fn dashboard() -> Value {
    serde_json::from_str(object("ConfigMap")["data"]["entrada.json"].as_str().unwrap()).unwrap()
}

fn object(kind: &str) -> Value {
    kustomize("components/monitoring").objects.into_iter().find(|object| object["kind"] == kind).unwrap()
}

/// Runs promtool, which must be content.
pub(crate) fn promtool(arguments: &[&str], file: &Path) {
    let output = Command::new(tool("promtool")).args(arguments).arg(file).output();
    let output = output.expect("scripts/tools prometheus installs it");
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&told));
}

/// The program that `scripts/tools` has put aside, or the system's own.
fn tool(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
    if own.exists() { own } else { PathBuf::from(name) }
}

/// A running Prometheus, which ends with this.
pub(crate) struct Prometheus {
    address: String,
    _child: Child,
    /// Kept open, or it could not write its log.
    _log: Lines<BufReader<ChildStderr>>,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes `target` every second, and evaluates our rules as often.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let dir = TempDir::new().unwrap();
        let (config, rules_file) = (dir.path().join("prometheus.yaml"), dir.path().join("rules.yaml"));
        std::fs::write(&rules_file, rules().to_string()).unwrap();
        let text = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules_file],
            "scrape_configs": [{
                "job_name": "entrada",
                "static_configs": [{ "targets": [target.to_string()], "labels": labels("entrada-0") }],
            }],
        });
        std::fs::write(&config, text.to_string()).unwrap();
        promtool(&["check", "config"], &config);
        let mut child = tokio::process::Command::new(tool("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("scripts/tools prometheus installs it");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = log.next_line().await.unwrap().expect("it ended before it had started");
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["msg"] == "Listening on" {
                    break event["address"].as_str().unwrap().to_owned();
                }
            }
        };
        let address = tokio::time::timeout(PATIENCE, listening).await.expect("it does not start");
        Self { address, _child: child, _log: log, _dir: dir }
    }

    /// The `data` of an answer of its API.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        // Of HTTP/1.0, so that the answer is one piece.
        stream.write_all(format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], "success", "{path}: {body}");
        body["data"].take()
    }

    /// What an expression gives now: a value for each time series.
    pub(crate) async fn query(&self, expression: &str) -> Vec<f64> {
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
        let data = self.get(&format!("query?{query}")).await;
        let series = data["result"].as_array().unwrap().iter();
        series.map(|series| series["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }
}
