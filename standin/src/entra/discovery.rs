//! The OpenID configurations: the tenant's, in both versions, and the cluster issuer's.

use http::Response;
use serde_json::{Value, json};

use super::state::Shared;
use crate::serve::{Body, full};

/// Version 2.0, field by field as recorded from the cloud, with the stand-in's origin in it.
pub(crate) fn v2(shared: &Shared) -> anyhow::Result<Response<Body>> {
    let base = format!("{}/{}", shared.origin(), shared.tenant());
    cacheable(&json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": shared.lock().other_issuer.clone().unwrap_or_else(|| shared.issuer()),
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host",
            "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash",
            "c_hash", "email",
        ],
        "kerberos_endpoint": format!("{base}/kerberos"),
        "tenant_region_scope": "WW",
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
        "rbac_url": "https://pas.windows.net",
    }))
}

/// Version 1, which a verifier of AKS tokens reads.
pub(crate) fn v1(shared: &Shared) -> anyhow::Result<Response<Body>> {
    let base = format!("{}/{}", shared.origin(), shared.tenant());
    cacheable(&json!({
        "token_endpoint": format!("{base}/oauth2/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{base}/discovery/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
        "scopes_supported": ["openid"],
        "issuer": shared.aks_issuer(),
        "microsoft_multi_refresh_token": true,
        "authorization_endpoint": format!("{base}/oauth2/authorize"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{base}/oauth2/logout"),
        "check_session_iframe": format!("{base}/oauth2/checksession"),
        "tenant_region_scope": "WW",
        "cloud_instance_name": "microsoftonline.com",
    }))
}

/// What a cluster's service-account issuer publishes about itself.
pub(crate) fn cluster(shared: &Shared) -> anyhow::Result<Response<Body>> {
    let issuer = shared.cluster_issuer();
    cacheable(&json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

/// The cluster issuer's one key.
pub(crate) fn cluster_keys(shared: &Shared) -> anyhow::Result<Response<Body>> {
    let key = shared.lock().federation.cluster_key.cluster_jwk();
    cacheable(&json!({"keys": [key]}))
}

/// JSON that anyone may keep for a day and read from anywhere. Unlike the real one's, no answer here bears
/// `Strict-Transport-Security`: a browser would apply it to everything else that runs on its `localhost`.
pub(crate) fn cacheable(body: &Value) -> anyhow::Result<Response<Body>> {
    Ok(Response::builder()
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "max-age=86400, private")
        .header("access-control-allow-origin", "*")
        .header("x-content-type-options", "nosniff")
        .body(full(body.to_string()))?)
}
