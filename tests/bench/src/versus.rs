//! Two builds of pfs in turns: what one has and the other lacks is worth the ratio.
//!
//! A build is a folder with `pfs`, `pfsd` and this program, which has pfs's client in it. Each measures one round of a table at
//! a time, with its own programs, and which of the two begins alternates.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::report::{Machine, Spread, number};

/// What is compared, and how.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the build that has it
    with: PathBuf,
    /// Folder of the build that lacks it
    without: PathBuf,
    /// How often each build measures each value
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A table, and further arguments of `pfs-bench run`
    #[arg(required = true, last = true)]
    table: Vec<String>,
}

/// The results of one build in one round, as `pfs-bench run` writes them.
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

/// A value that both builds measured, in the order of the rounds.
struct Row {
    name: [String; 4],
    values: [Vec<f64>; 2],
}

/// Measures, and prints a table of what the first metric of each table was and of what the server needed for it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let builds = [&args.with, &args.without];
    let machine = Machine::local(args.rounds as usize);
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..args.rounds as usize {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            eprintln!("round {}/{}: {}", round + 1, args.rounds, ["with", "without"][which]);
            let measured = measure(builds[which], &args.table)?;
            for cell in shown(measured.cells) {
                let name = [cell.metric, cell.unit, cell.peer, cell.column];
                let at = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
                    rows.push(Row { name, values: [Vec::new(), Vec::new()] });
                    rows.len() - 1
                });
                rows[at].values[which].push(cell.median);
            }
        }
    }
    println!("{}.\n", machine.describe());
    println!("| row | with | without | with / without |");
    println!("|---|---|---|---|");
    rows.iter().try_for_each(print)
}

fn measure(build: &Path, table: &[String]) -> anyhow::Result<Round> {
    let out = tempfile::tempdir()?;
    let mut command = Command::new(build.join("pfs-bench"));
    command.arg("run").args(table).args(["--rounds", "1", "--bin"]).arg(build).arg("--out").arg(out.path());
    let status = command.stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start pfs-bench in {}", build.display()))?;
    ensure!(status.success(), "pfs-bench in {} failed: {status}", build.display());
    let files = std::fs::read_dir(out.path())?.collect::<Result<Vec<_>, _>>()?;
    let mut files =
        files.iter().map(|file| file.path()).filter(|path| path.extension() == Some("json".as_ref()));
    let file = files.next().context("nothing was measured")?;
    ensure!(files.next().is_none(), "one table at a time");
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// What users notice: the table's first metric, and what the server needed.
fn shown(cells: Vec<Cell>) -> Vec<Cell> {
    let first = cells.first().map(|cell| cell.metric.clone()).unwrap_or_default();
    let is_shown = |cell: &Cell| cell.metric == first || cell.metric.starts_with("server CPU");
    cells.into_iter().filter(is_shown).collect()
}

fn print(row: &Row) -> anyhow::Result<()> {
    let [with, without] = &row.values;
    let [metric, unit, peer, column] = &row.name;
    ensure!(with.len() == without.len(), "a round of {metric}, {peer}, {column} failed");
    let ratios: Vec<f64> = with.iter().zip(without).map(|(with, without)| with / without).collect();
    let [with, without] = [with, without].map(|values| {
        let Spread { median, min, max } = Spread::of(values);
        format!("{} ({} to {})", number(median), number(min), number(max))
    });
    let Spread { median, min, max } = Spread::of(&ratios);
    println!(
        "| {metric}, {unit}; {peer}; {column} | {with} | {without} | **{median:.2}** ({min:.2} to {max:.2}) |"
    );
    Ok(())
}
