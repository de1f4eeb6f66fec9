//! Errors with their causes.

use std::error::Error;

/// Returns an error and its causes on one line, outermost first: `a: b: c`.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outside")]
    struct Outside(#[source] io::Error);

    #[test]
    fn causes_follow_what_they_caused() {
        assert_eq!(
            with_causes(&Outside(io::Error::other("inside"))),
            "outside: inside"
        );
        assert_eq!(with_causes(&io::Error::other("alone")), "alone");
    }
}
