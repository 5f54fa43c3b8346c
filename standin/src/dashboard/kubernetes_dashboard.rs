//! Kubernetes Dashboard 7: its modules `auth`, `api` and `web` behind one gateway. It asks the API server by itself, with
//! the bearer of the request that it answers.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{Program, bearer, page};
use crate::serve::Body;

pub(super) async fn answer(program: &Program, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let token = bearer(request.headers());
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "sockjs", rest @ ..] => program.terminals.answer(program, rest, request),
        // Settings are read without a user; whoever gets none has the defaults.
        ["settings", ..] => {
            let _refused = program.upstream()?.ask("/api/v1/namespaces/kd/configmaps/settings", None).await;
            Ok(super::json(StatusCode::OK, &json!({ "itemsPerPage": 10 })))
        }
        ["api", "v1", rest @ ..] => {
            let Some(token) = token else { return Ok(unauthorized()) };
            as_user(program, request.method(), rest, token).await
        }
        _ => Ok(page(include_str!("kubernetes_dashboard.html"))),
    }
}

async fn as_user(
    program: &Program,
    method: &Method,
    parts: &[&str],
    token: String,
) -> anyhow::Result<Response<Body>> {
    let upstream = program.upstream()?;
    let ask = async |path: &str| upstream.ask(path, Some(&token)).await;
    let (status, shown) = match (method.as_str(), parts) {
        ("GET", ["me"]) => {
            let (status, _) = ask("/version").await?;
            (status, json!({ "name": "", "authenticated": true }))
        }
        ("GET", ["csrftoken", _]) => (200, json!({ "token": "csrf" })),
        ("GET", ["pod", namespace]) => {
            let (status, list) = ask(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
            (status, json!({ "pods": names(&list) }))
        }
        ("GET", ["pod", namespace, pod, "shell", container]) => {
            let path = format!(
                "/api/v1/namespaces/{namespace}/pods/{pod}/exec?command=sh&stdin=1&stdout=1&tty=1&container={container}"
            );
            (200, json!({ "id": program.terminals.prepare(path, token) }))
        }
        _ => (404, json!({})),
    };
    match status {
        200 => Ok(super::json(StatusCode::OK, &shown)),
        401 => Ok(unauthorized()),
        other => {
            Ok(super::json(StatusCode::from_u16(other)?, &json!({ "message": "the API server refused it" })))
        }
    }
}

fn names(list: &Value) -> Vec<Value> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|pod| json!({ "objectMeta": { "name": pod["metadata"]["name"] } })).collect()
}

fn unauthorized() -> Response<Body> {
    super::json(StatusCode::UNAUTHORIZED, &json!({ "ErrStatus": { "code": 401, "reason": "Unauthorized" } }))
}
