//! Results of a measurement, shown as Markdown, as JSON and as a chart.

mod chart;
mod json;
mod machine;
mod markdown;

use std::path::Path;

use anyhow::Context;

pub use machine::Machine;

use crate::peers::Peer;

/// Measured quantity.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name of the quantity.
    pub name: &'static str,
    /// Unit of the quantity.
    pub unit: &'static str,
    /// Where the quantity is shown.
    pub shown: Shown,
}

/// Where a metric is shown, besides in the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In a table and in the chart.
    Chart,
    /// In a table.
    Table,
    /// In a table, unless all values are zero.
    Trouble,
    /// Only in the JSON.
    Json,
}

/// Values of one metric of one peer in one column, one for each round.
#[derive(Debug)]
pub struct Cell {
    /// The metric.
    pub metric: &'static Metric,
    /// The peer.
    pub peer: Peer,
    /// The column, which names the load.
    pub column: String,
    /// Values in the order of the rounds.
    pub values: Vec<f64>,
}

/// Median and range of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the values are not larger, half not smaller.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

/// Goal, and the value that was reached.
#[derive(Debug, PartialEq)]
pub struct Goal {
    /// Description.
    pub text: String,
    /// The ratio or value to reach.
    pub wanted: f64,
    /// Unit of the value; "x" for a ratio.
    pub unit: &'static str,
    /// Whether the goal is a maximum instead of a minimum.
    pub at_most: bool,
    /// Ratios or values of all rounds; `None` if a part was not measured.
    pub reached: Option<Spread>,
    /// What the value is compared with.
    pub against: String,
}

/// All results of a table.
#[derive(Debug)]
pub struct Results {
    /// Name on the command line and of the files.
    pub table: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Notes that a reader of the table needs.
    pub notes: Vec<String>,
    /// Machine of the measurement.
    pub machine: Machine,
    /// The values.
    pub cells: Vec<Cell>,
    /// The goals.
    pub goals: Vec<Goal>,
}

impl Cell {
    /// Returns the spread of the values.
    pub fn spread(&self) -> Spread {
        Spread::from_values(&self.values)
    }

    /// Returns the spread of the ratios of each round. Both values of a round were measured within
    /// the same minute, so a busy machine affects both.
    fn ratio_to(&self, other: &Self) -> Spread {
        let ratios: Vec<f64> =
            self.values.iter().zip(&other.values).map(|(own, other)| own / other).collect();
        Spread::from_values(&ratios)
    }
}

impl Spread {
    /// Computes the spread of at least one value.
    pub fn from_values(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        let median = (sorted[low] + sorted[high]) / 2.0;
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

impl Results {
    /// Creates results without values.
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

    /// Returns the cell, if it was measured.
    pub fn cell(&self, metric: &Metric, peer: Peer, column: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.metric == metric && cell.peer == peer && cell.column == column)
    }

    /// Returns the measured metrics, in the order of their first value.
    pub fn metrics(&self) -> Vec<&'static Metric> {
        unique(self.cells.iter().map(|cell| cell.metric))
    }

    /// Returns the peers, in the order of their declaration.
    pub fn peers(&self, metric: &Metric) -> Vec<Peer> {
        let mut peers =
            unique(self.cells.iter().filter(|cell| cell.metric == metric).map(|cell| cell.peer));
        peers.sort_by_key(|peer| *peer as u8);
        peers
    }

    /// Returns the columns of a metric, in the order of their first value.
    pub fn columns(&self, metric: &Metric) -> Vec<&str> {
        unique(
            self.cells.iter().filter(|cell| cell.metric == metric).map(|cell| cell.column.as_str()),
        )
    }

    /// Adds a goal for `peer`: at least this multiple of the value of the best rival.
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

    /// Adds a goal for `peer`: at most this multiple of the value of the best of these rivals.
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

    /// Adds a goal for a value of `peer` itself.
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

    /// Adds a goal for `peer` against one other.
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
        let against = other.map_or("none", Peer::name).to_owned();
        let other = other.and_then(|other| self.cell(metric, other, column));
        let reached = other.map(|other| own.ratio_to(other));
        self.goals.push(Goal { text, wanted, unit: "x", at_most, reached, against });
    }

    fn rivals(&self, metric: &Metric, column: &str) -> Vec<(Peer, f64)> {
        let cells = self.cells.iter().filter(|cell| cell.metric == metric && cell.column == column);
        let rivals = cells.filter(|cell| cell.peer.is_rival());
        rivals.map(|cell| (cell.peer, cell.spread().median)).collect()
    }

    /// Prints the tables and writes `TABLE.md`, `TABLE.json` and `TABLE.svg` into this folder.
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
    /// Returns whether the goal is reached, if it was measured.
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

/// Formats a number with three digits or more, with thousands separated.
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
    fn numbers_have_three_digits_and_separated_thousands() {
        let numbers = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0];
        let texts = ["0", "0.012", "1.23", "12.3", "123", "1,234", "1,234,567", "-1,234"];
        assert_eq!(numbers.map(number), texts);
    }
}
