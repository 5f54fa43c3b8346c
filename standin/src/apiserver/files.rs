//! The files of each pod, in memory. Containers of a pod share them, and they are gone with it.
//!
//! A new pod has `/tmp`. Whatever is called `/big/17`, `/big/4K` or `/big/200M` is a file of that size, made while it is
//! read; nothing can be written there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::cluster::Cluster;
use super::made;

/// Everything of every pod.
#[derive(Default)]
pub(crate) struct Files(Mutex<HashMap<(String, String), Tree>>);

/// What there is, by absolute path without a slash at the end (the root is `""`).
type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Directory,
    File(Content),
}

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Stored(Arc<Vec<Bytes>>),
    Made(u64),
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Stored(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Self::Made(length) => *length,
        }
    }

    pub(crate) fn pieces(&self) -> Box<dyn Iterator<Item = Bytes> + Send + '_> {
        match self {
            Self::Stored(pieces) => Box::new(pieces.iter().cloned()),
            Self::Made(length) => Box::new(made::pieces(*length)),
        }
    }
}

impl Files {
    pub(crate) fn forget(&self, namespace: &str, pod: &str) {
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trees.remove(&(namespace.to_owned(), pod.to_owned()));
    }
}

/// The files of one pod.
pub(crate) struct PodFiles {
    cluster: Arc<Cluster>,
    pod: (String, String),
}

impl PodFiles {
    pub(crate) fn new(cluster: &Arc<Cluster>, namespace: &str, pod: &str) -> Self {
        Self { cluster: Arc::clone(cluster), pod: (namespace.to_owned(), pod.to_owned()) }
    }

    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        let path = clean(path);
        if let Some(size) = path.strip_prefix("/big/") {
            return made::size(size).map(|size| Node::File(Content::Made(size)));
        }
        self.edit(|tree| tree.get(&path).cloned())
    }

    /// The file or directory at `path` and all that is in it, in order.
    pub(crate) fn all_below(&self, path: &str) -> Vec<(String, Node)> {
        let Some(top) = self.get(path) else { return Vec::new() };
        let path = clean(path);
        let inside = format!("{path}/");
        let mut found = vec![(path, top)];
        self.edit(|tree| {
            let below = tree.range(inside.clone()..).take_while(|(own, _)| own.starts_with(&inside));
            found.extend(below.map(|(own, node)| (own.clone(), node.clone())));
        });
        found
    }

    /// Puts a file or directory in its place, and directories above it where they are missing. False where a file is in
    /// the way.
    pub(crate) fn put(&self, path: &str, node: Node) -> bool {
        let path = clean(path);
        if path.is_empty() || path == "/big" || path.starts_with("/big/") {
            return false;
        }
        self.edit(|tree| {
            let above: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
            if above.iter().any(|above| matches!(tree.get(*above), Some(Node::File(_)))) {
                return false;
            }
            for above in above {
                tree.insert(above.to_owned(), Node::Directory);
            }
            let is_kind_kept = match (tree.get(&path), &node) {
                (Some(old), new) => std::mem::discriminant(old) == std::mem::discriminant(new),
                (None, _) => true,
            };
            if is_kind_kept {
                tree.insert(path, node);
            }
            is_kind_kept
        })
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut trees = self.cluster.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(
            trees.entry(self.pod.clone()).or_insert_with(|| {
                ["", "/big", "/tmp"].map(|path| (path.to_owned(), Node::Directory)).into()
            }),
        )
    }
}

/// The path from the root, without `.`, `..` and needless slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_they_were_put() {
        // Proves the little that a file system must do, and that a file is never overwritten by a directory.
        let files = PodFiles::new(&Arc::new(Cluster::new(crate::time::Time::default())), "team-a", "web");
        let file = |text: &'static str| {
            Node::File(Content::Stored(Arc::new(vec![Bytes::from_static(text.as_bytes())])))
        };
        assert!(files.put("/data/./in/../a", file("a")) && files.put("data/b/c", file("c")));
        assert!(!files.put("/data/a/x", file("x")) && !files.put("/data/a", Node::Directory));
        assert!(!files.put("/big/1M", file("x")));
        let names = |path| files.all_below(path).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(names("/data/"), ["/data", "/data/a", "/data/b", "/data/b/c"]);
        assert_eq!(names("/nowhere"), [""; 0]);
        assert!(matches!(files.get("/big/1M"), Some(Node::File(content)) if content.length() == 1 << 20));
        assert!(matches!(files.get("/tmp"), Some(Node::Directory)));
    }
}
