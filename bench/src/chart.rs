//! The chart in docs/performance.md: processor time of a request, with nginx as the measure.

use std::fmt::Write as _;

use crate::figures::{Row, Table, short};
use crate::proxies::Kind;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 90.0;
const BAR: f64 = 14.0;
const GROUP: f64 = 3.0 * BAR + 14.0;
const TOP: f64 = 40.0;
/// Where a bar ends that costs this many times as much as nginx.
const LONGEST: f64 = 2.0;

const COLUMNS: [(Kind, &str); 3] =
    [(Kind::Entrada, "entrada"), (Kind::NginxLog, "nginx"), (Kind::HaproxyLog, "haproxy")];

const STYLE: &str = "
  text { font: 12px sans-serif; fill: #1f2328; }
  .entrada { fill: #0969da; } .nginx { fill: #8c959f; } .haproxy { fill: #d0d7de; } .line { stroke: #1f2328; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .line { stroke: #e6edf3; }
    .entrada { fill: #4493f8; } .nginx { fill: #7d8590; } .haproxy { fill: #3d444d; }
  }
";

/// As SVG.
#[must_use]
pub fn draw(table: &Table) -> String {
    let rows: Vec<_> = table.rows.iter().filter(|row| row.median(Kind::NginxLog).is_some()).collect();
    let height = TOP + GROUP * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Processor time of a request as a multiple of nginx\">\n<style>{STYLE}</style>\n"
    );
    for (n, (kind, class)) in COLUMNS.iter().enumerate() {
        let x = LEFT + 150.0 * n as f64;
        let _ = writeln!(svg, "<rect class=\"{class}\" x=\"{x}\" y=\"8\" width=\"12\" height=\"12\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"18\">{}</text>", x + 18.0, kind.name());
    }
    for (n, row) in rows.iter().enumerate() {
        group(&mut svg, row, TOP + GROUP * n as f64);
    }
    let one = LEFT + scale(1.0);
    let _ = writeln!(
        svg,
        "<line class=\"line\" x1=\"{one}\" x2=\"{one}\" y1=\"{}\" y2=\"{height}\"/>",
        TOP - 8.0
    );
    svg + "</svg>\n"
}

/// The bars of one row.
fn group(svg: &mut String, row: &Row, top: f64) {
    let _ = writeln!(svg, "<text x=\"0\" y=\"{}\">{}</text>", top + 1.8 * BAR, row.what);
    for (n, (kind, class)) in COLUMNS.iter().enumerate() {
        let Some((ratio, value)) = row.ratio(*kind, Kind::NginxLog).zip(row.median(*kind)) else { continue };
        let (y, width) = (top + BAR * n as f64, scale(ratio));
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{:.0}\"/>",
            BAR - 2.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\">{ratio:.2} ({} µs)</text>",
            LEFT + width + 6.0,
            y + 11.0,
            short(value)
        );
    }
}

fn scale(ratio: f64) -> f64 {
    ratio.min(LONGEST) / LONGEST * (WIDTH - LEFT - 130.0)
}
