//! `kubectl cp` and `exec -i` through Entrada: large and binary content, both ways.

use std::fs;
use std::path::Path;

use super::support::kubectl::Kubectl;
use super::support::{World, noise, sha256};

/// Takes three seconds with the debug build, where nothing else runs.
const LARGE_BYTES: usize = 200 << 20;

async fn alice() -> (World, std::path::PathBuf) {
    let world = World::start().await;
    world.api.put_pod("team-a", "web");
    let kubeconfig = world.kubeconfig(&world.signed_in("alice").await).await;
    (world, kubeconfig)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies so many bytes into the pod and back out; equal hashes on all three sides.
async fn there_and_back(world: &World, kubectl: &Kubectl, count: usize) {
    let (up, down) = (world.dir.path().join("up.bin"), world.dir.path().join("down.bin"));
    let content = noise(count);
    fs::write(&up, &content).unwrap();
    let expected = sha256(&content);
    // It may be large, and two more of it will be in memory.
    drop(content);
    let pod = |path: &str| format!("team-a/web:{path}");
    kubectl.ok(&["cp", text(&up), &pod("/tmp/there.bin")]).await;
    let hash = kubectl.ok(&["exec", "-n", "team-a", "web", "--", "sha256sum", "/tmp/there.bin"]).await;
    assert_eq!(hash, format!("{expected}  /tmp/there.bin\n"));
    kubectl.ok(&["cp", &pod("/tmp/there.bin"), text(&down)]).await;
    assert_eq!(sha256(&fs::read(&down).unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_copied_both_ways() {
    // Proves that `cp` loses nothing on its way through two tunnels.
    let (world, kubeconfig) = alice().await;
    there_and_back(&world, &Kubectl::new(&kubeconfig), LARGE_BYTES).await;
    let seen = world.api.requests();
    let commands: Vec<Vec<&str>> = seen
        .iter()
        .filter_map(|request| request.target.split_once("/exec?"))
        .map(|(_, query)| query.split('&').filter_map(|pair| pair.strip_prefix("command=")).collect())
        .collect();
    // What kubectl 1.34 runs in the pod; should it change, the stand-in has to learn it.
    assert_eq!(
        commands,
        [
            ["test", "-d", "%2Ftmp%2Fthere.bin"].as_slice(),
            &["tar", "-xmf", "-", "-C", "%2Ftmp"],
            &["sha256sum", "%2Ftmp%2Fthere.bin"],
            &["tar", "cf", "-", "%2Ftmp%2Fthere.bin"],
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_copied_both_ways_over_spdy() {
    // Proves the same without WebSocket, with kubectl 1.34 and with kubectl 1.20.
    let (world, kubeconfig) = alice().await;
    for kubectl in [Kubectl::new(&kubeconfig).over_spdy(), Kubectl::old(&kubeconfig)] {
        there_and_back(&world, &kubectl, 10 << 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_copied_as_they_are() {
    // Proves that names, depths and emptiness survive, and that a copy into a directory lands inside it.
    let (world, kubeconfig) = alice().await;
    let kubectl = Kubectl::new(&kubeconfig);
    let (from, to) = (world.dir.path().join("tree"), world.dir.path().join("back"));
    let long_name = "n".repeat(150);
    let files = [("a.txt", b"a".as_slice()), ("deep/er/b.bin", &[0, 255, 10, 13]), ("empty", b"")];
    for (name, content) in files {
        fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
        fs::write(from.join(name), content).unwrap();
    }
    fs::write(from.join(&long_name), b"long").unwrap();
    kubectl.ok(&["cp", text(&from), "team-a/web:/tmp"]).await;
    let read = |path: String| {
        let kubectl = &kubectl;
        async move { kubectl.ok(&["exec", "-n", "team-a", "web", "--", "cat", &path]).await }
    };
    assert_eq!(read(format!("/tmp/tree/{long_name}")).await, "long");
    assert_eq!(read("/tmp/tree/a.txt".to_owned()).await, "a");
    kubectl.ok(&["cp", "team-a/web:/tmp/tree/deep", text(&to)]).await;
    assert_eq!(fs::read(to.join("er/b.bin")).unwrap(), [0, 255, 10, 13]);
    let missing = kubectl.run(&["cp", "team-a/web:/tmp/nothing", text(&to)]).await;
    assert_ne!(missing.code, Some(0));
    // kubectl itself prints there what tar says.
    assert!(missing.stdout.contains("Cannot stat: No such file or directory"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_stream_passes_exec_unharmed() {
    // Proves that `exec -i` is clean for every byte value, both ways, in every way that kubectl speaks.
    let (_world, kubeconfig) = alice().await;
    let content = noise(8 << 20);
    let kubectls =
        [Kubectl::new(&kubeconfig), Kubectl::new(&kubeconfig).over_spdy(), Kubectl::old(&kubeconfig)];
    for kubectl in kubectls {
        let exec = ["exec", "-i", "-n", "team-a", "web", "--"];
        let back = kubectl.output(&[&exec[..], &["cat"]].concat(), &content).await;
        assert_eq!(back.status.code(), Some(0), "{}", String::from_utf8_lossy(&back.stderr));
        assert!(back.stdout == content, "{} bytes came back", back.stdout.len());
        let hash = kubectl.output(&[&exec[..], &["sha256sum"]].concat(), &content).await;
        assert_eq!(String::from_utf8_lossy(&hash.stdout), format!("{}  -\n", sha256(&content)));
    }
}
