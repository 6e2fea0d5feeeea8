//! Comparison of two builds of pfs in alternating rounds: the ratio shows the effect of their
//! difference.
//!
//! A build is a folder with `pfs`, `pfsd` and this program, which contains pfs's client. Each build
//! measures one round of a table at a time with its own programs, and the builds take turns at
//! going first.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::report::{Machine, Spread, number};

/// Options of a comparison.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the build with the change
    with: PathBuf,
    /// Folder of the build without the change
    without: PathBuf,
    /// How often each build measures each value
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A table, and further arguments of `pfs-bench run`
    #[arg(required = true, last = true)]
    table: Vec<String>,
}

/// Results of one build in one round, as `pfs-bench run` writes them.
#[derive(Deserialize)]
struct Round {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    metric: String,
    unit: String,
    peer: String,
    column: String,
    median: f64,
}

/// Values that both builds measured.
#[derive(Default)]
struct Rows(Vec<Row>);

/// One value of both builds, in the order of the rounds.
struct Row {
    name: [String; 4],
    values: [Vec<f64>; 2],
}

/// Measures, and prints a table of the first metric of each table and of the server's processor
/// time.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let builds = [&args.with, &args.without];
    let machine = Machine::local(args.rounds as usize);
    let mut rows = Rows::default();
    for round in 0..args.rounds as usize {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            eprintln!("round {}/{}: {}", round + 1, args.rounds, ["with", "without"][which]);
            rows.add(which, measure(builds[which], &args.table)?);
        }
    }
    println!("{}.\n\n{}", machine.describe(), rows.render(args.rounds as usize)?);
    Ok(())
}

fn measure(build: &Path, table: &[String]) -> anyhow::Result<Round> {
    let out = tempfile::tempdir()?;
    let mut command = Command::new(build.join("pfs-bench"));
    command
        .arg("run")
        .args(table)
        .args(["--rounds", "1", "--bin"])
        .arg(build)
        .arg("--out")
        .arg(out.path());
    let status = command.stdout(Stdio::null()).status();
    let status =
        status.with_context(|| format!("cannot start pfs-bench in {}", build.display()))?;
    ensure!(status.success(), "pfs-bench in {} failed: {status}", build.display());
    let files = std::fs::read_dir(out.path())?.collect::<Result<Vec<_>, _>>()?;
    let mut files = files
        .iter()
        .map(|file| file.path())
        .filter(|path| path.extension() == Some("json".as_ref()));
    let file = files.next().context("nothing was measured")?;
    ensure!(files.next().is_none(), "one table at a time");
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// Selects the cells that users notice: the table's first metric and the server's processor time.
fn shown(cells: Vec<Cell>) -> Vec<Cell> {
    let first = cells.first().map(|cell| cell.metric.clone()).unwrap_or_default();
    let is_shown = |cell: &Cell| cell.metric == first || cell.metric.starts_with("server CPU");
    cells.into_iter().filter(is_shown).collect()
}

impl Rows {
    /// Adds a round of the build `which`: 0 for the build with the change, 1 for the one without.
    fn add(&mut self, which: usize, round: Round) {
        for cell in shown(round.cells) {
            let name = [cell.metric, cell.unit, cell.peer, cell.column];
            let at = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
                self.0.push(Row { name, values: [Vec::new(), Vec::new()] });
                self.0.len() - 1
            });
            self.0[at].values[which].push(cell.median);
        }
    }

    /// Renders the table as Markdown. Returns an error if a value lacks a round: `pfs-bench run`
    /// omits values that failed.
    fn render(&self, rounds: usize) -> anyhow::Result<String> {
        let mut table = "| row | with | without | with / without |\n|---|---|---|---|".to_owned();
        for row in &self.0 {
            table.push('\n');
            table.push_str(&row.render(rounds)?);
        }
        Ok(table)
    }
}

impl Row {
    fn render(&self, rounds: usize) -> anyhow::Result<String> {
        let [with, without] = &self.values;
        let [metric, unit, peer, column] = &self.name;
        ensure!(
            [with, without].iter().all(|values| values.len() == rounds),
            "a round of {metric}, {peer}, {column} failed"
        );
        let ratios: Vec<f64> =
            with.iter().zip(without).map(|(with, without)| with / without).collect();
        let [with, without] = [with, without].map(|values| {
            let Spread { median, min, max } = Spread::from_values(values);
            format!("{} ({} to {})", number(median), number(min), number(max))
        });
        let Spread { median, min, max } = Spread::from_values(&ratios);
        Ok(format!(
            "| {metric}, {unit}; {peer}; {column} | {with} | {without} | **{median:.2}** ({min:.2} to {max:.2}) |"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Builds a round as `pfs-bench run` writes it: records, processor time of the server, and a
    /// value that is not shown.
    fn round(records: f64, cpu: f64) -> Round {
        let cell = |metric: &str, median| {
            serde_json::json!({
                "metric": metric, "unit": "u", "peer": "ring", "column": "N=1",
                "median": median, "min": 0.0, "max": 0.0, "values": [median],
            })
        };
        let cells = [cell("records", records), cell("writer CPU", 5.0), cell("server CPU", cpu)];
        serde_json::from_value(serde_json::json!({ "table": "small", "cells": cells }))
            .expect("a round")
    }

    #[test]
    fn a_row_has_the_medians_of_both_builds_and_the_median_of_the_ratios_of_their_rounds() {
        let mut rows = Rows::default();
        for (with, without) in [(100.0, 200.0), (300.0, 100.0), (120.0, 400.0)] {
            rows.add(0, round(with, 2.0));
            rows.add(1, round(without, 1.0));
        }
        assert_eq!(
            rows.render(3).expect("a table"),
            "\
| row | with | without | with / without |
|---|---|---|---|
| records, u; ring; N=1 | 120 (100 to 300) | 200 (100 to 400) | **0.50** (0.30 to 3.00) |
| server CPU, u; ring; N=1 | 2.00 (2.00 to 2.00) | 1.00 (1.00 to 1.00) | **2.00** (2.00 to 2.00) |"
        );
    }

    #[test]
    fn a_value_that_lacks_a_round_is_an_error_even_if_both_builds_lack_one() {
        let failed = || {
            let mut failed = round(1.0, 1.0);
            failed.cells.retain(|cell| cell.metric != "server CPU");
            failed
        };
        let mut rows = Rows::default();
        rows.add(0, round(1.0, 1.0));
        rows.add(1, failed());
        let error = "a round of server CPU, ring, N=1 failed";
        assert_eq!(rows.render(1).expect_err("one lacks it").to_string(), error);
        rows.add(0, failed());
        rows.add(1, round(1.0, 1.0));
        assert_eq!(rows.render(2).expect_err("both lack one").to_string(), error);
    }

    #[test]
    fn a_build_whose_round_fails_or_measures_nothing_is_an_error() {
        for (program, error) in
            [("false", "failed: exit status: 1"), ("true", "nothing was measured")]
        {
            let build = tempfile::tempdir().expect("a folder");
            symlink(Path::new("/bin").join(program), build.path().join("pfs-bench"))
                .expect("a link");
            let Err(said) = measure(build.path(), &["small".to_owned()]) else {
                panic!("{program} measures")
            };
            assert!(said.to_string().contains(error), "{said}");
        }
    }
}
