//! How errors look.

use std::io::{self, Write};

use neon_repo::api::ApiError;

use super::style;
use crate::failure::Failure;

/// Prints what went wrong on stderr.
pub fn print(failure: &Failure, json: bool) {
    let (Failure::Api(error) | Failure::Usage(error)) = failure else {
        return;
    };
    let mut err = anstream::stderr().lock();
    // Nobody to tell when stderr is gone.
    let _ = if json {
        serde_json::to_writer(&mut err, &serde_json::json!({ "error": error }))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(err))
    } else {
        human(error, &mut err)
    };
}

fn human(error: &ApiError, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "{}error:{:#} {}", style::ERROR, style::ERROR, error.message)?;
    for cause in &error.caused_by {
        writeln!(to, "caused by: {}", cause.trim_end())?;
    }
    if let Some(hint) = &error.hint {
        writeln!(to, "{}hint:{:#} {hint}", style::HINT, style::HINT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let error = ApiError {
            code: "branch_exists".to_owned(),
            message: "branch 'x' exists already".to_owned(),
            caused_by: vec!["first".to_owned(), "second\n".to_owned()],
            hint: Some("choose another name".to_owned()),
        };
        let mut text = anstream::StripStream::new(Vec::new());
        human(&error, &mut text).expect("written to memory");
        assert_eq!(
            String::from_utf8(text.into_inner()).expect("text"),
            "error: branch 'x' exists already\ncaused by: first\ncaused by: second\nhint: choose another name\n"
        );
    }
}
