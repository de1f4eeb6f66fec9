//! Words of others as a terminal may see them: branch names, messages, refusals and whatever a socket or another repository says are printable
//! when they reach a caller, but for ends of lines and tabs.

use neon_repo::api::{ApiError, Progress, ProgressSink};
use neon_types::{is_printable, on_lines};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::local;

/// Returns what a caller sees of an answer.
pub(crate) fn shown<T: Serialize + DeserializeOwned>(answer: T) -> Result<T, ApiError> {
    let failed = |error| local("internal", "the answer cannot be shown", error);
    let text = serde_json::to_string(&answer).map_err(failed)?;
    if !is_suspicious(&text) {
        return Ok(answer);
    }
    let mut value = serde_json::from_str(&text).map_err(failed)?;
    clean(&mut value);
    serde_json::from_value(value).map_err(failed)
}

/// Returns what a caller sees of an error.
pub(crate) fn shown_error(error: ApiError) -> ApiError {
    ApiError {
        code: on_lines(&error.code),
        message: on_lines(&error.message),
        caused_by: error.caused_by.iter().map(|cause| on_lines(cause)).collect(),
        hint: error.hint.as_deref().map(on_lines),
    }
}

/// Shows progress in the same way.
pub(crate) struct Shown<'a>(pub &'a mut dyn ProgressSink);

impl ProgressSink for Shown<'_> {
    fn report(&mut self, progress: &Progress) {
        let label = on_lines(&progress.label);
        if label == progress.label {
            return self.0.report(progress);
        }
        self.0.report(&Progress {
            label,
            ..progress.clone()
        });
    }

    fn note(&mut self, text: &str) {
        self.0.note(&on_lines(text));
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// JSON writes the first 32 characters as `\u00XX`, and the others as they are.
fn is_suspicious(json: &str) -> bool {
    json.contains("\\u00")
        || json.contains("\\b")
        || json.contains("\\f")
        || json.contains("\\r")
        || !json.chars().all(is_printable)
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = on_lines(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use neon_repo::api::Done;

    use super::*;

    #[test]
    fn no_word_moves_the_cursor() {
        let said = "a\u{1b}[2Jb\rc\u{9b}1md\u{7f}\u{8}\u{202e}e";
        let error = shown_error(ApiError {
            code: "x".into(),
            message: said.into(),
            caused_by: vec![said.into()],
            hint: Some(said.into()),
        });
        let all = [
            &error.message,
            &error.caused_by[0],
            error.hint.as_ref().expect("a hint"),
        ];
        assert!(all.iter().all(|text| text.chars().all(is_printable)), "{error:?}");
        let done = Done {
            notes: vec!["two\n\tlines, with a \\backslash and \"quotes\"".into()],
        };
        assert_eq!(shown(done.clone()).expect("it can be shown"), done);
        let turned = Done {
            notes: vec!["branch \u{202e}niam".into()],
        };
        let shown = shown(turned).expect("it can be shown");
        assert!(shown.notes[0].chars().all(is_printable), "{shown:?}");
    }
}
