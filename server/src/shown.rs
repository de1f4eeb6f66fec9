//! Words of others as a terminal may see them: branch names, messages, refusals and whatever a socket or another repository says hold no
//! control characters when they reach a caller, except ends of lines and tabs.

use neon_repo::api::{Progress, ProgressSink};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Returns what a caller sees of an answer.
pub(crate) fn shown<T: Serialize + DeserializeOwned>(answer: T) -> T {
    let Ok(text) = serde_json::to_string(&answer) else {
        return answer;
    };
    if !is_suspicious(&text) {
        return answer;
    }
    let cleaned = serde_json::from_str(&text).map(|mut value| {
        clean(&mut value);
        value
    });
    match cleaned.and_then(serde_json::from_value) {
        Ok(cleaned) => cleaned,
        Err(_) => answer,
    }
}

/// Shows progress in the same way.
pub(crate) struct Shown<'a>(pub &'a mut dyn ProgressSink);

impl ProgressSink for Shown<'_> {
    fn report(&mut self, progress: &Progress) {
        let label = line(&progress.label);
        if label == progress.label {
            return self.0.report(progress);
        }
        self.0.report(&Progress {
            label,
            ..progress.clone()
        });
    }

    fn note(&mut self, text: &str) {
        self.0.note(&line(text));
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// JSON writes the first 32 as `\u00XX`, and the others as they are.
fn is_suspicious(json: &str) -> bool {
    json.contains("\\u00")
        || json.contains("\\b")
        || json.contains("\\f")
        || json.contains("\\r")
        || json.chars().any(char::is_control)
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = line(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use neon_repo::api::{ApiError, Done};

    use super::*;

    #[test]
    fn no_word_moves_the_cursor() {
        let said = "a\u{1b}[2Jb\rc\u{9b}1md\u{7f}\u{8}";
        let error = shown(ApiError {
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
        assert!(
            all.iter().all(|text| !text.chars().any(char::is_control)),
            "{error:?}"
        );
        let done = Done {
            notes: vec!["two\n\tlines, with a \\backslash and \"quotes\"".into()],
        };
        assert_eq!(shown(done.clone()), done);
    }
}
