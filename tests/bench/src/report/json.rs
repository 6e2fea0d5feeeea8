//! Results as JSON, with every value of every round.

use serde_json::{Value, json};

use super::{Cell, Goal, Results};

/// Renders the results as one object.
pub fn render(results: &Results) -> anyhow::Result<String> {
    let machine = &results.machine;
    let object = json!({
        "table": results.table,
        "title": results.title,
        "notes": results.notes,
        "machine": {
            "processor": machine.processor,
            "processors": machine.processors,
            "cache": machine.cache,
            "kernel": machine.kernel,
            "load": machine.load,
        },
        "versions": machine.versions,
        "rounds": machine.rounds,
        "seconds": machine.seconds,
        "cells": results.cells.iter().map(cell).collect::<Vec<_>>(),
        "goals": results.goals.iter().map(goal).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

fn cell(cell: &Cell) -> Value {
    let spread = cell.spread();
    json!({
        "metric": cell.metric.name,
        "unit": cell.metric.unit,
        "peer": cell.peer.name(),
        "column": cell.column,
        "median": spread.median,
        "min": spread.min,
        "max": spread.max,
        "values": cell.values,
    })
}

fn goal(goal: &Goal) -> Value {
    json!({
        "goal": goal.text,
        "against": goal.against,
        "wanted": goal.wanted,
        "unit": goal.unit,
        "at_most": goal.at_most,
        "reached": goal.reached.map(|reached| reached.median),
        "is_reached": goal.is_reached(),
    })
}
