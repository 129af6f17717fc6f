//! Columns that stand under each other.

/// Between two columns.
const GAP: usize = 2;

/// The first column to the left, numbers to the right.
pub fn numbers(indent: usize, rows: &[Vec<String>]) -> String {
    lay_out(indent, rows, |column| column > 0)
}

/// Nothing but numbers.
pub fn right(indent: usize, rows: &[Vec<String>]) -> String {
    lay_out(indent, rows, |_| true)
}

/// Every column to the left.
pub fn left(indent: usize, rows: &[Vec<String>]) -> String {
    lay_out(indent, rows, |_| false)
}

fn lay_out(indent: usize, rows: &[Vec<String>], is_right: impl Fn(usize) -> bool) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column).filter(|_| row.len() > 1));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = " ".repeat(indent);
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            let gap = if column == 0 { "" } else { &" ".repeat(GAP) };
            let (before, after) = if is_right(column) { (&*space, "") } else { ("", &*space) };
            line.extend([gap, before, cell, after]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What a terminal might obey is left out.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Vec<Vec<String>> {
        cells.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_stand_under_each_other() {
        let cells = rows(&[&["ms", "count", "p50"], &["select", "9", "0.412"], &["a note, which is long"]]);
        assert_eq!(
            numbers(2, &cells),
            "  ms      count    p50\n  select      9  0.412\n  a note, which is long\n"
        );
        assert_eq!(left(0, &cells), "ms      count  p50\nselect  9      0.412\na note, which is long\n");
        assert_eq!(numbers(2, &[]), "");
    }
}
