//! Figures that are kept in a file, and what has become of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// By what they are of.
pub type Figures = BTreeMap<String, f64>;

/// How far a figure may be from the one that is kept, in percent. Instructions vary by which thread wakes which, and by
/// the seeds of hash maps; memory by how much comes at once, up to 5 % between a quiet and a busy machine.
const INSTRUCTIONS_WITHIN: f64 = 5.0;
const MEMORY_WITHIN: f64 = 6.0;
/// One more or less comes from a clock that ticks meanwhile, or from what comes at once. A copied head costs two.
const ALLOCATIONS_WITHIN: f64 = 1.2;

/// What has become of a figure.
#[derive(Debug)]
pub struct Difference {
    /// For whoever reads the test's output.
    pub text: String,
    /// Whether it shall fail: not where the figure is better.
    pub is_fault: bool,
}

/// Lines of a name and a number, a colon between them.
#[must_use]
pub fn parse(text: &str) -> Figures {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.trim().to_owned(), value.parse().unwrap_or(f64::NAN)))
        .collect()
}

/// As `parse` reads them.
#[must_use]
pub fn print(figures: &Figures) -> String {
    let mut text =
        "# Written by `UPDATE_FIGURES=1 make bench-guard`; see bench/tests/guard/main.rs.\n".to_owned();
    for (name, value) in figures {
        let _ = writeln!(text, "{name:<60} {value:.1}");
    }
    text
}

/// What is not as it was kept.
#[must_use]
pub fn differences(kept: &Figures, now: &Figures) -> Vec<Difference> {
    let fault = |text| Difference { text, is_fault: true };
    let mut differences = Vec::new();
    for (name, value) in now {
        let Some(was) = kept.get(name) else {
            differences.push(fault(format!("{name}: {value:.1}, not recorded yet")));
            continue;
        };
        let percent = (value - was) / was.max(1.0) * 100.0;
        let is_noise = match name {
            name if name.ends_with("allocations") => (value - was).abs() <= ALLOCATIONS_WITHIN,
            name if name.ends_with("instructions") => percent.abs() <= INSTRUCTIONS_WITHIN,
            _ => percent.abs() <= MEMORY_WITHIN,
        };
        if !is_noise {
            let how = if percent > 0.0 { "worse" } else { "better: record it" };
            let text = format!("{name}: {value:.1}, was {was:.1} ({percent:+.1} %, {how})");
            differences.push(Difference { text, is_fault: percent > 0.0 });
        }
    }
    let gone = kept.keys().filter(|name| !now.contains_key(*name));
    differences.extend(gone.map(|name| fault(format!("{name}: not measured any more"))));
    differences
}

#[cfg(test)]
mod tests {
    use super::{differences, parse};

    #[test]
    fn a_figure_that_moves_is_noticed() {
        // Proves that worse, better, new and missing figures are told, and that small moves are not.
        let kept = parse("# x\na: instructions 1000\na: allocations 10.0\ngone: allocations 1\n");
        let now = parse("a: instructions 1049\na: allocations 11.1\nnew: allocations 1\n");
        assert_eq!(differences(&kept, &now).len(), 2);
        let now = parse("a: instructions 1051\na: allocations 8.7\ngone: allocations 1\n");
        let [better, worse] = &differences(&kept, &now)[..] else { panic!("two have moved") };
        assert!(better.text.contains("better") && !better.is_fault, "{better:?}");
        assert!(worse.text.contains("worse") && worse.is_fault, "{worse:?}");
    }
}
