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
    Size r"^[0-9]+\s*(KiB|MiB)?$" "A size in bytes.";
    Guid r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$" "A GUID.";
    Instant r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$" "A point in time (RFC 3339).";
    Word r"^\S+$" "One word.";
    Text r"\S" "Any text.";
    Path r"^/[^?#\s]*$" "A path pattern.";
    Host r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$" "A host, or `*.` and a suffix.";
    Url r"^https?://" "A URL.";
    Network r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$" "A network in CIDR notation.";
    Address r":[0-9]+$" "An IP address and port.";
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
    /// A method.
    Method {
        /// Reads.
        Get "GET",
        /// Reads the head alone. `GET` does not imply it.
        Head "HEAD",
        /// Creates or runs.
        Post "POST",
        /// Replaces.
        Put "PUT",
        /// Changes.
        Patch "PATCH",
        /// Removes.
        Delete "DELETE",
        /// Asks what is possible; browsers' CORS preflights.
        Options "OPTIONS",
    }
    /// Whether something acts.
    Mode {
        /// It acts.
        Enforce "enforce",
        /// What it would do is recorded and counted, and not done.
        ReportOnly "reportOnly",
    }
    /// Whether an app calls by itself or for a user.
    TokenKind {
        /// The app calls by itself.
        AppOnly "appOnly",
        /// The app acts for a user.
        Delegated "delegated",
    }
    /// How the app proved itself to Entra.
    AuthStrength {
        /// Not at all: a public client.
        Public "public",
        /// By a client secret.
        Secret "secret",
        /// By a client certificate.
        Certificate "certificate",
    }
    /// What has a count of its own.
    LimitKey {
        /// The tenant.
        Tenant "tenant",
        /// The app.
        App "app",
        /// The user or service principal.
        Principal "principal",
        /// The address of the caller; an IPv6 /64 is one.
        ClientAddress "clientAddress",
        /// The route: one count for all callers.
        Route "route",
    }
    /// A parameter that looks like a key.
    KeptParameter {
        /// OAuth's, say, and not a function key.
        Code "code",
        /// Not the permissions of a SAS link.
        Sp "sp",
        /// Not the version of a SAS link.
        Sv "sv",
        /// Not the expiry of a SAS link.
        Se "se",
    }
}
