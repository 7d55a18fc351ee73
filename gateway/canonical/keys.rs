//! The names under which keys travel: SAS signatures and function keys in the query, keys and
//! asserted identities in the header fields. Sets of them say what a caller sent, by name alone.

use super::names::folds_to;

macro_rules! name_set {
    ($(#[$doc:meta])* $set:ident: $bits:ty { $($(#[$name_doc:meta])* $name:ident $text:literal $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $set($bits);

        impl $set {
            /// No name at all.
            pub const NONE: Self = Self(0);
            $($(#[$name_doc])* pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &'static [(&'static str, Self)] = &[$(($text, Self::$name),)*];

            /// Whether the set holds no name.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The names of both sets.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The names that `other` does not hold.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether every name of `other` is in this set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The names, for the record.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                let names = Self::NAMES.iter().filter(move |(_, name)| self.contains(*name));
                names.map(|(text, _)| *text)
            }
        }
    };
}

name_set! {
    /// Query parameters that carry a key, or are part of a SAS URL.
    KeyParameters: u8 {
        /// The signature of a SAS URL.
        SIG "sig" 0,
        /// The permissions of a SAS URL.
        SP "sp" 1,
        /// The version of a SAS URL.
        SV "sv" 2,
        /// The end of a SAS URL's validity.
        SE "se" 3,
        /// A function key, a system key of Durable Functions, or an OAuth code.
        CODE "code" 4,
        /// The header's name, where someone put it into the query.
        X_FUNCTIONS_KEY "x-functions-key" 5,
        /// A bearer token in the query (RFC 6750 section 2.3).
        ACCESS_TOKEN "access_token" 6,
        /// No key, but the gateway's to say where it calls a Logic App; kept everywhere else.
        API_VERSION "api-version" 7,
    }
}

/// The key parameters that a route lets through, because they mean something else there.
pub type KeptParameters = KeyParameters;

impl KeyParameters {
    /// Those that let whoever has them in: signatures and function keys.
    pub const fn keys(self) -> Self {
        let all = Self::SIG.with(Self::CODE).with(Self::X_FUNCTIONS_KEY);
        Self(self.0 & all.0)
    }

    /// The parameter of this name, whatever its letter case and separators (`X_Functions_Key`).
    pub fn named(name: &str) -> Option<Self> {
        Self::recognise(name.as_bytes())
    }

    /// The same for a name as bytes. Length and first letter decide before anything is compared.
    pub(super) fn recognise(name: &[u8]) -> Option<Self> {
        let is = |text: &str| folds_to(name, text);
        let first = name.first()?.to_ascii_lowercase();
        match (name.len(), first) {
            (2, b's') if is("sp") => Some(Self::SP),
            (2, b's') if is("sv") => Some(Self::SV),
            (2, b's') if is("se") => Some(Self::SE),
            (3, b's') if is("sig") => Some(Self::SIG),
            (4, b'c') if is("code") => Some(Self::CODE),
            (11, b'a') if is("api-version") => Some(Self::API_VERSION),
            (12, b'a') if is("access-token") => Some(Self::ACCESS_TOKEN),
            (15, b'x') if is("x-functions-key") => Some(Self::X_FUNCTIONS_KEY),
            _ => None,
        }
    }
}

name_set! {
    /// Header fields that carry a key or assert an identity, which a caller has no business to send.
    KeyHeaders: u8 {
        /// A function key.
        X_FUNCTIONS_KEY "x-functions-key" 0,
        /// Which key to check a webhook against.
        X_FUNCTIONS_CLIENTID "x-functions-clientid" 1,
        /// `x-ms-client-principal` and its kin: the identity that Easy Auth asserts.
        X_MS_CLIENT_PRINCIPAL "x-ms-client-principal" 2,
        /// `x-ms-token-*`: the token store of Easy Auth.
        X_MS_TOKEN "x-ms-token" 3,
        /// A session token of Easy Auth.
        X_ZUMO_AUTH "x-zumo-auth" 4,
        /// A token that overrides `Authorization` on the Functions host's admin endpoints.
        X_MS_SITE_TOKEN "x-ms-site-token" 5,
        /// The restricted token of the same host.
        X_MS_SITE_RESTRICTED_TOKEN "x-ms-site-restricted-token" 6,
        /// The mark of the platform's own calls.
        X_MS_PLATFORM_INTERNAL "x-ms-platform-internal" 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_parameter_is_recognised_by_its_name() {
        for (text, name) in KeyParameters::NAMES {
            assert_eq!(KeyParameters::named(text), Some(*name), "{text}");
            let upper = text.to_ascii_uppercase();
            assert_eq!(KeyParameters::named(&upper), Some(*name), "{upper}");
        }
        for other in ["", "s", "sign", "si", "codes", "x-functions-keys", "state"] {
            assert_eq!(KeyParameters::named(other), None, "{other}");
        }
    }

    #[test]
    fn a_set_names_what_it_holds() {
        let set = KeyParameters::SIG.with(KeyParameters::CODE);
        assert_eq!(set.names().collect::<Vec<_>>(), ["sig", "code"]);
        assert_eq!(set.without(KeyParameters::CODE), KeyParameters::SIG);
        assert!(set.contains(KeyParameters::SIG) && !set.contains(KeyParameters::SP));
        assert!(KeyParameters::NONE.is_empty() && !set.is_empty());
    }
}
