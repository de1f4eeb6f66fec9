//! The answer to a question in plain text.

/// Rows of text, as a simple query returns them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One entry for each column; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Returns rows of one column, one for each line.
    pub fn lines<'a>(column: &str, lines: impl IntoIterator<Item = &'a str>) -> Rows {
        Rows {
            columns: vec![column.to_owned()],
            rows: lines
                .into_iter()
                .map(|line| vec![Some(line.to_owned())])
                .collect(),
        }
    }

    /// Returns the value in `row` (from 0) of the column with this name, `None` if there is none or it is NULL.
    pub fn get(&self, row: usize, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        self.rows.get(row)?.get(index)?.as_deref()
    }
}
