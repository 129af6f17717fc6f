//! Columns that stand in line.

use std::io::{self, Write};

/// How a column stands: words to the left, numbers to the right.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Word(&'static str),
    Number(&'static str),
}

/// Prints rows under their columns' names. Two spaces between, none at the end of a line.
///
/// # Errors
/// The output's.
pub(super) fn print<const N: usize>(
    out: &mut impl Write,
    columns: [Column; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let names = columns.map(|column| match column {
        Column::Word(name) | Column::Number(name) => name.to_owned(),
    });
    let lines = || std::iter::once(&names).chain(rows);
    for line in lines() {
        let mut text = String::new();
        for (at, column) in columns.iter().enumerate() {
            let width = lines().map(|line| line[at].chars().count()).max().unwrap_or(0);
            text.push_str(if at == 0 { "" } else { "  " });
            text.push_str(&match column {
                Column::Word(_) => format!("{:<width$}", line[at]),
                Column::Number(_) => format!("{:>width$}", line[at]),
            });
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line() {
        let rows = [["7", "a", "x"], ["12", "längste", ""]].map(|row| row.map(str::to_owned));
        let columns = [Column::Number("no"), Column::Word("name"), Column::Word("rest")];
        let mut out = Vec::new();
        print(&mut out, columns, &rows).unwrap();
        let expected = "\
no  name     rest
 7  a        x
12  längste
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
