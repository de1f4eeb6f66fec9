//! Text files that carry their checksum: a last line `# crc32c XXXXXXXX` (CRC-32C in hex) over everything before that line. A comment in
//! TOML, so that such a file stays TOML.

const LINE: &str = "# crc32c ";

/// What is wrong with a text and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// The bytes are no UTF-8.
    #[error("it is not text")]
    NotText,
    /// There is no such line at the end.
    #[error("its checksum is missing")]
    Missing,
    /// The line says another number.
    #[error("its checksum does not match")]
    Wrong,
}

/// Returns `text`, which ends with a newline or is empty, with the line that checks it.
pub fn with_checksum(text: &str) -> String {
    format!("{text}{LINE}{:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// Returns the text without the line that checks it.
pub fn checked_text(bytes: &[u8]) -> Result<&str, ChecksumError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ChecksumError::NotText)?;
    let (text, checksum) = text
        .trim_end_matches('\n')
        .rsplit_once(LINE)
        .ok_or(ChecksumError::Missing)?;
    if u32::from_str_radix(checksum, 16) != Ok(crc32c::crc32c(text.as_bytes())) {
        return Err(ChecksumError::Wrong);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_and_no_bit_of_it_may_change() {
        let text = "branch = \"main\"\nport = 55432\n";
        let file = with_checksum(text);
        assert!(file.ends_with("# crc32c ec1ac91e\n"), "{file}");
        assert_eq!(checked_text(file.as_bytes()), Ok(text));
        for at in 0..file.len() - 1 {
            let mut damaged = file.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(checked_text(&damaged).is_err(), "byte {at}");
        }
        for length in 0..file.len() - 1 {
            assert!(
                checked_text(&file.as_bytes()[..length]).is_err(),
                "{length} bytes"
            );
        }
        assert_eq!(checked_text(text.as_bytes()), Err(ChecksumError::Missing));
        assert_eq!(checked_text(b"\xff"), Err(ChecksumError::NotText));
        assert_eq!(checked_text(with_checksum("").as_bytes()), Ok(""));
    }
}
