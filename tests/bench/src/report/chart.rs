//! Chart of results: a panel for each column, a bar for each peer, and a whisker from its worst
//! round to its best.

use std::fmt::Write;

use super::{Results, Shown, number};
use crate::peers::Peer;

const WIDTH: usize = 960;
const LABELS: usize = 230;
const TOP: usize = 76;
const ROW: usize = 24;
const BAR: usize = 14;
/// Room for the number to the right of the longest bar.
const NUMBER: f64 = 66.0;

/// Colors that are readable on a light and on a dark page.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .bold { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.pfs { fill: #1f6feb } .baseline { fill: #9a6700 } .peer { fill: #a8b1bb }
.ceiling { fill: none; stroke: #a8b1bb }
.whisker { stroke: #1f2328; stroke-width: 1 } .axis { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .peer { fill: #656c76 } .baseline { fill: #d29922 }
  .ceiling { stroke: #656c76 }
  .pfs { fill: #4493f8 } .whisker { stroke: #f0f6fc } .axis { stroke: #3d444d }
}";

/// Renders an SVG picture; without bars if there is nothing to show.
pub fn render(results: &Results) -> String {
    let metric = results.metrics().into_iter().find(|metric| metric.shown == Shown::Chart);
    let (peers, columns) = match metric {
        Some(metric) => (results.peers(metric), results.columns(metric)),
        None => (Vec::new(), Vec::new()),
    };
    let height = TOP + peers.len() * ROW + 12;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
        escape(results.title)
    );
    _ = writeln!(svg, "<text class=\"title\" x=\"8\" y=\"22\">{}</text>", escape(results.title));
    let Some(metric) = metric else { return svg + "</svg>\n" };
    let unit = format!("{}, {}", metric.name, metric.unit);
    _ = writeln!(svg, "<text class=\"small\" x=\"8\" y=\"40\">{}</text>", escape(&unit));
    for (row, peer) in peers.iter().enumerate() {
        let class = if peer.is_pfs() { "bold" } else { "" };
        let y = TOP + row * ROW + 15;
        _ = writeln!(
            svg,
            "<text class=\"{class}\" x=\"8\" y=\"{y}\">{}</text>",
            escape(peer.name())
        );
    }
    let panel = (WIDTH - LABELS) as f64 / columns.len().max(1) as f64;
    for (index, column) in columns.iter().enumerate() {
        let left = LABELS as f64 + panel * index as f64;
        let cell = |peer: Peer| results.cell(metric, peer, column).map(|cell| cell.spread());
        let largest = peers
            .iter()
            .filter_map(|peer| cell(*peer))
            .map(|spread| spread.max)
            .fold(0.0, f64::max);
        let scale = if largest > 0.0 { (panel - NUMBER - 12.0) / largest } else { 0.0 };
        let heading = TOP - 10;
        _ = writeln!(
            svg,
            "<text class=\"bold\" x=\"{left:.1}\" y=\"{heading}\">{}</text>",
            escape(column)
        );
        let (top, bottom) = (TOP, TOP + peers.len() * ROW);
        _ = writeln!(svg, "<path class=\"axis\" d=\"M{left:.1} {top}V{bottom}\"/>");
        for (row, peer) in peers.iter().enumerate() {
            let y = TOP + row * ROW + (ROW - BAR) / 2;
            let Some(spread) = cell(*peer) else { continue };
            let class = match peer {
                Peer::Baseline => "baseline",
                peer if peer.is_pfs() => "pfs",
                peer if peer.is_ceiling() => "ceiling",
                _ => "peer",
            };
            let width = spread.median * scale;
            _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
            );
            let (low, high, middle) =
                (left + spread.min * scale, left + spread.max * scale, y + BAR / 2);
            if spread.max > spread.min {
                _ = writeln!(svg, "<path class=\"whisker\" d=\"M{low:.1} {middle}H{high:.1}\"/>");
            }
            let (x, y) = (high + 5.0, y + BAR - 3);
            _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\">{}</text>", number(spread.median));
        }
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
