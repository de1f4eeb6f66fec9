//! How a command ends when it does not end well.

use std::io;

use neon_repo::api::{ApiError, Response};

/// Exit status: refused or failed.
pub const REFUSED: u8 = 1;
/// Exit status: the command line makes no sense.
pub const USAGE: u8 = 2;
/// Exit status: a defect of this program.
pub const INTERNAL: u8 = 255;

/// Why a command ends without success.
#[derive(Debug)]
pub enum Failure {
    /// It was refused, or failed, and this says so.
    Api(ApiError),
    /// The command line makes no sense in a way that clap does not see.
    Usage(ApiError),
    /// What was asked has been printed, and it is bad news: exit 1 without another word.
    Reported,
    /// Nobody reads our output any more.
    ReaderGone,
}

impl Failure {
    /// Returns the exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::ReaderGone => 0,
            Failure::Usage(_) => USAGE,
            Failure::Api(error) if error.code == "internal" => INTERNAL,
            Failure::Api(_) | Failure::Reported => REFUSED,
        }
    }

    /// Makes a refusal with a message and what to do next.
    pub fn refused(code: &str, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Api(error(code, message.into(), Some(hint.into())))
    }

    /// Makes a usage error.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage(error("usage", message.into(), Some(hint.into())))
    }

    /// Makes a failure of this machine.
    pub fn local(code: &str, message: impl Into<String>, cause: impl std::fmt::Display) -> Failure {
        let mut error = error(code, message.into(), None);
        error.caused_by.push(cause.to_string());
        Failure::Api(error)
    }

    /// Makes the failure of an answer that does not belong to the request.
    pub fn unexpected(response: &Response) -> Failure {
        let kind = serde_json::to_value(response).ok();
        let kind = kind
            .as_ref()
            .and_then(|value| value.get("kind")?.as_str())
            .unwrap_or("?");
        Failure::Api(error(
            "internal",
            format!("the answer '{kind}' does not belong to this command"),
            Some("a daemon of another build may be running: 'neon daemon stop' ends it".to_owned()),
        ))
    }
}

fn error(code: &str, message: String, hint: Option<String>) -> ApiError {
    ApiError {
        code: code.to_owned(),
        message,
        caused_by: Vec::new(),
        hint,
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

/// For errors of writing results: everything else is wrapped where it happens.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::ReaderGone
        } else {
            Failure::local("output", "cannot write the result", error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_tells_who_is_to_blame() {
        let broken_pipe = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        let defect = Failure::unexpected(&Response::Tags(Vec::new()));
        assert_eq!(broken_pipe.exit_code(), 0);
        assert_eq!(full.exit_code(), 1);
        assert_eq!(Failure::Reported.exit_code(), 1);
        assert_eq!(
            Failure::refused("no_branch", "there is none", "make one").exit_code(),
            1
        );
        assert_eq!(Failure::usage("no", "try").exit_code(), 2);
        assert_eq!(defect.exit_code(), 255);
        let Failure::Api(error) = defect else {
            panic!("another kind");
        };
        assert_eq!(error.message, "the answer 'tags' does not belong to this command");
    }
}
