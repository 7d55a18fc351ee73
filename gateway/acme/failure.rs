//! Why there is no certificate, as a sentence for operators. What a CA says is repeated, for it names the name that it
//! could not reach; keys and signatures are in none of it.

use std::io;
use std::time::Duration;

use instant_acme::{Error, Problem};

/// What stands before the name of an ACME error (RFC 8555 section 6.7).
const ERRORS: &str = "urn:ietf:params:acme:error:";
/// More letters of what somebody else says are not repeated.
const LONGEST: usize = 600;

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What went wrong.
    pub(super) sentence: String,
    /// When the CA wants to be asked again, since the Unix epoch.
    pub(super) asked: Option<Duration>,
}

impl Failure {
    /// One that nobody but ourselves says something of.
    pub(super) fn told(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            asked: None,
        }
    }
}

/// What goes wrong on the way to a certificate.
#[derive(Debug)]
pub(super) enum Fault {
    /// The CA said so, or could not be asked.
    Acme(Error),
    /// The folder.
    Folder(io::Error),
    /// Anything else.
    Told(String),
}

impl From<Error> for Fault {
    fn from(cause: Error) -> Self {
        Self::Acme(cause)
    }
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self::Folder(cause)
    }
}

impl Fault {
    /// One that concerns this name.
    pub(super) fn of_name(name: &str, cause: Error) -> Self {
        match cause {
            Error::Api(problem) => {
                Self::Told(format!("the CA refuses: {name}: {}", said(&problem)))
            }
            other => Self::Acme(other),
        }
    }

    /// Whether the CA does not know the account any more.
    pub(super) fn is_of_the_account(&self) -> bool {
        matches!(self, Self::Acme(Error::Api(problem)) if kind(problem) == Some("accountDoesNotExist"))
    }

    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Acme(Error::Api(problem)) => format!("the CA refuses: {}", said(problem)),
            Self::Acme(Error::Json(_)) => "the CA's answer is not what ACME says".to_owned(),
            Self::Acme(cause) => format!("the CA cannot be asked: {}", clean(&cause.to_string())),
            Self::Folder(cause) => format!("acme.folder: {cause}"),
            Self::Told(sentence) => sentence.clone(),
        }
    }
}

/// A problem in the CA's words.
pub(super) fn said(problem: &Problem) -> String {
    let mut parts = vec![one(problem.detail.as_deref(), kind(problem))];
    for sub in &problem.subproblems {
        let kind = sub
            .r#type
            .as_deref()
            .map(|kind| kind.trim_start_matches(ERRORS));
        let what = one(sub.detail.as_deref(), kind);
        parts.push(match &sub.identifier {
            Some(identifier) => format!("{}: {what}", identifier.authorized(false)),
            None => what,
        });
    }
    clean(&parts.join("; "))
}

fn one(detail: Option<&str>, kind: Option<&str>) -> String {
    match (detail, kind) {
        (Some(detail), Some(kind)) => format!("{detail} ({kind})"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "it does not say why".to_owned(),
    }
}

fn kind(problem: &Problem) -> Option<&str> {
    let kind = problem.r#type.as_deref();
    kind.map(|kind| kind.trim_start_matches(ERRORS))
}

/// What somebody else says, on one line and not too long.
fn clean(text: &str) -> String {
    let letters = text.chars().take(LONGEST);
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Fault {
        Fault::Acme(Error::Api(serde_json::from_str(json).expect("a problem")))
    }

    #[test]
    fn a_refusal_is_told_in_the_cas_words_on_one_line() {
        let limited = problem(
            r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\ncertificates"}"#,
        );
        assert_eq!(
            limited.sentence(),
            "the CA refuses: too many certificates (rateLimited)"
        );
        let of_two = problem(
            r#"{"detail":"two","subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no","identifier":{"type":"dns","value":"a.example"}}]}"#,
        );
        assert_eq!(
            of_two.sentence(),
            "the CA refuses: two; a.example: no (caa)"
        );
        assert_eq!(
            problem("{}").sentence(),
            "the CA refuses: it does not say why"
        );
        let long = problem(&format!(r#"{{"detail":"{}"}}"#, "x".repeat(10_000)));
        assert!(long.sentence().len() < 700);
    }

    #[test]
    fn an_account_that_is_gone_is_known() {
        let gone = problem(r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#);
        assert!(gone.is_of_the_account());
        assert!(!problem("{}").is_of_the_account());
    }
}
