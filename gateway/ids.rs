//! Identifiers, each a type of its own, and the room of randomness.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use uuid::Uuid;

macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a GUID.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The GUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAGuid;

            /// Reads the hyphenated form alone, whatever its case: Entra writes no other, and a
            /// second spelling would be a second name for one thing.
            fn from_str(text: &str) -> Result<Self, NotAGuid> {
                hyphenated(text).map(Self)
            }
        }
    };
}

guid!(
    /// An Entra tenant (`tid`).
    TenantId
);
guid!(
    /// A client application (`appid` in v1 tokens, `azp` in v2 tokens).
    AppId
);
guid!(
    /// A user or service principal within a tenant (`oid`).
    ObjectId
);

/// The text is not a GUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAGuid;

fn hyphenated(text: &str) -> Result<Uuid, NotAGuid> {
    match text.len() {
        36 => Uuid::try_parse(text).map_err(|_| NotAGuid),
        _ => Err(NotAGuid),
    }
}

/// The tenant of personal Microsoft accounts (alias `consumers`).
pub const PERSONAL_ACCOUNTS: TenantId =
    TenantId(Uuid::from_u128(0x9188_040d_6c67_4c5b_b112_36a3_04b6_6dad));

/// Names one request in the answer, the record and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A fresh one. It names, it does not protect: the generator is fast, not secret.
    pub fn fresh() -> Self {
        Self(uuid::Builder::from_random_bytes(random_u128().to_be_bytes()).into_uuid())
    }

    /// The UUID inside.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// As the value of a header field.
    pub fn header(self) -> HeaderValue {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = self.0.as_hyphenated().encode_lower(&mut text);
        // INVARIANT: hexadecimal digits and hyphens are valid in a header field.
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

impl FromStr for RequestId {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        hyphenated(text).map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// 64 random bits that protect nothing: span IDs.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub fn random_u64() -> u64 {
    fastrand::u64(..)
}

/// 128 random bits that protect nothing: trace IDs.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub fn random_u128() -> u128 {
    fastrand::u128(..)
}

/// A random number below `count`; 0 where there is none.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub fn random_below(count: usize) -> usize {
    fastrand::usize(..count.max(1))
}

/// A random fraction in `0.0..1.0`, for jitter.
#[expect(clippy::disallowed_methods, reason = "this is the room of randomness")]
pub fn jitter() -> f64 {
    fastrand::f64()
}
