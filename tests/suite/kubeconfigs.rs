//! Kubeconfigs of several clusters side by side, without a secret, and from an administrator's template; and what a page
//! weighs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::World;
use super::support::kubectl::Kubectl;

async fn cluster(name: &'static str) -> World {
    let world = World::start_with(|raw| raw.cluster_name = Some(name.to_owned())).await;
    world.api.put_pod("team-a", name);
    world
}

/// The answer to `GET /kubeconfig`, in a file.
async fn plugin_kubeconfig(world: &World) -> (PathBuf, String) {
    let browser = world.signed_in("alice").await;
    let page = browser.get(&world.at("/kubeconfig")).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(page.header("content-disposition").starts_with("attachment; filename="));
    let file = world.dir.path().join("plugin.yaml");
    std::fs::write(&file, page.text()).unwrap();
    (file, page.text())
}

fn kubectl_of(files: &[&Path]) -> Kubectl {
    let list: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    Kubectl::new(Path::new(&list.join(":")))
}

#[tokio::test(flavor = "multi_thread")]
async fn kubeconfigs_of_two_clusters_merge() {
    // Proves that two clusters' files in one KUBECONFIG collide nowhere, and that each context reaches its own cluster.
    let (east, west) = (cluster("prod-east").await, cluster("prod-west").await);
    let files = [
        east.kubeconfig(&east.signed_in("alice").await).await,
        west.kubeconfig(&west.signed_in("alice").await).await,
    ];
    let kubectl = kubectl_of(&[&files[0], &files[1]]);
    let merged: Value = serde_json::from_str(&kubectl.ok(&["config", "view", "-o", "json"]).await).unwrap();
    for part in ["clusters", "users", "contexts"] {
        let names: Vec<_> =
            merged[part].as_array().unwrap().iter().map(|entry| entry["name"].as_str()).collect();
        assert_eq!(names.len(), 2, "{part}: {names:?}");
        assert!(names.iter().all(|name| name.unwrap().contains("prod-")), "{part}: {names:?}");
    }
    for name in ["prod-east", "prod-west"] {
        let pods = kubectl.ok(&["--context", name, "get", "pods", "-n", "team-a", "-o", "name"]).await;
        assert!(pods.contains(&format!("pod/{name}\n")), "{pods}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_for_the_plugin_says_what_is_missing() {
    // Proves that the file holds no secret and the public CA, and that kubectl without the program says what to do.
    let world = cluster("prod").await;
    let (file, text) = plugin_kubeconfig(&world).await;
    assert!(!text.contains("entrada_") && text.contains("certificate-authority-data"), "{text}");
    let kubectl = Kubectl::new(&file);
    let view: Value = serde_json::from_str(&kubectl.ok(&["config", "view", "-o", "json"]).await).unwrap();
    assert_eq!(view["users"][0]["user"]["exec"]["args"], json!(["credential", "--server", world.url]));
    let finished = kubectl.run(&["get", "pods"]).await;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("download a kubeconfig with a token"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrators_template_is_used() {
    // Proves that a mounted folder changes what people download: here, the namespace that they begin in.
    let folder = tempfile::TempDir::new().unwrap();
    let ours = std::fs::read_to_string("kubeconfig-templates/token.yaml").unwrap();
    let theirs = ours.replace(
        "      user: {{ value(user) }}\n",
        "      user: {{ value(user) }}\n      namespace: team-a\n",
    );
    assert_ne!(ours, theirs);
    std::fs::write(folder.path().join("token.yaml"), theirs).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let world = World::start_with(move |raw| raw.kubeconfig_templates = Some(path)).await;
    world.api.put_pod("team-a", "web");
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]).await.trim(), "pod/web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_weighs_at_most_50_kb() {
    // Proves the bound with everything that belongs to the page, for a user of 40 tokens, 12 sign-ins and 190 groups: as many as fit into a token.
    let world = World::start().await;
    world.entra.edit_user("alice", |alice| {
        alice.groups = (0..190_u32).map(|n| format!("6e0a0000-0000-4000-8000-{n:012}")).collect();
    });
    let html = [("accept", "text/html")];
    let mut browser = world.signed_in("alice").await;
    for _ in 0..11 {
        browser = world.signed_in("alice").await;
    }
    for n in 0..40 {
        world.new_token(&browser, json!({ "name": format!("token-{n:02}-{}", "x".repeat(50)) })).await;
    }
    let page = browser.get_with(&world.at("/"), &html).await.unwrap();
    assert!(
        page.text().contains("The newest 8 of 40.") && page.text().contains("And 131 more"),
        "{}",
        page.text()
    );
    let mut bytes = page.text().len();
    for file in ["entrada.css", "portal.js", "icon.svg"] {
        bytes += browser.get(&world.at(&format!("/assets/{file}"))).await.unwrap().text().len();
    }
    assert!(bytes <= 50_000, "{bytes} bytes");
    let all = browser.get_with(&world.at("/?all"), &html).await.unwrap().text();
    assert!(all.contains("token-00-") && all.contains("token-39-"), "not all of them");
}
