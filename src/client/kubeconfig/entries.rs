//! The entries of one server: a cluster, a user whose credential `entrada` brings, and a context of both.
//!
//! An entry of the same name that belongs to something else is never changed: `az aks get-credentials` often gave the
//! same cluster that name.

use super::super::browser;
use super::yaml::Node;
use super::{Exit, Failure, Wanted};

const PROGRAM: &str = "entrada";
const AS_PLUGIN: &str = "kubectl-entrada";

/// Under which names the entries stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) context: String,
    pub(super) user: String,
}

impl Names {
    /// The name that the user chose, or the first of some that is free or ours in every file.
    pub(super) fn choose(roots: &[&Node], wanted: &Wanted) -> Result<Self, Failure> {
        let is_ours = |names: &Self| roots.iter().all(|root| names.are_free_or_ours(root, &wanted.server));
        if let Some(chosen) = &wanted.context {
            let names = Self::new(chosen);
            return if is_ours(&names) { Ok(names) } else { Err(taken(chosen)) };
        }
        let (cluster, host) = (&wanted.cluster_name, &wanted.host);
        let candidates =
            [cluster.clone(), format!("{cluster}-entrada"), host.clone(), format!("{host}-entrada")];
        let free = candidates.iter().map(|name| Self::new(name)).find(is_ours);
        free.ok_or_else(|| taken(cluster))
    }

    fn new(name: &str) -> Self {
        Self { context: name.to_owned(), user: format!("entrada@{name}") }
    }

    fn cluster(&self) -> &str {
        &self.context
    }

    fn are_free_or_ours(&self, root: &Node, server: &str) -> bool {
        let cluster = body(root, "clusters", "cluster", self.cluster());
        let user = body(root, "users", "user", &self.user);
        let context = body(root, "contexts", "context", &self.context);
        cluster.is_none_or(|cluster| field(cluster, "server").map(without_slash) == Some(server))
            && user.is_none_or(|user| runs_us_for(user, server))
            && context.is_none_or(|context| field(context, "user") == Some(&self.user))
    }

    pub(super) fn stand_in(&self, root: &Node) -> bool {
        body(root, "clusters", "cluster", self.cluster()).is_some()
            || body(root, "users", "user", &self.user).is_some()
            || body(root, "contexts", "context", &self.context).is_some()
    }
}

fn taken(name: &str) -> Failure {
    let name = super::super::talk::plain(name, 128);
    Failure::new(
        Exit::Failed,
        format!(
            "The kubeconfig has a context, cluster or user {name:?} of something else. Choose a name: --context NAME"
        ),
    )
}

/// Sets what we own of each entry; everything else in it stays: a namespace, a proxy, a name for TLS.
pub(super) fn put(root: &mut Node, names: &Names, wanted: &Wanted) -> Result<(), Failure> {
    if root.get("apiVersion").is_none() {
        root.set("apiVersion", Node::string("v1"));
        root.set("kind", Node::string("Config"));
    }
    let cluster = entry(root, "clusters", "cluster", names.cluster())?;
    if field(cluster, "server").map(without_slash) != Some(&wanted.server) {
        cluster.set("server", Node::string(&wanted.server));
    }
    if let Some(ca) = &wanted.ca_data {
        cluster.set("certificate-authority-data", Node::string(ca));
        // kubectl refuses a file and data together.
        cluster.unset("certificate-authority");
    }
    let user = entry(root, "users", "user", &names.user)?;
    if !matches!(user.get("exec"), Some(Node::Map(_))) {
        user.set("exec", Node::Map(Vec::new()));
    }
    if let Some(exec) = user.get_mut("exec") {
        put_exec(exec, &wanted.server);
    }
    let context = entry(root, "contexts", "context", &names.context)?;
    context.set("cluster", Node::string(names.cluster()));
    context.set("user", Node::string(&names.user));
    Ok(())
}

fn put_exec(exec: &mut Node, server: &str) {
    exec.set("apiVersion", Node::string("client.authentication.k8s.io/v1"));
    exec.set("command", Node::string(&command()));
    let arguments = ["credential", "--server", server];
    if exec.get("args").is_none_or(|old| !old.items().iter().map(Node::text).eq(arguments.map(Some))) {
        exec.set("args", Node::List(arguments.map(Node::string).to_vec()));
    }
    exec.set("interactiveMode", Node::string("IfAvailable"));
    exec.set("provideClusterInfo", Node::bool(false));
    exec.set("installHint", Node::string(&format!("Install entrada, then run: entrada login {server}")));
}

/// What kubectl will find: the program by its name, or this very file where it lies in no directory of `PATH`.
fn command() -> String {
    let named = [PROGRAM, AS_PLUGIN].into_iter().find(|name| browser::in_path(name).is_some());
    let here = || std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    named.map(str::to_owned).or_else(here).unwrap_or_else(|| PROGRAM.to_owned())
}

pub(super) fn current(root: &Node) -> Option<&str> {
    field(root, "current-context").filter(|name| !name.is_empty())
}

pub(super) fn set_current(root: &mut Node, name: &str) {
    root.set("current-context", Node::string(name));
}

/// The certificate authority of a cluster at this address, as it stands there.
pub(super) fn authority(root: &Node, server: &str) -> Option<String> {
    let clusters = root.get("clusters")?.items().iter().filter_map(|entry| entry.get("cluster"));
    let mut of_server =
        clusters.filter(|cluster| field(cluster, "server").map(without_slash) == Some(server));
    of_server.find_map(|cluster| field(cluster, "certificate-authority-data").map(str::to_owned))
}

/// Takes out the users that run us for this server, their contexts, and the clusters that no other context uses.
pub(super) fn remove(root: &mut Node, server: &str) {
    let users = names(root, "users", |entry| entry.get("user").is_some_and(|user| runs_us_for(user, server)));
    let of_context = |entry: &Node, key: &str| {
        entry.get("context").and_then(|context| field(context, key)).map(str::to_owned)
    };
    let is_ours = |entry: &Node| of_context(entry, "user").is_some_and(|user| users.contains(&user));
    let contexts = names(root, "contexts", is_ours);
    let ours: Vec<_> = items(root, "contexts").filter(|entry| is_ours(entry)).cloned().collect();
    let others: Vec<_> = items(root, "contexts").filter(|entry| !is_ours(entry)).cloned().collect();
    let cluster = |entry: &Node| of_context(entry, "cluster");
    let kept: Vec<_> = others.iter().filter_map(cluster).collect();
    let clusters: Vec<_> = ours.iter().filter_map(cluster).filter(|name| !kept.contains(name)).collect();
    for (list, gone) in [("users", &users), ("contexts", &contexts), ("clusters", &clusters)] {
        if let Some(Node::List(entries)) = root.get_mut(list) {
            entries.retain(|entry| {
                !field(entry, "name").is_some_and(|name| gone.iter().any(|gone| gone == name))
            });
        }
    }
    if current(root).is_some_and(|name| contexts.iter().any(|gone| gone == name)) {
        root.set("current-context", Node::Scalar { text: String::new(), is_plain: false });
    }
}

fn runs_us_for(user: &Node, server: &str) -> bool {
    let arguments = user.get("exec").and_then(|exec| exec.get("args")).map(Node::items).unwrap_or_default();
    let words: Vec<_> = arguments.iter().filter_map(Node::text).collect();
    words.first() == Some(&"credential") && words.windows(2).any(|pair| pair == ["--server", server])
}

fn without_slash(server: &str) -> &str {
    server.trim_end_matches('/')
}

fn field<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::text)
}

fn items<'a>(root: &'a Node, list: &str) -> impl Iterator<Item = &'a Node> {
    root.get(list).map(Node::items).unwrap_or_default().iter()
}

fn names(root: &Node, list: &str, is_meant: impl Fn(&Node) -> bool) -> Vec<String> {
    items(root, list)
        .filter(|entry| is_meant(entry))
        .filter_map(|entry| field(entry, "name"))
        .map(str::to_owned)
        .collect()
}

/// The inner map of a named entry: `clusters: [{name, cluster: …}]`.
fn body<'a>(root: &'a Node, list: &str, inner: &str, name: &str) -> Option<&'a Node> {
    items(root, list).find(|entry| field(entry, "name") == Some(name))?.get(inner)
}

/// The same, made where there is none.
fn entry<'a>(root: &'a mut Node, list: &str, inner: &str, name: &str) -> Result<&'a mut Node, Failure> {
    let fault =
        || Failure::failed(format!("The kubeconfig is left alone: its {list} are no list of entries."));
    if root.get(list).is_none_or(Node::is_nothing) {
        root.set(list, Node::List(Vec::new()));
    }
    let Some(Node::List(entries)) = root.get_mut(list) else { return Err(fault()) };
    let found = entries.iter().position(|entry| field(entry, "name") == Some(name));
    let index = found.unwrap_or_else(|| {
        let pairs = [("name", Node::string(name)), (inner, Node::Map(Vec::new()))];
        entries.push(Node::Map(pairs.map(|(key, value)| (Node::string(key), value)).to_vec()));
        entries.len() - 1
    });
    let entry = &mut entries[index];
    if !matches!(entry.get(inner), Some(Node::Map(_))) {
        entry.set(inner, Node::Map(Vec::new()));
    }
    entry.get_mut(inner).ok_or_else(fault)
}
