//! The kubeconfig files of the user: which they are, what they hold, and how an entry gets in and out again.
//!
//! kubectl's own rules: `$KUBECONFIG` is a list, of which each file may hold a part; without it `~/.kube/config`. An entry
//! is changed in the file that has it; a new one goes into the first file that exists.

mod entries;
mod store;
mod yaml;

use std::path::PathBuf;

use self::entries::Names;
use self::store::Text;
use self::yaml::Node;
use super::server::Server;
use super::talk::Talk;
use super::{Exit, Failure, authority, files};

/// What `login` wants to stand in there.
pub(super) struct Wanted {
    pub(super) server: String,
    /// Of the server: a name where the cluster's own is taken.
    pub(super) host: String,
    pub(super) cluster_name: String,
    /// A name that the user chose.
    pub(super) context: Option<String>,
    /// The authority of the server's certificate, PEM in base64.
    pub(super) ca_data: Option<String>,
}

/// The files, in the order in which kubectl reads them.
pub(super) struct Kubeconfig {
    paths: Vec<PathBuf>,
}

impl Kubeconfig {
    /// `named`: by a flag, instead of all others.
    pub(super) fn find(named: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Ok(Self { paths: vec![path] });
        }
        let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            let home =
                files::home().ok_or_else(|| Failure::failed("There is no home directory: set HOME."))?;
            paths.push(home.join(".kube").join("config"));
        }
        Ok(Self { paths })
    }

    /// Whether every file can be read.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.read().map(|_| ())
    }

    /// What clients of this server are told to trust, in PEM. A file that cannot be read tells nothing.
    pub(super) fn authority(&self, server: &Server) -> Option<String> {
        let texts = self.paths.iter().filter_map(|path| Text::read(path).ok());
        texts
            .into_iter()
            .find_map(|text| authority::from_base64(&entries::authority(&text.root, server.origin())?))
    }

    /// Puts the server's cluster, user and context in, and makes that the current one: its name. Where all that stands
    /// there already, nothing is written.
    pub(super) async fn merge(&self, wanted: &Wanted, talk: Talk) -> Result<String, Failure> {
        let first = self.read()?;
        // One file is locked, and read again under the lock; the rest is only looked at.
        let target = self.target(&first, &Names::choose(&roots(&first), wanted)?);
        let _lock = store::lock(&self.paths[target]).await?;
        let mut texts = self.read()?;
        let names = Names::choose(&roots(&texts), wanted)?;
        entries::put(&mut texts[target].root, &names, wanted)?;
        // kubectl takes the first current context that it meets.
        let current =
            (0..target).find(|&index| entries::current(&texts[index].root).is_some()).unwrap_or(target);
        entries::set_current(&mut texts[current].root, &names.context);
        let _second_lock =
            if current == target { None } else { Some(store::lock(&self.paths[current]).await?) };
        texts[target].write(talk)?;
        texts[current].write(talk)?;
        Ok(names.context)
    }

    /// Takes out what [`Kubeconfig::merge`] put in for this server.
    pub(super) async fn remove(&self, server: &str, talk: Talk) -> Result<(), Failure> {
        for path in &self.paths {
            let _lock = store::lock(path).await?;
            let mut text = Text::read(path)?;
            entries::remove(&mut text.root, server);
            text.write(talk)?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<Text>, Failure> {
        self.paths.iter().map(|path| Text::read(path)).collect()
    }

    /// The file that has one of the entries, else the first that exists, else the last: as kubectl does it.
    fn target(&self, texts: &[Text], names: &Names) -> usize {
        let has_entry = texts.iter().position(|text| names.stand_in(&text.root));
        let exists = || texts.iter().position(|text| text.exists());
        has_entry.or_else(exists).unwrap_or(self.paths.len() - 1)
    }
}

fn roots(texts: &[Text]) -> Vec<&Node> {
    texts.iter().map(|text| &text.root).collect()
}
