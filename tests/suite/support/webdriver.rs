//! A real Chromium, as a person's hands and eyes: headless, driven by `chromedriver` over WebDriver
//! (https://www.w3.org/TR/webdriver2/), which is JSON over plain HTTP.
//!
//! Each has a home of its own that is gone afterwards, and trusts the stand-ins' authority as a company's computers
//! trust theirs: by a certificate in its store. No check of certificates is switched off.

mod driver;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use self::driver::Driver;
use super::PATIENCE;

/// Under which WebDriver keeps an element's id (its section 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Several at once would starve each other, and the tests beside them, on a small computer.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A running Chromium with one window.
pub(crate) struct Chromium {
    driver: Driver,
    /// `/session/<id>`
    session: String,
    home: TempDir,
    /// `None`: it runs beside one that has it.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// An answer that the browser got for a page, a file or a script.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) status: u64,
    headers: Value,
}

impl Chromium {
    /// Starts one that trusts these authorities (PEM). `hosts`: names that it finds at other addresses, as
    /// `MAP name address`, separated by commas.
    pub(crate) async fn start(ca_pem: &str, hosts: &str) -> Self {
        Self::launch(ca_pem, hosts, Some(ONE_AT_A_TIME.lock().await)).await
    }

    /// A second one at the same time, for another person. It must go first.
    pub(crate) async fn beside(&self, ca_pem: &str, hosts: &str) -> Self {
        Self::launch(ca_pem, hosts, None).await
    }

    async fn launch(ca_pem: &str, hosts: &str, alone: Option<MutexGuard<'static, ()>>) -> Self {
        let home = TempDir::new().unwrap();
        trust(home.path(), ca_pem);
        std::fs::create_dir(home.path().join("Downloads")).unwrap();
        let driver = Driver::start(home.path()).await;
        let created = driver.call(Method::POST, "/session", &capabilities(home.path(), hosts)).await.unwrap();
        let session = format!("/session/{}", created["sessionId"].as_str().unwrap());
        Self { driver, session, home, _alone: alone }
    }

    /// One command of the session; `Err` holds WebDriver's name of the error.
    async fn attempt(&self, method: Method, command: &str, body: &Value) -> Result<Value, String> {
        self.driver.call(method, &format!("{}{command}", self.session), body).await
    }

    async fn get(&self, command: &str) -> Value {
        self.attempt(Method::GET, command, &json!({})).await.unwrap()
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        self.attempt(Method::POST, command, &body).await.unwrap()
    }

    /// Types an address, and waits until the page is there.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// What stands in the address bar.
    pub(crate) async fn url(&self) -> String {
        self.get("/url").await.as_str().unwrap().to_owned()
    }

    /// The page's text as a person sees it; empty between two pages.
    pub(crate) async fn text(&self) -> String {
        let Some(body) = self.seek("css selector", "body").await else { return String::new() };
        let text = self.attempt(Method::GET, &format!("/element/{body}/text"), &json!({})).await;
        text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until the page says this.
    pub(crate) async fn sees(&self, text: &str) {
        self.until(&format!("the words {text:?}"), || async { self.text().await.contains(text) }).await;
    }

    /// Waits until the address begins with this.
    pub(crate) async fn comes_to(&self, url: &str) {
        self.until(&format!("the address {url}"), || async { self.url().await.starts_with(url) }).await;
    }

    /// Clicks the first button, link or summary with this label.
    pub(crate) async fn press(&self, label: &str) {
        let path = format!("//*[self::button or self::a or self::summary][normalize-space()='{label}']");
        let element = self.find("xpath", &path).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Clicks what this CSS selector finds.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find("css selector", selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Types into what this CSS selector finds.
    pub(crate) async fn enter(&self, selector: &str, text: &str) {
        let element = self.find("css selector", selector).await;
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// The text of what this CSS selector finds.
    pub(crate) async fn read(&self, selector: &str) -> String {
        let element = self.find("css selector", selector).await;
        self.get(&format!("/element/{element}/text")).await.as_str().unwrap().to_owned()
    }

    /// Runs a script in the page; what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Runs a script in the page that calls its last argument with what it has found.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Says yes or no, ahead of its asking, to what a page may ask for.
    pub(crate) async fn permit(&self, name: &str, granted: bool) {
        let state = if granted { "granted" } else { "denied" };
        self.post("/permissions", json!({ "descriptor": { "name": name }, "state": state })).await;
    }

    /// Opens a tab and looks at it; its handle.
    pub(crate) async fn new_tab(&self) -> String {
        let handle = self.post("/window/new", json!({ "type": "tab" })).await["handle"].take();
        let handle = handle.as_str().unwrap().to_owned();
        self.look_at(&handle).await;
        handle
    }

    /// The handle of the tab that is looked at.
    pub(crate) async fn tab(&self) -> String {
        self.get("/window").await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn tabs(&self) -> Vec<String> {
        serde_json::from_value(self.get("/window/handles").await).unwrap()
    }

    /// Closes the tab that is looked at; another one is to be looked at next.
    pub(crate) async fn close(&self) {
        self.attempt(Method::DELETE, "/window", &json!({})).await.unwrap();
    }

    pub(crate) async fn look_at(&self, tab: &str) {
        self.post("/window", json!({ "handle": tab })).await;
    }

    /// The value of a cookie of the page's host.
    pub(crate) async fn cookie(&self, name: &str) -> Option<String> {
        let cookie = self.attempt(Method::GET, &format!("/cookie/{name}"), &json!({})).await.ok()?;
        cookie["value"].as_str().map(str::to_owned)
    }

    /// One command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// Writes what is seen of the page into a PNG file.
    pub(crate) async fn picture(&self, file: &Path) {
        let picture = self.get("/screenshot").await;
        let bytes = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// What the browser keeps on disk of answers.
    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("profile/Default/Cache/Cache_Data")
    }

    /// Waits until this file was downloaded completely.
    pub(crate) async fn downloaded(&self, name: &str) -> PathBuf {
        // Chromium writes under another name, and renames at the end.
        let file = self.home.path().join("Downloads").join(name);
        self.until(&format!("the download of {name}"), || async { file.exists() }).await;
        file
    }

    /// What the console said since the last time that is an error or a warning, a refusal by a policy included.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().unwrap().iter();
        let grave = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        grave.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// What came over the network since the last time, whether or not the page was let to see it. Of a chain of
    /// redirects only the end.
    pub(crate) async fn answers(&self) -> Vec<Answer> {
        let log = self.post("/se/log", json!({ "type": "performance" })).await;
        let mut answers: BTreeMap<String, Answer> = BTreeMap::new();
        for entry in log.as_array().unwrap() {
            let mut message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let event = message["message"].take();
            let parameters = &event["params"];
            let answer = answers.entry(parameters["requestId"].to_string()).or_default();
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    answer.url = parameters["request"]["url"].as_str().unwrap().to_owned();
                }
                // What the network saw; `responseReceived` lacks what the page must not see.
                "Network.responseReceivedExtraInfo" => {
                    answer.status = parameters["statusCode"].as_u64().unwrap();
                    answer.headers = parameters["headers"].clone();
                }
                _ => {}
            }
        }
        answers.into_values().filter(|answer| answer.status != 0).collect()
    }

    /// Waits until `condition` holds, or tells what was on the screen instead.
    pub(crate) async fn until<F>(&self, what: &str, mut condition: impl FnMut() -> F)
    where
        F: Future<Output = bool>,
    {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                poll.tick().await;
            }
        });
        if waited.await.is_err() {
            let (url, text) = (self.url().await, self.text().await);
            panic!("waited in vain for {what}, at {url}:\n{text}");
        }
    }

    /// Waits for the element; its id.
    async fn find(&self, using: &str, value: &str) -> String {
        self.until(value, || async { self.seek(using, value).await.is_some() }).await;
        self.seek(using, value).await.unwrap()
    }

    async fn seek(&self, using: &str, value: &str) -> Option<String> {
        let body = json!({ "using": using, "value": value });
        let found = self.attempt(Method::POST, "/element", &body).await.ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }
}

impl Drop for Chromium {
    /// Closes the window, and with it Chromium; `Driver` then ends whatever did not listen.
    fn drop(&mut self) {
        let _gone_already = self.driver.end(&self.session);
    }
}

impl Answer {
    /// A header's value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.as_object().unwrap().iter();
        let found = headers.find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// Puts the authorities into the certificate store that Chromium reads on Linux.
fn trust(home: &Path, ca_pem: &str) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).unwrap();
    let certutil = |arguments: &[&str]| {
        let mut command = Command::new("certutil");
        command.arg("-d").arg(format!("sql:{}", store.display())).args(arguments);
        let done = command.output().expect("certutil is missing: run scripts/tools browser");
        assert!(done.status.success(), "certutil: {}", String::from_utf8_lossy(&done.stderr));
    };
    certutil(&["-N", "--empty-password"]);
    for (number, authority) in ca_pem.split_inclusive("-----END CERTIFICATE-----\n").enumerate() {
        let pem = home.join(format!("ca-{number}.pem"));
        std::fs::write(&pem, authority).unwrap();
        certutil(&["-A", "-n", &number.to_string(), "-t", "C,,", "-i", pem.to_str().unwrap()]);
    }
}

fn capabilities(home: &Path, hosts: &str) -> Value {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let hosts = format!("--host-resolver-rules={hosts}");
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": {
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                // A page that is left would otherwise be kept for a while, with its streams.
                "--disable-features=BackForwardCache", "--disable-sync", "--remote-debugging-pipe", "--window-size=1180,1400", profile, hosts,
            ],
            "prefs": {
                "download.default_directory": home.join("Downloads"),
                "download.prompt_for_download": false,
            },
        },
    } } })
}
