//! What the caller can read: the `Accept` header's media types with their parameters, in its order.

use http::HeaderMap;
use http::header::ACCEPT;

/// One acceptable media type.
#[derive(Clone, Debug)]
pub(crate) struct MediaType {
    essence: String,
    params: Vec<(String, String)>,
}

impl MediaType {
    /// `application/json;as=Table;v=v1` and its like.
    pub(crate) fn is_json_as(&self, kind: &str, version: &str) -> bool {
        self.essence == "application/json" && self.param("as") == kind && self.param("v") == version
    }

    pub(crate) fn is_plain_json(&self) -> bool {
        matches!(self.essence.as_str(), "application/json" | "*/*" | "application/*")
            && self.param("as").is_empty()
    }

    pub(crate) fn is_openapi_protobuf(&self) -> bool {
        self.essence.starts_with("application/com.github.proto-openapi.spec.v2")
    }

    fn param(&self, key: &str) -> &str {
        self.params.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

/// The acceptable types, best first (`q` is not weighed; Kubernetes clients do not send it).
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<MediaType> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(media_type).collect()
}

fn media_type(text: &str) -> MediaType {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_lowercase();
    let params = parts
        .filter_map(|param| param.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    MediaType { essence, params }
}

/// How objects shall be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Object,
    /// As rows, in `meta.k8s.io/v1` or `v1beta1`.
    Table(&'static str),
    /// Metadata only, likewise.
    Metadata(&'static str),
}

impl View {
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        for media_type in accepted(headers) {
            for (version, full) in [("v1", "meta.k8s.io/v1"), ("v1beta1", "meta.k8s.io/v1beta1")] {
                if media_type.is_json_as("Table", version) {
                    return Self::Table(full);
                }
                let is_metadata = media_type.is_json_as("PartialObjectMetadata", version)
                    || media_type.is_json_as("PartialObjectMetadataList", version);
                if is_metadata {
                    return Self::Metadata(full);
                }
            }
            if media_type.is_plain_json() {
                return Self::Object;
            }
        }
        Self::Object
    }
}
