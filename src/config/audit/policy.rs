//! The audit policy: a file with an `audit.k8s.io/v1` Policy, in YAML or its subset JSON.
//!
//! An unknown field, a level that cannot be recorded here, or a rule that the API server would not take is a fault, with
//! its line: a policy that says something else than its author meant records too little.

use std::fmt;

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::super::check::Checker;

const FILE: &str = "ENTRADA_AUDIT_POLICY_FILE";
const MAX_BYTES: usize = 1024 * 1024;

/// Which requests are recorded: the first rule that matches decides; without one, nothing is recorded.
#[derive(Clone, Default)]
pub(crate) struct AuditPolicy {
    pub(crate) rules: Vec<AuditRule>,
}

/// A rule matches where each of its lists is empty or holds what the request is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditRule {
    /// Level Metadata, and not None.
    pub(crate) recorded: bool,
    /// User names.
    pub(crate) users: Vec<String>,
    /// Verbs.
    pub(crate) verbs: Vec<String>,
    /// Resources of API groups.
    pub(crate) resources: Vec<GroupResources>,
    /// Namespaces; the empty one stands for what has none.
    pub(crate) namespaces: Vec<String>,
    /// Paths that name no resource; `*` at the end stands for the rest.
    pub(crate) paths: Vec<String>,
    /// Stages that are left out, the policy's own included.
    pub(crate) omit: Stages,
}

/// Resources of one API group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupResources {
    /// Empty: the core group.
    pub(crate) group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/scale` or `*`; empty: all.
    pub(crate) resources: Vec<String>,
    /// Names of objects; empty: all.
    pub(crate) names: Vec<String>,
}

/// A set of the stages of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stages(u8);

impl Stages {
    pub(crate) const RECEIVED: Self = Self(1);
    pub(crate) const STARTED: Self = Self(2);
    pub(crate) const COMPLETE: Self = Self(4);
    /// An API server's own; Entrada answers such a request with 500, and it completes.
    const PANIC: Self = Self(8);

    pub(crate) fn contains(self, stage: Self) -> bool {
        self.0 & stage.0 != 0
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for AuditPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A policy may be long, and the settings are one line of the log.
        write!(f, "AuditPolicy({} rules)", self.rules.len())
    }
}

impl AuditPolicy {
    /// Everything is recorded, at all stages.
    fn everything() -> Self {
        Self { rules: vec![AuditRule { recorded: true, ..AuditRule::default() }] }
    }
}

impl Checker {
    /// The policy of a file; without one, everything is recorded.
    pub(super) fn audit_policy(&mut self, path: Option<&str>) -> Option<AuditPolicy> {
        let Some(path) = path else { return Some(AuditPolicy::everything()) };
        let text = self.read(FILE, path)?;
        let mut reader = Reader::default();
        let policy = if text.len() > MAX_BYTES {
            reader.fault_at(0, "the file", "is larger than 1 MiB", "must be a policy");
            None
        } else {
            reader.policy(&text)
        };
        for (seen, fix) in &reader.faults {
            self.fault(FILE, format!("{path}, {seen}"), *fix);
        }
        policy.filter(|_| reader.faults.is_empty())
    }
}

type Node<'a> = MarkedYaml<'a>;

/// Reads a policy and notes each fault as what was seen where, and what would be right.
#[derive(Default)]
struct Reader {
    faults: Vec<(String, &'static str)>,
}

impl Reader {
    fn fault(&mut self, node: &Node<'_>, place: &str, seen: &str, fix: &'static str) {
        self.fault_at(node.span.start.line(), place, seen, fix);
    }

    fn fault_at(&mut self, line: usize, place: &str, seen: &str, fix: &'static str) {
        let place = if line == 0 { place.to_owned() } else { format!("line {line}: {place}") };
        self.faults.push((format!("{place} {seen}"), fix));
    }

    fn policy(&mut self, text: &str) -> Option<AuditPolicy> {
        let documents = match Node::load_from_str(text) {
            Ok(documents) => documents,
            Err(error) => {
                self.fault_at(0, "it", &format!("cannot be read: {error}"), "must be YAML or JSON");
                return None;
            }
        };
        let [document] = documents.as_slice() else {
            self.fault_at(0, "the file", "holds no document, or several", "must hold one policy");
            return None;
        };
        let mut policy = AuditPolicy::default();
        let mut omit = Stages::default();
        let (mut kind, mut version) = (None, None);
        for (name, value) in self.fields(document, "the policy") {
            match name.as_str() {
                "kind" => kind = Some(self.text(value, "kind")),
                "apiVersion" => version = Some(self.text(value, "apiVersion")),
                "rules" => policy.rules = self.rules(value),
                "omitStages" => omit = self.stages(value, "omitStages"),
                // Of objects, which are not recorded at level Metadata.
                "metadata" | "omitManagedFields" => {}
                _ => self.fault(value, &name, "is unknown", "must be a field of a Policy"),
            }
        }
        if kind.flatten().as_deref() != Some("Policy")
            || version.flatten().as_deref() != Some("audit.k8s.io/v1")
        {
            let fix = "must have kind: Policy and apiVersion: audit.k8s.io/v1";
            self.fault(document, "the policy", "is of another kind or version", fix);
        }
        if policy.rules.is_empty() {
            self.fault(document, "rules", "is empty", "must have a rule; without one nothing is recorded");
        }
        for rule in &mut policy.rules {
            rule.omit = rule.omit.union(omit);
        }
        Some(policy)
    }

    fn rules(&mut self, node: &Node<'_>) -> Vec<AuditRule> {
        let rules = self.items(node, "rules").iter().enumerate();
        rules.map(|(at, rule)| self.rule(rule, &format!("rules[{at}]"))).collect()
    }

    fn rule(&mut self, node: &Node<'_>, place: &str) -> AuditRule {
        let mut rule = AuditRule::default();
        let mut has_level = false;
        for (name, value) in self.fields(node, place) {
            let own = format!("{place}.{name}");
            match name.as_str() {
                "level" => {
                    has_level = true;
                    rule.recorded = self.level(value, &own);
                }
                "users" => rule.users = self.texts(value, &own),
                "verbs" => rule.verbs = self.texts(value, &own),
                "namespaces" => rule.namespaces = self.texts(value, &own),
                "resources" => rule.resources = self.resources(value, &own),
                "nonResourceURLs" => rule.paths = self.paths(value, &own),
                "omitStages" => rule.omit = self.stages(value, &own),
                "omitManagedFields" => {}
                "userGroups" => {
                    let fix = "must not be there: Entrada does not know its users' groups, the API server does. Use users";
                    self.fault(value, &own, "is set", fix);
                }
                _ => self.fault(value, &own, "is unknown", "must be a field of a rule"),
            }
        }
        if !has_level {
            self.fault(node, place, "has no level", "must have level: None or level: Metadata");
        }
        let names_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
        if names_resources && !rule.paths.is_empty() {
            let fix = "must be about resources and namespaces, or about nonResourceURLs";
            self.fault(node, place, "is about both", fix);
        }
        rule
    }

    fn level(&mut self, node: &Node<'_>, place: &str) -> bool {
        match self.text(node, place).as_deref() {
            Some("Metadata") => return true,
            Some("Request" | "RequestResponse") => {
                let fix =
                    "must be None or Metadata: Entrada records no bodies. The API server's own audit log can";
                self.fault(node, place, "asks for bodies", fix);
            }
            Some("None") | None => {}
            Some(_) => self.fault(node, place, "is no level", "must be None or Metadata"),
        }
        false
    }

    fn resources(&mut self, node: &Node<'_>, place: &str) -> Vec<GroupResources> {
        let groups = self.items(node, place).iter().enumerate();
        let groups = groups.map(|(at, node)| {
            let place = format!("{place}[{at}]");
            let mut group = GroupResources::default();
            for (name, value) in self.fields(node, &place) {
                let own = format!("{place}.{name}");
                match name.as_str() {
                    "group" => group.group = self.text(value, &own).unwrap_or_default(),
                    "resources" => group.resources = self.texts(value, &own),
                    "resourceNames" => group.names = self.texts(value, &own),
                    _ => self.fault(value, &own, "is unknown", "must be group, resources or resourceNames"),
                }
            }
            if group.group.contains('/') {
                let fix = "must be a group without a version, as in apps";
                self.fault(node, &place, "names a version", fix);
            }
            if !group.names.is_empty() && group.resources.is_empty() {
                let fix = "must name resources where it names objects";
                self.fault(node, &place, "has resourceNames alone", fix);
            }
            group
        });
        groups.collect()
    }

    fn paths(&mut self, node: &Node<'_>, place: &str) -> Vec<String> {
        let paths = self.texts(node, place);
        for path in &paths {
            let stem = path.strip_suffix('*').unwrap_or(path);
            if path != "*" && !path.starts_with('/') || stem.contains('*') {
                let fix = "must be paths that begin with /, with * at most at the end";
                self.fault(node, place, &format!("holds `{path}`"), fix);
            }
        }
        paths
    }

    fn stages(&mut self, node: &Node<'_>, place: &str) -> Stages {
        let mut stages = Stages::default();
        for stage in self.texts(node, place) {
            let known = match stage.as_str() {
                "RequestReceived" => Stages::RECEIVED,
                "ResponseStarted" => Stages::STARTED,
                "ResponseComplete" => Stages::COMPLETE,
                "Panic" => Stages::PANIC,
                _ => {
                    let fix = "must be RequestReceived, ResponseStarted, ResponseComplete or Panic";
                    self.fault(node, place, &format!("holds `{stage}`"), fix);
                    continue;
                }
            };
            stages = stages.union(known);
        }
        stages
    }

    /// The fields of a mapping that have a value.
    fn fields<'a, 'n>(&mut self, node: &'n Node<'a>, place: &str) -> Vec<(String, &'n Node<'a>)> {
        let YamlData::Mapping(fields) = &node.data else {
            self.fault(node, place, "is something else", "must be a mapping with fields");
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in fields {
            match &name.data {
                YamlData::Value(Scalar::String(_)) if is_null(value) => {}
                YamlData::Value(Scalar::String(name)) => named.push((name.to_string(), value)),
                _ => {
                    self.fault(name, place, "has a field whose name is no text", "must have names of fields")
                }
            }
        }
        named
    }

    fn items<'a, 'n>(&mut self, node: &'n Node<'a>, place: &str) -> &'n [Node<'a>] {
        if let YamlData::Sequence(items) = &node.data {
            return items;
        }
        self.fault(node, place, "is something else", "must be a list");
        &[]
    }

    fn texts(&mut self, node: &Node<'_>, place: &str) -> Vec<String> {
        let items = self.items(node, place).iter().enumerate();
        items.filter_map(|(at, item)| self.text(item, &format!("{place}[{at}]"))).collect()
    }

    fn text(&mut self, node: &Node<'_>, place: &str) -> Option<String> {
        if let YamlData::Value(Scalar::String(text)) = &node.data {
            return Some(text.to_string());
        }
        self.fault(node, place, "is no text", "must be text; a number or `true` needs quotes");
        None
    }
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

#[cfg(test)]
mod tests;
