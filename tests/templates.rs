//! The templates under hostile values: with the engine that fills them in, and with the kubectl that reads the result.

use std::path::Path;
use std::process::{self, Command};
use std::{fs, thread};

use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::Value;

/// Ends a quote, a line, a tag, and a comment in YAML 1.1, and would then bring something of its own.
const HOSTILE: &str = "a\"'<script>\\\n\u{85}x: 1\u{2028}y: 2\u{2029}z: 3\ttoken: stolen {{ 7 * 7 }}";

#[test]
fn a_kubeconfig_keeps_every_value_in_its_place() {
    // Proves that kubectl reads the values that were given, and that none of them adds a line of its own.
    let (plain, hostile) = (kubeconfig("example", "ada@contoso.com"), kubeconfig(HOSTILE, HOSTILE));
    assert_eq!(plain.lines().count(), hostile.lines().count());
    let breaks = |c: char| "\u{85}\u{2028}\u{2029}".contains(c);
    assert!(!hostile.contains(breaks));

    let shown = HOSTILE.replace(breaks, " ");
    for (file, cluster) in [(plain, "example"), (hostile, shown.as_str())] {
        let read = kubectl_reads(&file);
        assert_eq!(read["current-context"], cluster);
        assert_eq!(read["contexts"][0]["name"], cluster);
        assert_eq!(read["contexts"][0]["context"]["cluster"], read["clusters"][0]["name"]);
        assert_eq!(read["contexts"][0]["context"]["user"], read["users"][0]["name"]);
        assert_eq!(read["contexts"][0]["context"]["namespace"], "team-a");
        assert_eq!(read["clusters"][0]["cluster"]["server"], "https://k8s.example.com");
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], "Y2E=");
        assert_eq!(read["users"][0]["user"], serde_json::json!({ "token": "entrada_x" }));
    }
}

#[test]
fn a_kubeconfig_for_the_plugin_holds_no_secret() {
    // Proves that kubectl is told which program to ask, for which server, and that hostile values stay values.
    for (cluster, username) in [("example", "ada@contoso.com"), (HOSTILE, HOSTILE)] {
        let read = kubectl_reads(&render(
            "kubeconfig-templates/plugin.yaml",
            context! {
                cluster, username, user => format!("{username}@{cluster}"), public_url => "https://k8s.example.com",
                ca_data => (), namespace => (),
            },
        ));
        let user = read["users"][0]["user"].as_object().expect("a user");
        assert_eq!(user.keys().collect::<Vec<_>>(), ["exec"]);
        let exec = &user["exec"];
        assert_eq!(exec["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!((&exec["command"], &exec["interactiveMode"]), (&"entrada".into(), &"IfAvailable".into()));
        assert_eq!(exec["args"], serde_json::json!(["credential", "--server", "https://k8s.example.com"]));
        assert_eq!(read["contexts"][0]["context"]["user"], read["users"][0]["name"]);
    }
}

#[test]
fn a_kubeconfig_without_ca_and_namespace_leaves_them_to_the_system() {
    // Proves that kubectl gets no empty CA, which it would trust instead of the system's.
    let read = kubectl_reads(&render(
        "kubeconfig-templates/token.yaml",
        context! {
            cluster => "example", public_url => "https://k8s.example.com", ca_data => (), namespace => (),
            user => "entrada-example-ada", username => "ada", token => "entrada_x", expires_at => "2030-01-01T00:00:00Z",
        },
    ));
    assert_eq!(read["clusters"][0]["cluster"], serde_json::json!({ "server": "https://k8s.example.com" }));
    assert!(read["contexts"][0]["context"]["namespace"].is_null());
}

#[test]
fn the_portal_shows_names_as_text_and_a_fresh_token_once() {
    // Proves that whatever Entra or the user calls somebody or something is never read as HTML.
    let page =
        portal(context! { name => HOSTILE, token => "entrada_fresh", expires_at => "2030-01-01T00:00:00Z" });
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
    assert!(!page.contains("49"), "a value was taken for a template");
    assert_eq!(page.matches("entrada_fresh").count(), 1);
    assert!(!portal(minijinja::Value::from(())).contains("entrada_fresh"));
}

#[test]
fn pages_hold_nothing_that_their_policy_forbids_and_work_without_scripts() {
    // Proves that no style or script stands in a page, and that each of the portal's acts is a plain form.
    let message = render(
        "src/pages/templates/message.html",
        context! {
            title => HOSTILE, sentence => HOSTILE, details => [["Reason", HOSTILE]],
            action => context! { label => "Sign in", href => "/login" },
        },
    );
    let portal = portal(minijinja::Value::from(()));
    let mount = render(
        "src/pages/templates/mount.html",
        context! { host => HOSTILE, state => "abcdefgh", href => "/login?mount=x" },
    );
    for page in [&message, &portal, &mount] {
        for forbidden in
            ["<style", " style=", "<script>", " onclick=", " onsubmit=", "javascript:", "http://"]
        {
            assert!(!page.contains(forbidden), "{forbidden} in {page}");
        }
    }
    for action in
        ["/kubeconfig", "/tokens", "/tokens/t1", "/tokens/arm", "/refresh", "/logout", "/logout/everywhere"]
    {
        let form = format!("<form method=\"post\" action=\"{action}\"");
        assert!(portal.replace("&#x2f;", "/").contains(&form), "{action}");
    }
}

fn kubeconfig(cluster: &str, username: &str) -> String {
    render(
        "kubeconfig-templates/token.yaml",
        context! {
            cluster, username, user => format!("entrada-{cluster}-{username}"),
            public_url => "https://k8s.example.com", ca_data => "Y2E=", namespace => "team-a",
            token => "entrada_x", expires_at => "2030-01-01T00:00:00Z",
        },
    )
}

fn portal(fresh: minijinja::Value) -> String {
    let moment =
        || context! { iso => "2030-01-01T00:00:00Z", words => "in 6 days", exact => "1 Jan 2030, 00:00 UTC" };
    let row = context! {
        id => "t1", name => HOSTILE, mount => (), state => "dormant", is_this_browser => false, made => moment(),
        last_used => moment(), from => HOSTILE, ends => moment(),
    };
    let (this, hostile) = (context! { is_this_browser => true, ..row.clone() }, [HOSTILE; 5]);
    let mounted = context! { mount => HOSTILE, ..row.clone() };
    render(
        "src/pages/templates/portal.html",
        context! {
            cluster => HOSTILE, file_name => "x.yaml", public_url => "https://k8s.example.com", fresh,
            fresh_ends => moment(), tokens => [row.clone(), row.clone()], tokens_in_all => 2, dormant => 2, rearm => true,
            browsers => [this, mounted, row], browsers_in_all => 3, session => moment(),
            dashboards => [context! { host => HOSTILE, href => "https://headlamp.example.com" }],
            user => context! { name => HOSTILE, username => HOSTILE, oid => "o", tid => "t" },
            subject => context! { username => HOSTILE, groups => hostile, more_groups => 1 },
            access => context! {
                state => "blocked", word => "No access", sentence => HOSTILE, href => "/login", label => "Try again",
            },
            lifetimes => [(43_200, "12 hours"), (2_592_000, "30 days")],
        },
    )
}

/// Fills in a template by its path in the project; a value that it names but did not get is an error.
fn render(path: &str, values: minijinja::Value) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).expect("a template of the project");
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.add_global("assets", "/assets");
    engine.add_global("home", "/");
    let base = read(&root.join("src/pages/templates/base.html"));
    engine.add_template_owned("base.html", base).expect("base.html parses");
    // The engine knows from the name how to escape.
    engine.add_template_owned(path.to_owned(), read(&root.join(path))).expect("the template parses");
    engine.get_template(path).and_then(|template| template.render(values)).expect("the template renders")
}

fn kubectl_reads(kubeconfig: &str) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubectl");
    assert!(program.exists(), "kubectl is missing: run scripts/tools kubectl");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("kubeconfig-{}-{:?}", process::id(), thread::current().id()));
    fs::write(&file, kubeconfig).expect("a writable target folder");
    let output = Command::new(program)
        .args(["config", "view", "--raw", "--output=json", "--kubeconfig"])
        .arg(&file)
        .output()
        .expect("kubectl starts");
    fs::remove_file(&file).expect("our own file");
    assert!(output.status.success(), "{kubeconfig}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("kubectl prints JSON")
}
