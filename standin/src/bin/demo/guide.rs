//! What the person reads.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use super::folder::{self, Folder};
use super::proxy::{Address, DRAIN};
use super::surroundings::Surroundings;
use super::visit::{self, FIRST_ARGUMENTS};

/// Commands, and what to expect of each. CAROL stands for her whole name.
const TRY: [(&str, &str); 11] = [
    ("kubectl -n team-a get pods -w", "leave it open while you do the next"),
    ("kubectl -n team-a run hello --image=hello", "a new pod, in the watch at once"),
    ("kubectl -n team-a logs -f worker", "a line every two seconds"),
    ("kubectl -n team-a exec -it web -- sh", "a shell that knows echo, cat, seq, id -un, exit"),
    ("kubectl -n team-a exec web -- sh -c 'exit 3'; echo $?", "exit codes come through: 3"),
    ("kubectl -n team-a attach -it worker", "what you type becomes a line of its log"),
    ("kubectl auth whoami", "the API server sees alice, not the proxy"),
    ("kubectl -n team-b auth can-i list pods", "no: team-b is bob's"),
    ("kubectl -n team-a get pods --as CAROL", "alice may act as carol, who may see pods,"),
    ("kubectl -n team-a get configmaps --as CAROL", "but nothing else: refused"),
    ("kubectl get nodes", "refused, in the API server's own words"),
];

/// Knows all addresses and names, and whether colours are welcome.
pub(crate) struct Guide {
    url: String,
    metrics: String,
    users: String,
    carol: String,
    ca: String,
    log: String,
    kubeconfig: String,
    ink: Ink,
}

/// Bold and dim on a terminal; plain text anywhere else, and wherever `NO_COLOR` is set (no-color.org).
#[derive(Clone, Copy)]
struct Ink {
    is_welcome: bool,
}

impl Guide {
    pub(crate) fn new(address: &Address, folder: &Folder, around: &Surroundings) -> Self {
        let file = |name: &str| folder.file(name).display().to_string();
        Self {
            url: address.url.clone(),
            metrics: format!("http://{}/metrics", address.admin),
            users: in_a_sentence(&around.entra.user_names()),
            carol: around.people().map_or_else(|_| "carol".to_owned(), |people| people.carol),
            ca: file(folder::CA),
            log: folder.log().display().to_string(),
            kubeconfig: file(folder::KUBECONFIG),
            ink: Ink::for_this_output(),
        }
    }

    /// Before anything can be used.
    pub(crate) fn greeting(&self) -> String {
        format!(
            "Entrada is starting on this computer, between a stand-in Microsoft Entra and a stand-in cluster.\n\
             {}\n",
            self.ink.dim(&format!("Its log: {}", self.log))
        )
    }

    /// After the check: what it ran and what came of it.
    pub(crate) fn checked(&self, output: &str) -> String {
        let command = format!("kubectl {}", FIRST_ARGUMENTS.join(" "));
        let indented: String = output.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "\nalice has signed in and downloaded a kubeconfig. A first try with the real kubectl:\n\n  {}\n{indented}",
            self.ink.bold(&format!("$ {command}")),
        )
    }

    /// The same without a kubectl.
    pub(crate) fn unchecked(&self) -> String {
        "\nalice has signed in and downloaded a kubeconfig. There is no kubectl to try it with; \
         `scripts/tools kubectl` fetches one.\n"
            .to_owned()
    }

    /// Everything that there is to try.
    pub(crate) fn ready(&self) -> String {
        let mut text = format!("\n{}\n\n", self.ink.bold("Ready. In a browser:"));
        let Self { url, users, ca, .. } = self;
        let lines = [
            format!("  {}\n", self.ink.bold(&format!("{url}/"))),
            format!("  Sign in as {users}; no password is asked. Your browser does not know the demo's"),
            "  certificates and will warn of them, here and at the sign-in: accept them, or trust this"
                .into(),
            format!("  authority, which is made anew for each demo: {ca}\n"),
            "  Signed in as bob, you may open this, but not the same of team-a; so may his kubeconfig:"
                .into(),
            format!("  {url}/api/v1/namespaces/team-b/pods"),
        ];
        lines.iter().for_each(|line| push(&mut text, line));
        let kubectl = visit::kubectl();
        push(&mut text, &format!("\n{}\n", self.ink.bold("In another terminal, as alice:")));
        push(&mut text, &format!("  export KUBECONFIG={}", quoted(&self.kubeconfig)));
        if kubectl.exists() {
            push(&mut text, &format!("  alias kubectl={}", quoted(&kubectl.display().to_string())));
        }
        text.push('\n');
        let commands = TRY.map(|(command, why)| (command.replace("CAROL", &self.carol), why));
        let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        for (command, why) in &commands {
            push(&mut text, &format!("  {command:width$}  {}", self.ink.dim(&format!("# {why}"))));
        }
        push(
            &mut text,
            &format!(
                "\n  {:width$}  {}",
                format!("curl {}", self.metrics),
                self.ink.dim("# what Entrada counts")
            ),
        );
        push(&mut text, &format!("\n{}", self.ink.bold("Ctrl-C ends everything.")));
        text
    }

    /// While everything ends.
    pub(crate) fn farewell(log: &Path) -> String {
        format!("\nEnding. What is still open has {DRAIN}; the log stays in {}\n", log.display())
    }
}

impl Ink {
    fn for_this_output() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_welcome: !is_unwanted && std::io::stdout().is_terminal() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, style: &str, text: &str) -> String {
        if self.is_welcome { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn push(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

fn in_a_sentence(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
