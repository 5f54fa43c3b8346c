//! What can be wrong between the pod and the API server.

use std::time::Duration;

use standin::apiserver::Fault;
use standin::pki::Ca;

use super::broken;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_cannot_be_used() {
    // Proves that the API server is looked for as the server would reach it, without any credential.
    broken(
        "nobody listens",
        async |it| it.world.api.kill().await,
        ("api_server", "the server cannot be reached", "correct ENTRADA_API_SERVER_URL, or allow the pod"),
    )
    .await;
    broken(
        "another cluster's CA",
        async |it| {
            let other = it.file("other.pem", Ca::new("another").unwrap().pem());
            it.set("ENTRADA_API_SERVER_CA_FILE", other);
        },
        ("api_server", "certificate is not trusted", "must hold the cluster's CA"),
    )
    .await;
    broken(
        "a certificate for another name",
        async |it| {
            it.set("ENTRADA_API_SERVER_URL", it.world.api.url().replace("localhost", "[::ffff:127.0.0.1]"))
        },
        ("api_server", "not valid for name", "the certificate must name the host"),
    )
    .await;
    broken(
        "something else",
        async |it| it.set("ENTRADA_API_SERVER_URL", it.world.entra.origin()),
        ("api_server", "answers /version with 404", "correct ENTRADA_API_SERVER_URL"),
    )
    .await;
    broken(
        "no answer",
        async |it| it.world.api.fault("/version", Fault::DelayHead(Duration::from_secs(60))),
        ("api_server", "the server did not answer in time", "NetworkPolicy"),
    )
    .await;
}
