//! Texts of others on a terminal and in a log.

/// Returns true for a character that changes nothing around it where it is printed: no control character, no line or paragraph separator, nothing
/// that turns the direction of writing or has no width.
///
/// Newline and tab are control characters too; who allows them says so.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns `text` on one line: what is not printable is written as Rust writes it in a literal (`\n`, `\u{202e}`). A backslash stays one, so the
/// result is for people and cannot be read back.
pub fn on_one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = (!is_printable(c)).then(|| c.escape_default());
            let plain = is_printable(c).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Returns `text` with its ends of lines and tabs; what else is not printable is replaced by `\u{fffd}`.
pub fn on_lines(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if is_printable(c) => c,
            _ => char::REPLACEMENT_CHARACTER,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_several_lines_keep_them() {
        let text = "one\n\ttwo \u{1f418}";
        assert_eq!(on_lines(text), text);
        assert_eq!(
            on_lines("a\r\u{1b}[2J\u{9b}\u{7f}\u{8}\u{202e}\u{2066}\u{200b}b"),
            "a\u{fffd}\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}b"
        );
    }

    #[test]
    fn what_could_forge_a_line_is_escaped_and_all_else_stays() {
        for plain in ["", "main", "Grüße, 世界", "e\u{301}", "a\\b 'c' \"d\"", "🐘"] {
            assert_eq!(on_one_line(plain), plain);
        }
        assert_eq!(
            on_one_line("a\nb\r\u{1b}[2K\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\0"),
            "a\\nb\\r\\u{1b}[2K\\u{9b}31m\\u{202e}\\u{2066}\\u{200b}\\u{feff}\\u{2028}\\u{0}"
        );
    }
}
