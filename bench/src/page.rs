//! docs/performance.md: prose that people write, and between markers what was measured.

use std::fs;
use std::process::Command;

use anyhow::Context as _;

use crate::figures::Table;
use crate::{chart, proxies};

const PAGE: &str = "docs/performance.md";
const CHART: &str = "docs/images/performance.svg";

/// Writes a table into its place, and the chart beside it.
///
/// # Errors
/// When the page has no such place.
pub fn write(table: &Table) -> anyhow::Result<()> {
    put(table.question, &format!("{table}\n{}\n", measured()))?;
    if table.question == "cpu" {
        fs::write(CHART, chart::draw(table))?;
    }
    Ok(())
}

/// Writes what this machine is.
///
/// # Errors
/// When the page has no such place.
pub fn write_machine() -> anyhow::Result<()> {
    put("machine", &machine())
}

/// Replaces what stands between the markers of this name.
fn put(name: &str, text: &str) -> anyhow::Result<()> {
    let page = fs::read_to_string(PAGE).context(PAGE)?;
    fs::write(PAGE, replaced(&page, name, text).with_context(|| format!("{PAGE} has no place for {name}"))?)?;
    Ok(())
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let (before, rest) = page.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{text}{close}{after}"))
}

/// When, and what.
fn measured() -> String {
    let date = said("date", &["-u", "+%-d %B %Y"]);
    let commit = said("git", &["rev-parse", "--short=10", "HEAD"]);
    let changed = if said("git", &["status", "--porcelain", "src", "Cargo.lock"]).is_empty() {
        ""
    } else {
        ", changed"
    };
    format!("Measured on {date} at commit {commit}{changed}.")
}

fn machine() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let memory = file("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().replace("MemTotal:", "");
    let memory = memory.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1_048_576;
    let debian = file("/etc/debian_version");
    let kernel = said("uname", &["-r"]);
    let cores = proxies::cores();
    let versions = [
        said("rustc", &["--version"]),
        said("target/tools/nginx", &["-v"]).replace("nginx version: ", ""),
        said("target/tools/haproxy", &["-v"]),
        said("openssl", &["version"]),
        said("wrk", &["-v"]),
        said("h2load", &["--version"]),
    ];
    let versions = versions.map(|version| format!("- {version}\n")).concat();
    format!("{cores} cores ({model}), {memory} GiB, Linux {kernel}, Debian {debian}\n{versions}")
}

/// The first line that a program prints.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_people_wrote_survives() {
        // Proves that only what stands between the markers is replaced, and that a missing place is noticed.
        let page = "# A\n\nprose\n\n<!-- bench:cpu -->\nold\nold\n<!-- /bench:cpu -->\n\nmore\n";
        let expected = "# A\n\nprose\n\n<!-- bench:cpu -->\nnew\n<!-- /bench:cpu -->\n\nmore\n";
        assert_eq!(super::replaced(page, "cpu", "new\n").as_deref(), Some(expected));
        assert_eq!(super::replaced(page, "watches", "new\n"), None);
    }
}
