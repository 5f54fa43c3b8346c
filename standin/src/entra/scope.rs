//! The `scope` parameter: OpenID scopes, and scopes of at most one resource at the token endpoint.

use super::errors::Refusal;

/// The application id of "Azure Kubernetes Service AAD Server", the same in every cloud.
pub const AKS_SERVER_APP: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const AKS_URI: &str = "https://aks-aad-server.azure.com";
const GRAPH_APP: &str = "00000003-0000-0000-c000-000000000000";
const GRAPH_URI: &str = "https://graph.microsoft.com";

/// What an access token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Aks,
    Graph,
    Unknown(String),
}

/// A parsed `scope`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scopes {
    pub(crate) openid: bool,
    pub(crate) profile: bool,
    pub(crate) email: bool,
    pub(crate) offline_access: bool,
    /// Resource and permission, as asked.
    pub(crate) permissions: Vec<(Resource, String)>,
}

impl Scopes {
    pub(crate) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for word in text.split_ascii_whitespace() {
            match word {
                "openid" => scopes.openid = true,
                "profile" => scopes.profile = true,
                "email" => scopes.email = true,
                "offline_access" => scopes.offline_access = true,
                _ => scopes.permissions.push(permission(word)),
            }
        }
        scopes
    }

    pub(crate) fn resources(&self) -> Vec<&Resource> {
        let mut found = Vec::new();
        for (resource, _) in &self.permissions {
            if !found.contains(&resource) {
                found.push(resource);
            }
        }
        found
    }

    pub(crate) fn names_aks(&self) -> bool {
        self.permissions.iter().any(|(resource, _)| *resource == Resource::Aks)
    }

    /// Whether the AKS permissions are asked for as `.default`.
    pub(crate) fn aks_default(&self) -> bool {
        self.permissions.iter().any(|(resource, name)| *resource == Resource::Aks && name == ".default")
    }

    /// The one resource of a token request; Graph where only OpenID scopes were asked.
    pub(crate) fn single_resource(&self) -> Result<Resource, Refusal> {
        let resources = self.resources();
        if resources.len() > 1 {
            let text = "The scope names more than one resource; a token is for one.";
            return Err(Refusal::new(28_000, text));
        }
        let defaults = self.permissions.iter().filter(|(_, name)| name == ".default").count();
        if defaults > 1 || (defaults == 1 && self.permissions.len() > 1) {
            let text = "The scope is not valid: .default stands beside another scope of its resource.";
            return Err(Refusal::new(70_011, text));
        }
        Ok(resources.first().map_or(Resource::Graph, |resource| (*resource).clone()))
    }

    /// What the answer says was granted.
    pub(crate) fn granted(&self, resource: &Resource) -> String {
        match resource {
            Resource::Aks if self.aks_default() => {
                format!("{AKS_SERVER_APP}/user.read {AKS_SERVER_APP}/.default")
            }
            Resource::Aks => format!("{AKS_SERVER_APP}/user.read"),
            _ if self.email => "openid profile email".to_owned(),
            _ => "openid profile".to_owned(),
        }
    }
}

fn permission(word: &str) -> (Resource, String) {
    let Some((resource, name)) = word.rsplit_once('/') else {
        return (Resource::Graph, word.to_owned());
    };
    let resource = match resource.trim_end_matches('/') {
        known if known.eq_ignore_ascii_case(AKS_SERVER_APP) || known == AKS_URI => Resource::Aks,
        known if known == GRAPH_APP || known == GRAPH_URI => Resource::Graph,
        other => Resource::Unknown(other.to_owned()),
    };
    (resource, name.to_ascii_lowercase())
}
