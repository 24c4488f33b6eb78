//! Tables for people: aligned columns, no frame.

use comfy_table::{CellAlignment, Table};

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Renders rows under a header; two spaces part the columns, no line ends in blanks.
pub fn render(header: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|(name, _)| *name));
    table.add_rows(rows.iter().cloned());
    for (index, (_, align)) in header.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        column.set_padding((0, 2));
        if *align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Renders `name  value` lines.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["cpu".to_owned(), "12".to_owned()], vec!["ndarray".to_owned(), "7".to_owned()]];
        let text = render(&[("name", Align::Left), ("steps", Align::Right)], &rows);
        assert_eq!(text, "name     steps\ncpu         12\nndarray      7");
    }

    #[test]
    fn facts_share_one_column() {
        let text = facts(&[("family", "gpt2".to_owned()), ("layers", "6".to_owned())]);
        assert_eq!(text, "family  gpt2\nlayers  6");
    }
}
