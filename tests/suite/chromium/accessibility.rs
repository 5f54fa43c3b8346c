//! Every page under the rules of axe: https://github.com/dequelabs/axe-core.

use std::path::Path;

use super::super::support::webdriver::Chromium;
use super::looks::show;
use super::tour::tour;

/// Its findings, one line each: the rule, what is wrong, and where.
const AXE: &str = r#"
const [done] = arguments;
axe.run(document, { resultTypes: ["violations"] }).then(
  ({ violations }) => done(violations.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}: ${node.html.slice(0, 160)} ${node.failureSummary}`))),
  (error) => done([String(error)]));
"#;

const FOLD: &str = "for (const part of document.querySelectorAll('details')) part.open = !folded";

/// Proves that no page has an accessibility finding, by day or by night, on a desk or on a phone.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_has_an_accessibility_finding() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/axe.js");
    let axe = std::fs::read_to_string(file).expect("axe is missing: run scripts/tools browser");
    let mut findings = Vec::new();
    let mut pages = 0;
    tour(async |browser: &Chromium, name| {
        browser.run(&axe).await;
        // What is folded is not looked at.
        browser.run(&FOLD.replace("folded", "false")).await;
        for (scheme, width) in [("light", 1120), ("dark", 1120), ("light", 360), ("dark", 360)] {
            show(browser, scheme, width, 900).await;
            let found = browser.run_async(AXE).await;
            let found =
                found.as_array().unwrap().iter().map(|line| format!("{name} {scheme} {width}: {line}"));
            findings.extend(found);
        }
        browser.run(&FOLD.replace("folded", "true")).await;
        pages += 1;
    })
    .await;
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(pages >= 13, "only {pages} pages were looked at");
}
