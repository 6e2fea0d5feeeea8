//! Columns of text.

/// How a column's cells are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A cell for what is not known.
pub(crate) const UNKNOWN: &str = "-";

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

    /// Sets the columns, each line behind `indent`; no line ends with spaces. A column of which nothing is known is left out.
    pub(crate) fn render(&self, indent: &str) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let is_known = |column: &usize| {
            let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(*column)).peekable();
            cells.peek().is_none() || cells.any(|cell| cell != UNKNOWN)
        };
        let shown: Vec<usize> = (0..self.columns.len()).filter(is_known).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for column in &shown {
                let (Some(cell), Some(align)) = (row.get(*column), self.columns.get(*column)) else {
                    continue;
                };
                let width = width(*column);
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

    #[test]
    fn a_column_is_left_out_only_if_nothing_of_it_is_known() {
        let mut table = Table::new(&[("PID", Align::Right), ("UID", Align::Right), ("LAG", Align::Right)]);
        assert_eq!(table.render(""), "PID  UID  LAG\n");
        table.row(["1", "-", "2"].map(String::from));
        table.row(["-", "-", "3"].map(String::from));
        assert_eq!(table.render(""), "PID  LAG\n  1    2\n  -    3\n");
    }
}
