//! The people of the tenant.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::json;

use super::{Entra, random};

/// The group that alice is in.
pub const ADMINS_GROUP: &str = "6e0a0000-0000-4000-8000-00000000ad01";
/// The group that alice and bob are in.
pub const EVERYONE_GROUP: &str = "6e0a0000-0000-4000-8000-00000000e001";

/// One person, as the tenant knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the chooser shows and tests say: `alice`.
    pub name: String,
    /// Object id in this tenant, a GUID.
    pub oid: String,
    /// User principal name; a guest has none here.
    pub upn: Option<String>,
    /// `preferred_username` of ID tokens.
    pub username: String,
    /// `name` of tokens.
    pub display_name: String,
    /// Object id in the home tenant: `uid` of `client_info`.
    pub home_oid: String,
    /// Home tenant: `utid` of `client_info`.
    pub home_tid: String,
    /// Object ids of groups. More than 200 are left out of tokens, which then say where to ask.
    pub groups: Vec<String>,
    /// Whether the user may use the app (50105 otherwise).
    pub assigned: bool,
    /// Whether the account is disabled (50057).
    pub disabled: bool,
    /// Every AKS token request of this user is refused with this AADSTS number.
    pub refused_with: Option<u32>,
    /// Sign-ins before this moment were revoked (50173).
    pub tokens_valid_from: Option<Timestamp>,
}

impl User {
    /// A member of the tenant `tid` with random object id and no groups.
    #[must_use]
    pub fn member(name: &str, tid: &str) -> Self {
        let oid = random::guid();
        let upn = format!("{name}@contoso.example");
        Self {
            name: name.to_owned(),
            upn: Some(upn.clone()),
            username: upn,
            display_name: name.to_owned(),
            home_oid: oid.clone(),
            oid,
            home_tid: tid.to_owned(),
            groups: Vec::new(),
            assigned: true,
            disabled: false,
            refused_with: None,
            tokens_valid_from: None,
        }
    }

    /// What RBAC and the API server call this user: the UPN, or for a guest the object id.
    #[must_use]
    pub fn kubernetes_name(&self) -> &str {
        self.upn.as_deref().unwrap_or(&self.oid)
    }

    /// The opaque `login_hint` claim of ID tokens, accepted as `login_hint` by `/authorize`.
    #[must_use]
    pub fn login_hint(&self) -> String {
        format!("O.{}", URL_SAFE_NO_PAD.encode(format!("{}/{}", self.oid, self.username)))
    }

    /// `client_info`: the home account's ids.
    pub(crate) fn client_info(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"uid": self.home_oid, "utid": self.home_tid}).to_string())
    }

    /// The subject: differs for every app.
    pub(crate) fn subject(&self, audience: &str) -> String {
        let sum = digest::digest(&digest::SHA256, format!("{}/{audience}", self.oid).as_bytes());
        URL_SAFE_NO_PAD.encode(sum)
    }

    pub(crate) fn answers_to(&self, hint: &str) -> bool {
        hint == self.name || hint.eq_ignore_ascii_case(&self.username) || hint == self.login_hint()
    }
}

/// alice and bob, members; greta, a guest whose home is another tenant and who has no UPN here.
pub(crate) fn first_users(tid: &str) -> Vec<User> {
    let member = |name: &str, display: &str, oid: &str, groups: &[&str]| User {
        display_name: display.to_owned(),
        oid: oid.to_owned(),
        home_oid: oid.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::member(name, tid)
    };
    let alice = "a11ce000-0000-4000-8000-000000000001";
    let greta = User {
        upn: None,
        username: "greta@fabrikam.example".to_owned(),
        home_oid: "96e7a000-0000-4000-8000-0000000000ff".to_owned(),
        home_tid: "fab41ca0-0000-4000-8000-0000000000fe".to_owned(),
        ..member("greta", "Greta Guest", "96e7a000-0000-4000-8000-000000000003", &[])
    };
    vec![
        member("alice", "Alice Admin", alice, &[ADMINS_GROUP, EVERYONE_GROUP]),
        member("bob", "Bob Builder", "b0b00000-0000-4000-8000-000000000002", &[EVERYONE_GROUP]),
        greta,
    ]
}

impl Entra {
    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<User> {
        self.lock().user(name).cloned()
    }

    /// The names of all users, in the chooser's order.
    #[must_use]
    pub fn user_names(&self) -> Vec<String> {
        self.lock().users.iter().map(|user| user.name.clone()).collect()
    }

    /// Adds a member of this name, or returns the one there is.
    pub fn add_user(&self, name: &str) -> User {
        let mut state = self.lock();
        if let Some(user) = state.user(name) {
            return user.clone();
        }
        let user = User::member(name, self.shared.tenant());
        state.users.push(user.clone());
        user
    }

    /// Deletes a user: refreshes then answer 50034.
    pub fn remove_user(&self, name: &str) {
        self.lock().users.retain(|user| user.name != name);
    }

    /// Changes a user in place.
    ///
    /// # Panics
    /// When there is no user of this name.
    pub fn edit_user(&self, name: &str, edit: impl FnOnce(&mut User)) {
        let mut state = self.lock();
        let user = state.users.iter_mut().find(|user| user.name == name);
        edit(user.expect("the test names a user that exists"));
    }

    /// Assigns the user to the app, or takes the assignment away (50105).
    pub fn set_assigned(&self, name: &str, assigned: bool) {
        self.edit_user(name, |user| user.assigned = assigned);
    }

    /// Disables the account (50057), or enables it again.
    pub fn set_disabled(&self, name: &str, disabled: bool) {
        self.edit_user(name, |user| user.disabled = disabled);
    }

    /// Refuses every AKS token request of this user alone with this AADSTS number; `None` ends that.
    pub fn set_refused_with(&self, name: &str, code: Option<u32>) {
        self.edit_user(name, |user| user.refused_with = code);
    }

    /// Revokes all of the user's sign-ins up to now: refreshes answer 50173, browsers must sign in anew.
    pub fn revoke_sessions(&self, name: &str) {
        let now = self.shared.time.now();
        self.edit_user(name, |user| user.tokens_valid_from = Some(now));
    }
}
