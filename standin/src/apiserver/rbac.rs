//! Who may do what: a table of rules, and the real server's words for a refusal. Pure.

use super::auth::User;
use super::status::{Details, Failure};
use super::target::{Target, qualified};

/// One permission. `"*"` stands for all; only `"*"` in `namespaces` reaches cluster-wide requests.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom it is for; any of them.
    pub subjects: Vec<Subject>,
    /// Namespaces it holds in.
    pub namespaces: Vec<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `impersonate`.
    pub verbs: Vec<String>,
    /// API groups; the core group is `""`.
    pub api_groups: Vec<String>,
    /// Resources and subresources (`pods`, `pods/log`).
    pub resources: Vec<String>,
    /// Names it is limited to; none means no limit.
    pub resource_names: Vec<String>,
}

/// A user or a group by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// By `upn`, or `oid` where the token has no `upn`.
    User(String),
    /// By group id.
    Group(String),
}

/// The people of [`default_rules`], by the name that RBAC sees.
#[derive(Clone, Debug)]
pub struct People {
    /// May do everything in `team-a`, see namespaces, and impersonate carol and the group `view-only`.
    pub alice: String,
    /// May read pods in `team-b`, and nothing else.
    pub bob: String,
    /// May read pods in `team-a`; there to be impersonated.
    pub carol: String,
}

impl Default for People {
    fn default() -> Self {
        let name = |first: &str| format!("{first}@example.com");
        Self { alice: name("alice"), bob: name("bob"), carol: name("carol") }
    }
}

/// The rules that a server starts with.
#[must_use]
pub fn default_rules(people: &People) -> Vec<Rule> {
    let (alice, bob, carol) =
        (Subject::user(&people.alice), Subject::user(&people.bob), Subject::user(&people.carol));
    let viewers = Subject::Group("view-only".to_owned());
    let read = &["get", "list", "watch"];
    vec![
        Rule::new(&alice, &["team-a"], &["*"], &["*"], &["*"]),
        Rule::new(&alice, &["*"], read, &[""], &["namespaces"]),
        Rule::new(&alice, &["*"], &["impersonate"], &[""], &["users"]).named(&[&people.carol]),
        Rule::new(&alice, &["*"], &["impersonate"], &[""], &["groups"]).named(&["view-only"]),
        Rule::new(&bob, &["team-b"], read, &[""], &["pods"]),
        Rule::new(&carol, &["team-a"], read, &[""], &["pods"]),
        Rule::new(&viewers, &["team-a"], read, &["*"], &["*"]),
    ]
}

/// What every authenticated user may create, in any cluster.
pub(crate) const SELF_REVIEWS: [(&str, &str); 3] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

/// What every authenticated user may read besides resources.
pub(crate) const OPEN_PATHS: [&str; 15] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/healthz/*",
    "/livez",
    "/livez/*",
    "/readyz",
    "/readyz/*",
    "/openapi",
    "/openapi/*",
    "/standin/*",
    "/version",
    "/version/",
];

impl Subject {
    /// A user by name.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self::User(name.to_owned())
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => *name == user.name,
            Self::Group(name) => user.groups.contains(name),
        }
    }
}

impl Rule {
    /// A rule for one subject, without a limit on names.
    #[must_use]
    pub fn new(
        subject: &Subject,
        namespaces: &[&str],
        verbs: &[&str],
        groups: &[&str],
        resources: &[&str],
    ) -> Self {
        Self {
            subjects: vec![subject.clone()],
            namespaces: strings(namespaces),
            verbs: strings(verbs),
            api_groups: strings(groups),
            resources: strings(resources),
            resource_names: Vec::new(),
        }
    }

    /// The same rule, limited to these names.
    #[must_use]
    pub fn named(self, names: &[&str]) -> Self {
        Self { resource_names: strings(names), ..self }
    }

    pub(crate) fn is_for(&self, user: &User) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
    }

    pub(crate) fn holds_in(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|own| own == "*" || (!namespace.is_empty() && own == namespace))
    }

    fn permits(&self, user: &User, target: &Target) -> bool {
        self.is_for(user)
            && self.holds_in(&target.namespace)
            && covers(&self.verbs, &target.verb)
            && covers(&self.api_groups, &target.group)
            && covers(&self.resources, &target.full_resource())
            && (self.resource_names.is_empty() || self.resource_names.contains(&target.name))
    }
}

/// True when a rule, or what everybody may do, permits the request.
pub(crate) fn permits(rules: &[Rule], user: &User, target: &Target) -> bool {
    if !target.is_resource() {
        return matches!(target.verb.as_str(), "get" | "head") && is_open(&target.path)
            || target.path.starts_with("/standin/");
    }
    let is_self_review =
        SELF_REVIEWS.iter().any(|(group, resource)| target.group == *group && target.resource == *resource);
    (is_self_review && target.verb == "create") || rules.iter().any(|rule| rule.permits(user, target))
}

/// Permits or refuses in RBAC's words.
pub(crate) fn authorize(rules: &[Rule], user: &User, target: &Target) -> Result<(), Failure> {
    if permits(rules, user, target) { Ok(()) } else { Err(refusal(user, target)) }
}

/// RBAC's own sentence.
fn refusal(user: &User, target: &Target) -> Failure {
    if !target.is_resource() {
        let action = format!("cannot {} path \"{}\"", target.verb, target.path);
        return Failure::forbidden("", Details::default(), &user.name, &action);
    }
    let scope = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let action = format!(
        "cannot {} resource \"{}\" in API group \"{}\" {scope}",
        target.verb,
        target.full_resource(),
        target.group
    );
    let kind = qualified(&target.group, &target.resource);
    let what = if target.name.is_empty() { kind } else { format!("{kind} \"{}\"", target.name) };
    Failure::forbidden(&what, Details::of(target, &target.name), &user.name, &action)
}

fn is_open(path: &str) -> bool {
    OPEN_PATHS.iter().any(|open| match open.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == *open,
    })
}

fn covers(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
