//! The kubeconfig templates: those of the program, or an administrator's own from a folder. Each is tried once with sample
//! values, so that a broken one stops the start and not somebody's download.

use std::fmt;
use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, context};
use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::check::{Checker, given};

const FOLDER: &str = "ENTRADA_KUBECONFIG_TEMPLATES";
/// The file with a proxy token in it.
pub(crate) const TOKEN: &str = "token.yaml";
/// The file for the credential plugin.
pub(crate) const PLUGIN: &str = "plugin.yaml";

/// What kubeconfigs are made from.
#[derive(Clone)]
pub struct KubeconfigTemplates {
    /// With a proxy token.
    pub(crate) token: String,
    /// For the credential plugin.
    pub(crate) plugin: String,
}

impl Default for KubeconfigTemplates {
    fn default() -> Self {
        Self {
            token: include_str!("../../kubeconfig-templates/token.yaml").to_owned(),
            plugin: include_str!("../../kubeconfig-templates/plugin.yaml").to_owned(),
        }
    }
}

impl fmt::Debug for KubeconfigTemplates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They are long, and the settings are one line of the log.
        f.write_str("KubeconfigTemplates")
    }
}

impl Checker {
    /// The program's templates; a file of the folder stands in for the one of the same name.
    pub(super) fn kubeconfig_templates(&mut self, folder: Option<&str>) -> KubeconfigTemplates {
        let mut templates = KubeconfigTemplates::default();
        let Some(folder) = given(folder) else { return templates };
        let mut found = false;
        for (name, template) in [(TOKEN, &mut templates.token), (PLUGIN, &mut templates.plugin)] {
            let path = Path::new(folder).join(name);
            if !path.exists() {
                continue;
            }
            found = true;
            let path = path.display().to_string();
            let Some(text) = self.read(FOLDER, &path) else { continue };
            match try_out(name, &text) {
                Ok(()) => *template = text,
                Err(seen) => self.fault(FOLDER, format!("{path}, {seen}"), "must make a kubeconfig"),
            }
        }
        if !found {
            let seen = format!("{folder} holds neither");
            self.fault(FOLDER, seen, format!("must be a folder with {TOKEN}, {PLUGIN} or both"));
        }
        templates
    }
}

/// Renders a template, with a CA and without one, and looks for what kubectl needs. The error says where.
fn try_out(name: &str, template: &str) -> Result<(), String> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let at = |error: &minijinja::Error| {
        let detail = error.detail().unwrap_or_default();
        let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
        format!("{line}{} {detail}", error.kind()).trim_end().to_owned()
    };
    engine.add_template(name, template).map_err(|error| at(&error))?;
    let template = engine.get_template(name).map_err(|error| at(&error))?;
    for ca_data in [Some("Y2E="), None] {
        let values = context! {
            cluster => "example", public_url => "https://k8s.example.com", user => "ada@contoso.com@example",
            username => "ada@contoso.com", token => "entrada_example", expires_at => "2030-01-01T00:00:00Z",
            ca_data, namespace => (),
        };
        let rendered = template.render(values).map_err(|error| at(&error))?;
        inspect(name, &rendered)?;
    }
    Ok(())
}

/// What kubectl needs of a kubeconfig: a cluster with its address, a user with a credential, a context that joins them.
fn inspect(name: &str, rendered: &str) -> Result<(), String> {
    let documents = MarkedYaml::load_from_str(rendered).map_err(|error| format!("what it makes: {error}"))?;
    let document = documents.first().ok_or("it makes an empty file")?;
    let look = |path: &[&str]| find(document, path);
    let credential: &[&str] =
        if name == TOKEN { &["users", "user", "token"] } else { &["users", "user", "exec", "command"] };
    look(credential)?;
    for (path, wanted) in [
        (&["kind"][..], "Config".to_owned()),
        (&["clusters", "cluster", "server"], "https://k8s.example.com".to_owned()),
        (&["contexts", "context", "cluster"], look(&["clusters", "name"])?.0),
        (&["contexts", "context", "user"], look(&["users", "name"])?.0),
        (&["current-context"], look(&["contexts", "name"])?.0),
    ] {
        let (found, line) = look(path)?;
        if found != wanted {
            let path = path.join(".");
            return Err(format!("line {line} of what it makes: {path} is `{found}` and not `{wanted}`"));
        }
    }
    Ok(())
}

/// A text by its path and its line; of a list the first entry.
fn find(document: &MarkedYaml<'_>, path: &[&str]) -> Result<(String, usize), String> {
    let mut node = document;
    for step in path {
        let missing = || {
            let line = node.span.start.line();
            format!("line {line} of what it makes: {} is missing", path.join("."))
        };
        if let YamlData::Sequence(entries) = &node.data {
            node = entries.first().ok_or_else(missing)?;
        }
        let YamlData::Mapping(fields) = &node.data else { return Err(missing()) };
        let field = fields
            .iter()
            .find(|(key, _)| matches!(&key.data, YamlData::Value(Scalar::String(key)) if key == step));
        node = field.ok_or_else(missing)?.1;
    }
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Ok((text.to_string(), node.span.start.line())),
        _ => Err(format!("line {} of what it makes: {} is no text", node.span.start.line(), path.join("."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(files: &[(&str, &str)]) -> (KubeconfigTemplates, String) {
        let folder = tempfile::TempDir::new().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut checker = Checker::default();
        let templates = checker.kubeconfig_templates(folder.path().to_str());
        (templates, checker.told())
    }

    /// The program's own templates pass the trial that an administrator's must pass.
    #[test]
    fn the_programs_own_templates_are_good() {
        let KubeconfigTemplates { token, plugin } = KubeconfigTemplates::default();
        assert_eq!(try_out(TOKEN, &token), Ok(()));
        assert_eq!(try_out(PLUGIN, &plugin), Ok(()));
    }

    /// A file of the folder stands in for the program's, and what is not there stays as it was.
    #[test]
    fn a_file_of_the_folder_stands_in_for_the_programs() {
        let ours = KubeconfigTemplates::default();
        let (templates, told) = tried(&[("token.yaml", &format!("# of Contoso\n{}", ours.token))]);
        assert!(told.starts_with("0 faults"), "{told}");
        assert!(templates.token.starts_with("# of Contoso"));
        assert_eq!(templates.plugin, ours.plugin);
    }

    /// A template that cannot be used is a fault with file and line.
    #[test]
    fn a_broken_template_is_a_fault_with_file_and_line() {
        let ours = KubeconfigTemplates::default();
        let without_token = ours.token.replace("token: {{ value(token) }}", "tokn: x");
        for (text, expected) in [
            ("kind: Config\n{{ nobody }}", "token.yaml, line 2: undefined value"),
            ("kind: Config\n{% if", "token.yaml, line 2: syntax error"),
            ("kind: [", "token.yaml, what it makes:"),
            ("", "token.yaml, it makes an empty file"),
            (&without_token, "users.user.token is missing"),
            (&ours.plugin, "users.user.token is missing"),
        ] {
            let (_, told) = tried(&[("token.yaml", text)]);
            assert!(told.contains(expected), "{expected}:\n{told}");
        }
        assert!(tried(&[("tokens.yaml", "")]).1.contains("holds neither"));
    }
}
