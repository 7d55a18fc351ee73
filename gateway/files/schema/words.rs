//! Single values: texts with a pattern, and closed sets of words.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! texts {
    ($($name:ident $pattern:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )*};
}

texts! {
    Duration r"^[0-9]+\s*(ms|s|m|h|d)$" "A duration with its unit.";
    Size r"^[0-9]+\s*(KiB|MiB|GiB|TiB)?$" "A size in bytes.";
    Guid r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$" "A GUID.";
    Instant r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$" "A point in time (RFC 3339).";
    DayOrInstant r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$" "A day, or a point in time (RFC 3339).";
    Percent r"^(100|[1-9][0-9]?)\s*%$" "A part of a hundred.";
    Word r"^\S+$" "One word.";
    Text r"\S" "Any text.";
    Path r"^/[^?#\s]*$" "A path pattern.";
    Host r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$" "A host, or `*.` and a suffix.";
    Url r"^https?://" "A URL.";
    Mailbox r"^mailto:[^\s@,?]+@[^\s,?]+$" "An address of a mailbox, as a URL.";
    RedisUrl r"^rediss?://[^@/?#]+/?$" "The URL of a Redis.";
    RedisPrefix r"^[^\s{}]+$" "One word without braces.";
    Network r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$" "A network in CIDR notation.";
    Upgrade r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+(/[A-Za-z0-9!#$%&'*+.^_`|~-]+)?$" "The name of a protocol.";
    LimitName r"^[A-Za-z0-9._-]{1,64}$" "The name of a limit.";
    Address r":[0-9]+$" "An IP address and port.";
}

/// `true`, and nothing else.
pub(super) struct Agreed;

impl JsonSchema for Agreed {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Agreed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean", "const": true })
    }
}

macro_rules! closed {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $variant_doc:literal])* $variant:ident $word:literal,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "only its schema is asked for")]
        pub(super) enum $name {
            $($(#[doc = $variant_doc])* #[schemars(rename = $word)] $variant,)*
        }
    )*};
}

closed! {
    /// A method, in upper case.
    Method {
        /// Reads. Does not imply `HEAD`.
        Get "GET",
        /// Reads the head of the answer alone. `GET` does not imply it.
        Head "HEAD",
        /// Creates something, or runs it.
        Post "POST",
        /// Replaces what is there.
        Put "PUT",
        /// Changes a part of what is there.
        Patch "PATCH",
        /// Removes what is there.
        Delete "DELETE",
        /// Asks what is possible. Browsers send CORS preflights with it, without a token: such a route is `public`.
        Options "OPTIONS",
    }
    /// Whether a route or rule is in force.
    Mode {
        /// In force: what it decides is done.
        Enforce "enforce",
        /// On trial: what it would do is recorded and counted, and not done.
        ReportOnly "reportOnly",
    }
    /// Whether an app calls by itself or for a user.
    TokenKind {
        /// The app calls by itself; no user has a part in it.
        AppOnly "appOnly",
        /// The app calls for a user, who has signed in.
        Delegated "delegated",
    }
    /// How the app proved itself to Entra when it got the token (`appidacr`, `azpacr`).
    AuthStrength {
        /// Not at all: a public client, such as an app on a phone.
        Public "public",
        /// By a client secret.
        Secret "secret",
        /// By a client certificate.
        Certificate "certificate",
    }
    /// What becomes of a request with a signature or key in its URL.
    Sas {
        /// It is removed, and the request goes on.
        Strip "strip",
        /// The request is refused.
        Reject "reject",
    }
    /// What has a count of its own in a limit.
    LimitWord {
        /// Each tenant has a count of its own.
        Tenant "tenant",
        /// Each app has a count of its own.
        App "app",
        /// Each user or service principal (`oid`) has a count of its own.
        Principal "principal",
        /// Each address that callers connect from has a count of its own; an IPv6 /64 is one address.
        ClientAddress "clientAddress",
        /// All callers of the route share one count.
        Route "route",
    }
    /// A window of the calendar, in UTC.
    Window {
        /// From midnight to midnight.
        Day "day",
        /// From the first of a month to the first of the next.
        Month "month",
    }
    /// After what a request is sent again.
    RetryOn {
        /// No connection came about: refused, too late, or a name that does not resolve.
        Connect "connect",
        /// The connection ended before an answer.
        Reset "reset",
        /// 429 Too Many Requests.
        Status429 "status429",
        /// 502 Bad Gateway.
        Status502 "status502",
        /// 503 Service Unavailable.
        Status503 "status503",
        /// 504 Gateway Timeout.
        Status504 "status504",
    }
    /// A parameter of the query that is forwarded although it looks like a key.
    KeptParameter {
        /// Forwards `code`: an authorization code of OAuth, say. It is removed otherwise, since Functions take a function key by that name.
        Code "code",
        /// Forwards `sp`. It is removed otherwise, since SAS links carry their permissions in it.
        Sp "sp",
        /// Forwards `sv`. It is removed otherwise, since SAS links carry their version in it.
        Sv "sv",
        /// Forwards `se`. It is removed otherwise, since SAS links carry their expiry in it.
        Se "se",
    }
}

/// A size: a number of bytes, or one with its unit, `KiB` or `MiB`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is asked for")]
pub(super) enum Bytes {
    /// A number of bytes: `65536`.
    Number(u64),
    /// A number with its unit: `64KiB`, `1MiB`.
    Text(Size),
}
