//! Secrets that somebody put into an environment variable or a file, and the header fields that may
//! carry them.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;

use crate::files;
use crate::secret::Secret;

/// Longer secrets are refused: a header of this size does not arrive everywhere, and a key of this
/// size is the wrong file.
const LONGEST: usize = 8 * 1024;

/// The longest text: certificates with their chain and key.
const LONGEST_TEXT: usize = 64 * 1024;

/// Where a secret stands. The place is not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretFrom {
    /// In this environment variable.
    Env(String),
    /// In this file, whole, save for one newline at the end.
    File(PathBuf),
}

impl SecretFrom {
    /// Reads a secret of any form and of several lines: a certificate, keys. What is no text is answered
    /// in base64, as key vaults hold it.
    ///
    /// # Errors
    /// When there is none, or it is longer than 64 KiB.
    pub fn text(&self) -> Result<Secret<String>, SecretError> {
        let bytes = match self {
            Self::Env(name) => std::env::var_os(name)
                .map(OsString::into_encoded_bytes)
                .ok_or(SecretFault::NotSet),
            Self::File(path) => {
                whole(path, LONGEST_TEXT).map_err(|cause| SecretFault::Unreadable(cause.kind()))
            }
        };
        let text = bytes.and_then(|bytes| match bytes.len() {
            0 => Err(SecretFault::Empty),
            length if length > LONGEST_TEXT => Err(SecretFault::TooLong),
            _ => Ok(String::from_utf8(bytes)
                .unwrap_or_else(|binary| STANDARD.encode(binary.as_bytes()))),
        });
        text.map(Secret::new).map_err(|fault| SecretError {
            place: self.clone(),
            fault,
        })
    }

    /// Reads the secret, at start and at each reload.
    ///
    /// # Errors
    /// When there is none, or it cannot be the value of a header field.
    pub fn read(&self) -> Result<Secret<HeaderValue>, SecretError> {
        self.read_with(|name| std::env::var_os(name))
    }

    fn read_with(
        &self,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Secret<HeaderValue>, SecretError> {
        let bytes = match self {
            Self::Env(name) => env(name)
                .map(OsString::into_encoded_bytes)
                .ok_or(SecretFault::NotSet),
            Self::File(path) => {
                whole(path, LONGEST).map_err(|cause| SecretFault::Unreadable(cause.kind()))
            }
        };
        bytes
            .and_then(|bytes| header_value(&bytes))
            .map_err(|fault| SecretError {
                place: self.clone(),
                fault,
            })
    }
}

impl fmt::Display for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// A secret that cannot be used. Says where it stands and what is wrong, never what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    /// Where it stands.
    pub place: SecretFrom,
    /// What is wrong.
    pub fault: SecretFault,
}

/// What is wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFault {
    /// There is no such environment variable.
    NotSet,
    /// The file cannot be read.
    Unreadable(io::ErrorKind),
    /// There is nothing in it.
    Empty,
    /// It is longer than 8 KiB, or than 64 KiB where it may have several lines.
    TooLong,
    /// It begins or ends with a space, which the receiver would not see (RFC 9110 section 5.5).
    OuterSpace,
    /// It holds a control character, a line break or something that is not ASCII.
    NotPrintable,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match self.fault {
            SecretFault::NotSet => write!(f, "{place} is not set"),
            SecretFault::Unreadable(kind) => write!(f, "{place} cannot be read: {kind}"),
            SecretFault::Empty => write!(f, "{place} is empty"),
            SecretFault::TooLong => write!(f, "{place} holds more than may be there"),
            SecretFault::OuterSpace => write!(f, "{place} begins or ends with a space"),
            SecretFault::NotPrintable => write!(
                f,
                "{place} holds a control character, a line break or something that is not ASCII"
            ),
        }
    }
}

impl std::error::Error for SecretError {}

fn whole(path: &Path, longest: usize) -> io::Result<Vec<u8>> {
    // Two more for the newline, one more to see that it is too long.
    files::read_at_most(path, longest + 3)
}

/// A secret as the value of a header field.
pub(super) fn header_value(bytes: &[u8]) -> Result<Secret<HeaderValue>, SecretFault> {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.is_empty() {
        return Err(SecretFault::Empty);
    }
    if text.len() > LONGEST {
        return Err(SecretFault::TooLong);
    }
    if !text.iter().all(|b| matches!(b, b' '..=b'~')) {
        return Err(SecretFault::NotPrintable);
    }
    if text.starts_with(b" ") || text.ends_with(b" ") {
        return Err(SecretFault::OuterSpace);
    }
    let mut value = HeaderValue::from_bytes(text).map_err(|_| SecretFault::NotPrintable)?;
    value.set_sensitive(true);
    Ok(Secret::new(value))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn from_env(value: Option<&str>) -> Result<Secret<HeaderValue>, SecretError> {
        SecretFrom::Env("LEGACY_KEY".to_owned()).read_with(|name| {
            assert_eq!(name, "LEGACY_KEY");
            value.map(OsString::from)
        })
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_secret() {
        for text in ["planted key", "planted key\n", "planted key\r\n"] {
            let secret = from_env(Some(text)).expect("a secret");
            assert_eq!(secret.expose(), "planted key", "{text:?}");
            assert!(secret.expose().is_sensitive());
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_without_being_shown() {
        let long = "planted".repeat(2000);
        for (value, fault) in [
            (None, SecretFault::NotSet),
            (Some(""), SecretFault::Empty),
            (Some("\n"), SecretFault::Empty),
            (Some("planted\n\n"), SecretFault::NotPrintable),
            (Some("planted\r\nx: y"), SecretFault::NotPrintable),
            (Some("plan\tted"), SecretFault::NotPrintable),
            (Some("plantéd"), SecretFault::NotPrintable),
            (Some(" planted"), SecretFault::OuterSpace),
            (Some("planted \n"), SecretFault::OuterSpace),
            (Some(long.as_str()), SecretFault::TooLong),
        ] {
            let error = from_env(value).expect_err("refused");
            assert_eq!(error.fault, fault, "{fault:?}");
            let text = format!("{error} {error:?}");
            assert!(
                text.contains("LEGACY_KEY") && !text.contains("plant"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_is_read_whole_and_a_missing_one_is_named() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"planted\n").expect("written");
        let secret = SecretFrom::File(file.path().to_owned()).read();
        assert_eq!(secret.expect("a secret").expose(), "planted");

        let missing = SecretFrom::File(PathBuf::from("/nowhere/key"));
        let error = missing.read().expect_err("missing");
        assert_eq!(
            error.fault,
            SecretFault::Unreadable(io::ErrorKind::NotFound)
        );
        assert!(error.to_string().contains("/nowhere/key"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&[b'k'; LONGEST + 1]).expect("written");
        let error = SecretFrom::File(file.path().to_owned()).read();
        assert_eq!(error.expect_err("too long").fault, SecretFault::TooLong);
    }
}
