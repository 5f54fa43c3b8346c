//! The real `entrada login` with a real browser, an Entrada, and a real kubectl that runs `entrada credential`.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::super::support::webdriver::Chromium;
use super::super::support::{PATIENCE, World};
use super::{pick_alice, world};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entrada");

/// Somebody's computer: a home, and the program on its `PATH`.
struct Computer {
    home: tempfile::TempDir,
    authority: PathBuf,
}

/// A login that waits for its person.
struct Waiting {
    child: Child,
    told: Lines<BufReader<ChildStderr>>,
}

impl Computer {
    fn of(world: &World) -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = home.path().join("ca.crt");
        std::fs::write(&authority, world.ca.pem()).unwrap();
        Self { home, authority }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.home.path().join(".kube/config")
    }

    fn entrada(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    fn login(&self, world: &World, more: &[&str]) -> Waiting {
        let authority = self.authority.display().to_string();
        let login = ["login", world.url.as_str(), "--ca-file", &authority];
        let mut child = self.entrada(&[&login, more].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stderr.take().unwrap()).lines();
        Waiting { child, told }
    }

    /// What kubectl, which runs `entrada credential`, prints of the pods that alice may see.
    async fn pods(&self) -> (bool, String) {
        let kubectl = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
        let mut kubectl = Command::new(kubectl);
        let kubectl = kubectl.args(["get", "pods", "-n", "team-a"]).env_clear().env("HOME", self.home.path());
        let folder = std::path::Path::new(PROGRAM).parent().unwrap();
        let output = kubectl.env("PATH", folder).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("kubectl does not end").unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }
}

impl Waiting {
    /// The first word in what it says that is like this.
    async fn word(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let reading = async {
            loop {
                let line = self.told.next_line().await.unwrap().expect("it ended");
                if let Some(word) = line.split_whitespace().find(|word| fits(word)) {
                    return word.to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it says no such thing")
    }

    async fn ends_well(mut self) {
        let ended =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        let mut rest = String::new();
        while let Some(line) = self.told.next_line().await.unwrap() {
            rest.push_str(&line);
        }
        assert!(ended.success(), "{ended}: {rest}");
        assert!(rest.contains("Signed in to"), "{rest}");
    }
}

fn is_number(word: &str) -> bool {
    word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Proves that one command and one click lead to a kubectl that acts as the person, also in two processes at once, that the
/// kubeconfig holds no secret, and that a logout ends it.
#[tokio::test(flavor = "multi_thread")]
async fn login_by_browser_sets_kubectl_up() {
    let world = world().await;
    let computer = Computer::of(&world);
    let mut login = computer.login(&world, &["--no-browser"]);
    let number = login.word(is_number).await;
    let address = login.word(|word| word.contains("/cli/authorize?")).await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&address).await;
    pick_alice(&world, &browser).await;
    browser.sees(&number).await;
    browser.press("Allow").await;
    login.ends_well().await;
    let kubeconfig = std::fs::read_to_string(computer.kubeconfig()).unwrap();
    assert!(!kubeconfig.contains("entrada_"), "the kubeconfig holds a token");

    let (first, second) = tokio::join!(computer.pods(), computer.pods());
    assert!(first.0 && first.1.contains("NAME"), "{first:?}");
    assert_eq!(first, second);

    let ended = computer.entrada(&["logout", &world.url]).output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let (worked, told) = computer.pods().await;
    assert!(!worked && told.contains("entrada login"), "{told}");
}

/// Proves the same for a code that is typed elsewhere, and that a revoked token leads to a sentence and not to a loop.
#[tokio::test(flavor = "multi_thread")]
async fn login_by_code_sets_kubectl_up() {
    let world = world().await;
    let computer = Computer::of(&world);
    let mut login = computer.login(&world, &["--device"]);
    let code = login.word(|word| word.len() == 9 && word.as_bytes()[4] == b'-').await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.at("/device")).await;
    pick_alice(&world, &browser).await;
    browser.enter("input[name=user_code]", &code).await;
    browser.press("Go on").await;
    browser.sees("Let this computer act as you").await;
    browser.press("Allow").await;
    login.ends_well().await;
    let (worked, told) = computer.pods().await;
    assert!(worked && told.contains("NAME"), "{told}");

    let elsewhere = world.signed_in("alice").await;
    let ended =
        elsewhere.post_form(&world.at("/logout/everywhere"), &[], &[("origin", &world.url)]).await.unwrap();
    assert!(ended.status.is_redirection(), "{}", ended.text());
    let (worked, told) = computer.pods().await;
    assert!(!worked && told.contains("entrada login"), "{told}");
}
