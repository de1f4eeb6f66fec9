//! Data of records of resource manager `Generic`, the same in 14 to 18: for each block a list of byte ranges with their new
//! content (`u16 offset | u16 length | bytes`). There is no main data.

use crate::Cursor;
use crate::wal::DecodeError;

/// New content of a range of a page's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// First byte in the page.
    pub offset: u16,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Returns the fragments of a block's data, in order; the last is an error if the data ends inside of it.
pub fn fragments(data: &[u8]) -> impl Iterator<Item = Result<Fragment<'_>, DecodeError>> {
    let mut cursor = Cursor::new(data);
    std::iter::from_fn(move || {
        if cursor.remaining() == 0 {
            return None;
        }
        let fragment = next(&mut cursor);
        if fragment.is_err() {
            cursor = Cursor::new(&[]);
        }
        Some(fragment)
    })
}

fn next<'a>(cursor: &mut Cursor<'a>) -> Result<Fragment<'a>, DecodeError> {
    let offset = cursor.u16()?;
    let length = cursor.u16()?;
    Ok(Fragment {
        offset,
        bytes: cursor.take(length.into())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_follow_each_other_and_end_with_an_error_if_cut() {
        let data = [8, 0, 2, 0, 7, 7, 9, 0, 3, 0, 1];
        let found: Vec<_> = fragments(&data).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Ok(Fragment {
                offset: 8,
                bytes: &[7, 7]
            })
        );
        assert!(found[1].is_err());
    }
}
