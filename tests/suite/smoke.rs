use super::support::World;
use super::support::kubectl::Kubectl;

/// Proves the main job: sign in once, and kubectl is you.
#[tokio::test(flavor = "multi_thread")]
async fn sign_in_once_then_kubectl_is_you() {
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    world.api.put_pod("team-a", "web");
    println!("{}", kubectl.ok(&["get", "pods", "-n", "team-a"]).await);
    println!("{}", kubectl.ok(&["auth", "whoami"]).await);
}
