//! What was measured, and how it is shown: as Markdown, as JSON and as a chart.

mod chart;
mod json;
mod machine;
mod markdown;

use std::path::Path;

use anyhow::Context;

pub use machine::Machine;

use crate::peers::Peer;

/// A quantity.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// What it is.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// Where it is shown.
    pub shown: Shown,
}

/// Where a metric is shown, besides in the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In a table, and the chart is of it.
    Chart,
    /// In a table.
    Table,
    /// In a table if it is not zero everywhere.
    Trouble,
    /// Nowhere.
    Json,
}

/// The values of one metric of one peer in one column, a value for each round.
#[derive(Debug)]
pub struct Cell {
    /// What was measured.
    pub metric: &'static Metric,
    /// Of whom.
    pub peer: Peer,
    /// Under which load.
    pub column: String,
    /// In the order of the rounds.
    pub values: Vec<f64>,
}

/// The middle of some values and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the values are not larger, half not smaller.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// What is to be reached, and what was.
#[derive(Debug, PartialEq)]
pub struct Goal {
    /// In words.
    pub text: String,
    /// The ratio, or the value, that is wanted.
    pub wanted: f64,
    /// Of the value; for a ratio, "x".
    pub unit: &'static str,
    /// Less is better.
    pub at_most: bool,
    /// The ratio in each round, or the value; nothing if a part of it was not measured.
    pub reached: Option<Spread>,
    /// Against whom.
    pub against: String,
}

/// All that came of a table.
#[derive(Debug)]
pub struct Results {
    /// Its name on the command line, and of its files.
    pub table: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What one must know to read it.
    pub notes: Vec<String>,
    /// Where it was measured.
    pub machine: Machine,
    /// The values.
    pub cells: Vec<Cell>,
    /// The goals.
    pub goals: Vec<Goal>,
}

impl Cell {
    /// The spread of its values.
    pub fn spread(&self) -> Spread {
        Spread::from_values(&self.values)
    }

    /// The spread of the ratios in each round: both were measured in the same minute then, which
    /// the machine may have had less time for than for others.
    fn ratio_to(&self, other: &Self) -> Spread {
        let ratios: Vec<f64> =
            self.values.iter().zip(&other.values).map(|(own, other)| own / other).collect();
        Spread::from_values(&ratios)
    }
}

impl Spread {
    /// Of at least one value.
    pub fn from_values(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        let median = (sorted[low] + sorted[high]) / 2.0;
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

impl Results {
    /// Nothing measured yet.
    pub fn new(table: &'static str, title: &'static str, machine: Machine) -> Self {
        Self { table, title, notes: Vec::new(), machine, cells: Vec::new(), goals: Vec::new() }
    }

    /// Adds a value.
    pub fn add(&mut self, metric: &'static Metric, peer: Peer, column: &str, value: f64) {
        let same =
            |cell: &&mut Cell| cell.metric == metric && cell.peer == peer && cell.column == column;
        match self.cells.iter_mut().find(same) {
            Some(cell) => cell.values.push(value),
            None => self.cells.push(Cell {
                metric,
                peer,
                column: column.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// The cell, if it was measured.
    pub fn cell(&self, metric: &Metric, peer: Peer, column: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.metric == metric && cell.peer == peer && cell.column == column)
    }

    /// The metrics that were measured, in the order in which they came.
    pub fn metrics(&self) -> Vec<&'static Metric> {
        unique(self.cells.iter().map(|cell| cell.metric))
    }

    /// The peers, in the order in which they are declared.
    pub fn peers(&self, metric: &Metric) -> Vec<Peer> {
        let mut peers =
            unique(self.cells.iter().filter(|cell| cell.metric == metric).map(|cell| cell.peer));
        peers.sort_by_key(|peer| *peer as u8);
        peers
    }

    /// The columns of a metric, in the order in which they came.
    pub fn columns(&self, metric: &Metric) -> Vec<&str> {
        unique(
            self.cells.iter().filter(|cell| cell.metric == metric).map(|cell| cell.column.as_str()),
        )
    }

    /// A goal for `peer` against the best of the rivals: at least so many times what that has.
    pub fn goal_at_least(
        &mut self,
        metric: &'static Metric,
        peer: Peer,
        column: &str,
        wanted: f64,
    ) {
        let best = self.rivals(metric, column).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        self.goal(metric, peer, column, wanted, false, best.map(|(best, _)| best));
    }

    /// A goal for `peer` against the best of those rivals: at most so many times what that has.
    pub fn goal_at_most(
        &mut self,
        metric: &'static Metric,
        peer: Peer,
        column: &str,
        wanted: f64,
        among: impl Fn(Peer) -> bool,
    ) {
        let rivals = self.rivals(metric, column).into_iter().filter(|(rival, _)| among(*rival));
        let best = rivals.min_by(|a, b| a.1.total_cmp(&b.1));
        self.goal(metric, peer, column, wanted, true, best.map(|(best, _)| best));
    }

    /// A goal for a value of `peer` itself.
    pub fn goal_value(
        &mut self,
        metric: &'static Metric,
        peer: Peer,
        column: &str,
        (wanted, at_most): (f64, bool),
    ) {
        let Some(reached) = self.cell(metric, peer, column).map(Cell::spread) else { return };
        let text = format!("{}: {}, {column}", peer.name(), metric.name);
        let against = String::new();
        self.goals.push(Goal {
            text,
            wanted,
            unit: metric.unit,
            at_most,
            reached: Some(reached),
            against,
        });
    }

    /// A goal for `peer` against one other.
    pub fn goal_against(
        &mut self,
        metric: &'static Metric,
        (peer, other): (Peer, Peer),
        column: &str,
        (wanted, at_most): (f64, bool),
    ) {
        let other = self.cell(metric, other, column).map(|_| other);
        self.goal(metric, peer, column, wanted, at_most, other);
    }

    fn goal(
        &mut self,
        metric: &'static Metric,
        peer: Peer,
        column: &str,
        wanted: f64,
        at_most: bool,
        other: Option<Peer>,
    ) {
        let Some(own) = self.cell(metric, peer, column) else { return };
        let text = format!("{}: {}, {column}", peer.name(), metric.name);
        let against = other.map_or("nobody", Peer::name).to_owned();
        let other = other.and_then(|other| self.cell(metric, other, column));
        let reached = other.map(|other| own.ratio_to(other));
        self.goals.push(Goal { text, wanted, unit: "x", at_most, reached, against });
    }

    fn rivals(&self, metric: &Metric, column: &str) -> Vec<(Peer, f64)> {
        let cells = self.cells.iter().filter(|cell| cell.metric == metric && cell.column == column);
        let rivals = cells.filter(|cell| cell.peer.is_rival());
        rivals.map(|cell| (cell.peer, cell.spread().median)).collect()
    }

    /// Prints the tables and writes `TABLE.md`, `TABLE.json` and `TABLE.svg` into that folder.
    pub fn publish(&self, dir: &Path) -> anyhow::Result<()> {
        let markdown = markdown::render(self);
        println!("{markdown}");
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let write = |extension: &str, text: String| {
            let path = dir.join(self.table).with_extension(extension);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("md", markdown)?;
        write("json", json::render(self)?)?;
        write("svg", chart::render(self))
    }
}

impl Goal {
    /// Whether it is reached, if that can be said.
    pub fn is_reached(&self) -> Option<bool> {
        let reached = self.reached?.median;
        Some(if self.at_most { reached <= self.wanted } else { reached >= self.wanted })
    }
}

fn unique<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}

/// A number in three digits or more, with its thousands apart.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut apart = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0
            && (whole.len() - index) % 3 == 0
            && digit.is_ascii_digit()
            && !apart.ends_with('-')
        {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_odd_and_between_the_middles_of_even() {
        assert_eq!(
            Spread::from_values(&[3.0, 1.0, 2.0]),
            Spread { median: 2.0, min: 1.0, max: 3.0 }
        );
        assert_eq!(Spread::from_values(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_goal_has_the_median_of_the_ratios_of_the_rounds() {
        static METRIC: Metric = Metric { name: "speed", unit: "m/s", shown: Shown::Json };
        let mut results = Results::new("table", "A table", Machine::local(3));
        for (own, other) in [(9.0, 10.0), (1.0, 2.0), (9.5, 10.0)] {
            results.add(&METRIC, Peer::PfsShm, "N=1", own);
            results.add(&METRIC, Peer::Tee, "N=1", other);
        }
        results.goal_against(&METRIC, (Peer::PfsShm, Peer::Tee), "N=1", (0.9, false));
        let [goal] = &results.goals[..] else { panic!("{:?}", results.goals) };
        assert_eq!(goal.reached, Some(Spread { median: 0.9, min: 0.5, max: 0.95 }));
        assert_eq!(goal.is_reached(), Some(true));
    }

    #[test]
    fn numbers_have_three_digits_and_thousands_apart() {
        let numbers = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0];
        let texts = ["0", "0.012", "1.23", "12.3", "123", "1,234", "1,234,567", "-1,234"];
        assert_eq!(numbers.map(number), texts);
    }
}
