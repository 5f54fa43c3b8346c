//! The limit on open files, which bounds connections.

use super::finding::Check;
use crate::budget::{Budget, files_for};
use crate::config::Limits;

pub(super) const NAME: &str = "file_limit";

pub(super) fn check(limits: &Limits) -> Check {
    let files = Budget::raise_file_limit();
    let carried = Budget::carried(files);
    let asked = [
        ("ENTRADA_MAX_CONNECTIONS", limits.connections),
        ("ENTRADA_MAX_UPSTREAM_CONNECTIONS", limits.upstream_connections),
    ];
    for (name, asked) in asked {
        if let Some(asked) = asked.filter(|asked| *asked > carried) {
            let seen = format!("{name} is {asked}, but {files} open files carry {carried} connections");
            let fix =
                format!("raise the container's limit to {} open files, or lower {name}", files_for(asked));
            return Check::fault(NAME, seen, fix);
        }
    }
    if files < files_for(carried) {
        let fix = format!("raise the container's limit to at least {} open files", files_for(carried));
        return Check::fault(NAME, format!("{files} open files are too few"), fix);
    }
    Check::fine(NAME, format!("{files} open files carry {carried} clients' connections"))
}
