//! Columns.

use std::io::{self, Write};

use anstyle::Style;

use super::style::DIM;

/// One cell: a text and how it looks.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell {
            text,
            style: Style::new(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::from(text.to_owned())
    }
}

impl Cell {
    /// Returns a cell in that style.
    pub fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell {
            text: text.into(),
            style,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Writes rows under heads, columns as wide as their widest cell; columns that are empty throughout are left out.
pub fn write(to: &mut dyn Write, heads: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let widest = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(Cell::width)
                .max();
            match widest {
                None | Some(0) => 0,
                Some(widest) => widest.max(head.chars().count()),
            }
        })
        .collect();
    let heads: Vec<Cell> = heads.iter().map(|head| Cell::styled(*head, DIM)).collect();
    line(to, &widths, &heads)?;
    rows.iter().try_for_each(|row| line(to, &widths, row))
}

fn line(to: &mut dyn Write, widths: &[usize], cells: &[Cell]) -> io::Result<()> {
    let shown: Vec<(usize, &Cell)> = widths
        .iter()
        .copied()
        .zip(cells)
        .filter(|(width, _)| *width > 0)
        .collect();
    let last = shown.iter().rposition(|(_, cell)| cell.width() > 0);
    for (index, (width, cell)) in shown.iter().enumerate() {
        if last.is_none_or(|last| index > last) {
            break;
        }
        write!(to, "{}{}{:#}", cell.style, cell.text, cell.style)?;
        if Some(index) != last {
            write!(to, "{}", " ".repeat(width.saturating_sub(cell.width()) + 2))?;
        }
    }
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_go() {
        let rows = vec![
            vec!["a".into(), "".into(), "0/1".into(), "".into()],
            vec![
                "├─ längeres".into(),
                "".into(),
                Cell::styled("0/16B3748", DIM),
                "x".into(),
            ],
        ];
        let mut text = anstream::StripStream::new(Vec::new());
        write(&mut text, &["NAME", "EMPTY", "LSN", "X"], &rows).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "NAME         LSN        X\n\
             a            0/1\n\
             ├─ längeres  0/16B3748  x\n"
        );
    }
}
