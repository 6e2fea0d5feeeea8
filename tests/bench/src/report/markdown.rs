//! Results as Markdown.

use std::fmt::Write;

use super::{Metric, Results, Shown, Spread, number};

/// Renders all tables of the results.
pub fn render(results: &Results) -> String {
    let mut text = format!("## {}\n\n", results.title);
    let machine = &results.machine;
    _ = writeln!(text, "{}.", machine.describe());
    let each =
        if machine.seconds > 0.0 { format!(", {} s each", machine.seconds) } else { String::new() };
    let rounds = machine.rounds;
    _ = writeln!(
        text,
        "Median of {rounds} rounds (min to max){each}, all peers in turn in each round.\n"
    );
    for note in &results.notes {
        _ = writeln!(text, "- {note}");
    }
    for metric in results.metrics() {
        if is_shown(results, metric) {
            table(results, metric, &mut text);
        }
    }
    goals(results, &mut text);
    if !machine.versions.is_empty() {
        _ = writeln!(text, "\nVersions: {}.", machine.versions.join("; "));
    }
    text
}

fn is_shown(results: &Results, metric: &Metric) -> bool {
    let mut cells = results.cells.iter().filter(|cell| cell.metric == metric);
    match metric.shown {
        Shown::Chart | Shown::Table => true,
        Shown::Trouble => cells.any(|cell| cell.values.iter().any(|value| *value != 0.0)),
        Shown::Json => false,
    }
}

fn table(results: &Results, metric: &Metric, text: &mut String) {
    let columns = results.columns(metric);
    _ = writeln!(text, "\n| {}, {} | {} |", metric.name, metric.unit, columns.join(" | "));
    _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
    for peer in results.peers(metric) {
        _ = write!(text, "| {} |", peer.name());
        for column in &columns {
            match results.cell(metric, peer, column) {
                Some(cell) => {
                    let spread = cell.spread();
                    _ = write!(text, " **{}**", number(spread.median));
                    if cell.values.len() > 1 && spread.max > 0.0 {
                        _ = write!(text, " ({} to {})", number(spread.min), number(spread.max));
                    }
                    text.push_str(" |");
                }
                None => text.push_str(" - |"),
            }
        }
        text.push('\n');
    }
}

fn goals(results: &Results, text: &mut String) {
    if results.goals.is_empty() {
        return;
    }
    text.push_str("\nRatios are the median of those within each round (min to max).\n");
    text.push_str("\n| goal | against | wanted | reached | |\n|---|---|---|---|---|\n");
    for goal in &results.goals {
        let bound = if goal.at_most { "at most" } else { "at least" };
        let unit = if goal.unit == "x" { "x".to_owned() } else { format!(" {}", goal.unit) };
        let reached = goal.reached.map_or("-".to_owned(), |Spread { median, min, max }| {
            let spread = if min < max {
                format!(" ({} to {})", number(min), number(max))
            } else {
                String::new()
            };
            format!("{}{unit}{spread}", number(median))
        });
        let verdict = match goal.is_reached() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let (words, against, wanted) = (&goal.text, &goal.against, goal.wanted);
        _ = writeln!(
            text,
            "| {words} | {against} | {bound} {wanted}{unit} | {reached} | {verdict} |"
        );
    }
}
