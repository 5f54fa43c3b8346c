//! Medians, and tables of them.

use std::fmt;

use crate::proxies::Kind;

/// The median.
///
/// # Panics
/// When there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    assert!(!values.is_empty(), "nothing was measured");
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// The value below which this share of all lies.
///
/// # Panics
/// When there are no values.
#[must_use]
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// What was measured of one thing, with one column for each proxy.
pub struct Row {
    /// What it is of, with its unit.
    pub what: String,
    /// Values of each round by proxy, in the columns' order.
    pub values: Vec<(Kind, Vec<f64>)>,
}

/// Rows with the same columns.
pub struct Table {
    /// The question that it answers; also the marker of its place in the page.
    pub question: &'static str,
    /// Its heading.
    pub title: String,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Lines of text below it.
    pub notes: Vec<String>,
    /// What was promised and is not kept: `make bench` fails with these, after all is measured and written.
    pub faults: Vec<String>,
}

impl Row {
    /// Empty, with these columns.
    pub fn new(what: impl Into<String>, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { what: what.into(), values: kinds.into_iter().map(|kind| (kind, Vec::new())).collect() }
    }

    /// Adds a round's value of this proxy.
    pub fn add(&mut self, kind: Kind, value: f64) {
        if let Some((_, values)) = self.values.iter_mut().find(|(column, _)| *column == kind) {
            values.push(value);
        }
    }

    /// The median of this proxy's rounds.
    #[must_use]
    pub fn median(&self, kind: Kind) -> Option<f64> {
        let (_, values) =
            self.values.iter().find(|(column, values)| *column == kind && !values.is_empty())?;
        Some(median(values))
    }

    /// This proxy's median as a multiple of another's. There is none where a difference is lost in noise, below zero.
    #[must_use]
    pub fn ratio(&self, kind: Kind, to: Kind) -> Option<f64> {
        let (own, other) = (self.median(kind)?, self.median(to)?);
        (own > 0.0 && other > 0.0).then(|| own / other)
    }

    fn cell(&self, kind: Kind) -> String {
        self.median(kind).map_or_else(String::new, short)
    }

    /// The ratios of each Entrada to the peers that do the same beside proxying: those with a log, or those without.
    fn ratios(&self) -> String {
        let pairs = [
            (Kind::Entrada, [Kind::NginxLog, Kind::HaproxyLog]),
            (Kind::EntradaBare, [Kind::Nginx, Kind::Haproxy]),
        ];
        let ratios = pairs.iter().flat_map(|(own, peers)| peers.map(|peer| self.ratio(*own, peer)));
        let ratios: Vec<_> = ratios.flatten().map(|ratio| format!("{ratio:.2}")).collect();
        ratios.join(", ")
    }
}

/// Three digits that count.
#[must_use]
pub fn short(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{value:.0}");
            let from_right = digits.chars().rev().enumerate();
            let with_commas = from_right.flat_map(|(n, digit)| {
                (n > 0 && n % 3 == 0 && digit != '-').then_some(',').into_iter().chain([digit])
            });
            with_commas.collect::<Vec<_>>().into_iter().rev().collect()
        }
    }
}

impl Table {
    /// Without notes and faults.
    pub fn new(question: &'static str, title: impl Into<String>, rows: Vec<Row>) -> Self {
        Self { question, title: title.into(), rows, notes: Vec::new(), faults: Vec::new() }
    }
}

/// As Markdown, which is as readable on a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.rows.first() else { return Ok(()) };
        let kinds: Vec<_> = first.values.iter().map(|(kind, _)| *kind).collect();
        let names = kinds.iter().map(|kind| kind.name().to_owned());
        let head: Vec<String> =
            std::iter::once(self.title.clone()).chain(names).chain(["ratios".to_owned()]).collect();
        let rows = self.rows.iter().map(|row| {
            let cells = kinds.iter().map(|kind| row.cell(*kind));
            std::iter::once(row.what.clone()).chain(cells).chain([row.ratios()]).collect::<Vec<_>>()
        });
        let lines: Vec<_> = std::iter::once(head).chain(rows).collect();
        let width =
            |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        for (n, cells) in lines.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                write!(f, "| {cell:<width$} ", width = width(column))?;
            }
            writeln!(f, "|")?;
            if n == 0 {
                writeln!(f, "|{}", "---|".repeat(cells.len()))?;
            }
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}
