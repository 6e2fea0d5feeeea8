//! Tables of text, aligned by the width that a terminal shows.

use clap::builder::styling::Style;
/// Alignment of a column: left for text, right for numbers.
pub(crate) use console::Alignment as Align;
use console::{measure_text_width, pad_str};

use crate::printer::HEADING;

/// Cell for an unknown value.
pub(crate) const UNKNOWN: &str = "-";

/// A header and rows. Each column is as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this header and no rows.
    pub(crate) fn new(header: &[(&str, Align)]) -> Self {
        let columns = header.iter().map(|(_, align)| *align).collect();
        Self { columns, rows: vec![header.iter().map(|(name, _)| (*name).to_owned()).collect()] }
    }

    /// Adds a row, one cell per column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Formats the table, with `indent` before each line and no spaces at the end of a line. Leaves
    /// out a column if all its cells are unknown.
    pub(crate) fn render(&self, indent: &str) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| measure_text_width(cell))
                .max()
                .unwrap_or(0)
        };
        let is_known = |column: &usize| {
            let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(*column)).peekable();
            cells.peek().is_none() || cells.any(|cell| cell != UNKNOWN)
        };
        let shown: Vec<usize> = (0..self.columns.len()).filter(is_known).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for column in &shown {
                let (Some(cell), Some(align)) = (row.get(*column), self.columns.get(*column))
                else {
                    continue;
                };
                line.push_str(&pad_str(cell, width(*column), *align, None));
                line.push_str("  ");
            }
            let style = if number == 0 { HEADING } else { Style::new() };
            text.push_str(&format!("{indent}{style}{}{style:#}\n", line.trim_end()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn wide_and_combining_characters_count_as_displayed() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(["監視カメラ", "1"].map(String::from));
        table.row(["e\u{301}te\u{301}", "22"].map(String::from));
        table.row(["📷", "三百"].map(String::from));
        assert_eq!(
            strip_str(&table.render("")).to_string(),
            "\
NAME        SIZE
監視カメラ     1
e\u{301}te\u{301}           22
📷          三百
"
        );
    }

    #[test]
    fn only_the_header_is_styled() {
        let mut table = Table::new(&[("HEAD", Align::Right), ("PATH", Align::Left)]);
        table.row(["5", "/s/a"].map(String::from));
        assert_eq!(table.render("  "), "  \x1b[1mHEAD  PATH\x1b[0m\n     5  /s/a\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table =
            Table::new(&[("STATE", Align::Left), ("HEAD", Align::Right), ("PATH", Align::Left)]);
        table.row(["open", "1000000", "/streamfs/cam"].map(String::from));
        table.row(["closed", "5", "/streamfs/a"].map(String::from));
        assert_eq!(
            strip_str(&table.render("  ")).to_string(),
            "  STATE      HEAD  PATH\n  open    1000000  /streamfs/cam\n  closed        5  /streamfs/a\n"
        );
    }

    #[test]
    fn a_column_is_left_out_only_if_all_its_cells_are_unknown() {
        let mut table =
            Table::new(&[("PID", Align::Right), ("UID", Align::Right), ("LAG", Align::Right)]);
        assert_eq!(strip_str(&table.render("")).to_string(), "PID  UID  LAG\n");
        table.row(["1", "-", "2"].map(String::from));
        table.row(["-", "-", "3"].map(String::from));
        assert_eq!(strip_str(&table.render("")).to_string(), "PID  LAG\n  1    2\n  -    3\n");
    }
}
