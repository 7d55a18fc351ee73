//! What kinds of token there are, in the words that rules, records and commands share.

use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it, in files, records and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The one of this word.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }

            /// Its bit in a set of them.
            pub const fn bit(self) -> u8 {
                1 << self as u8
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Whether an app calls by itself or for a user.
    TokenKind {
        /// No user stands behind the call.
        AppOnly "appOnly",
        /// The app acts for a user.
        Delegated "delegated",
        /// The token proves neither. No allow rule that asks for a kind holds for it, and every deny rule
        /// that does.
        Unknown "unknown",
    }
}

words! {
    /// How the app proved itself to Entra (`appidacr` in v1 tokens, `azpacr` in v2 tokens).
    /// <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>
    AuthStrength {
        /// Not at all: a public client.
        Public "public",
        /// By a client secret.
        Secret "secret",
        /// By a client certificate, or a credential as strong.
        Certificate "certificate",
        /// The token does not say. No allow rule that asks for a strength holds for it, and every deny
        /// rule that does.
        Unknown "unknown",
    }
}
