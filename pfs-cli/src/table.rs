//! Columns of text.

/// How a column's cells are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A header and rows, set in columns that are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header line and nothing below it.
    pub(crate) fn new(header: &[(&str, Align)]) -> Self {
        let columns = header.iter().map(|(_, align)| *align).collect();
        Self { columns, rows: vec![header.iter().map(|(name, _)| (*name).to_owned()).collect()] }
    }

    /// Adds a row, one cell a column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Sets the columns, each line behind `indent`; no line ends with spaces.
    pub(crate) fn render(&self, indent: &str) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for ((cell, align), width) in row.iter().zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("STATE", Align::Left), ("HEAD", Align::Right), ("PATH", Align::Left)]);
        table.row(["open", "1000000", "/streamfs/cam"].map(String::from));
        table.row(["closed", "5", "/streamfs/a"].map(String::from));
        assert_eq!(
            table.render("  "),
            "  STATE      HEAD  PATH\n  open    1000000  /streamfs/cam\n  closed        5  /streamfs/a\n"
        );
    }
}
