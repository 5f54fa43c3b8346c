//! Figures that are kept in a file, and what has become of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// By what they are of.
pub type Figures = BTreeMap<String, f64>;

/// How far a figure may be from the one that is kept, in percent. Instructions vary by which thread wakes which, and by
/// the seeds of hash maps; allocations hardly at all.
const INSTRUCTIONS_WITHIN: f64 = 3.0;
const MEMORY_WITHIN: f64 = 2.0;
/// What a clock that ticks meanwhile allocates must not count: of 200 events one in two may have one more.
const ALLOCATIONS_WITHIN: f64 = 0.5;

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
pub fn differences(kept: &Figures, now: &Figures) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, value) in now {
        let Some(was) = kept.get(name) else {
            faults.push(format!("{name}: {value:.1}, not recorded yet"));
            continue;
        };
        let within = if name.ends_with("instructions") { INSTRUCTIONS_WITHIN } else { MEMORY_WITHIN };
        let percent = (value - was) / was.max(1.0) * 100.0;
        let is_noise = name.ends_with("allocations") && (value - was).abs() <= ALLOCATIONS_WITHIN;
        if percent.abs() > within && !is_noise {
            let how = if percent > 0.0 { "worse" } else { "better: record it" };
            faults.push(format!("{name}: {value:.1}, was {was:.1} ({percent:+.1} %, {how})"));
        }
    }
    let gone = kept.keys().filter(|name| !now.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: not measured any more")));
    faults
}

#[cfg(test)]
mod tests {
    use super::{differences, parse};

    #[test]
    fn a_figure_that_moves_is_noticed() {
        // Proves that worse, better, new and missing figures are told, and that small moves are not.
        let kept = parse("# x\na: instructions 1000\na: allocations 10.0\ngone: allocations 1\n");
        let now = parse("a: instructions 1029\na: allocations 10.1\nnew: allocations 1\n");
        assert_eq!(differences(&kept, &now).len(), 2);
        let now = parse("a: instructions 1031\na: allocations 9.4\ngone: allocations 1\n");
        let faults = differences(&kept, &now);
        assert!(
            faults.len() == 2 && faults[0].contains("better") && faults[1].contains("worse"),
            "{faults:?}"
        );
    }
}
