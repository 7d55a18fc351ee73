//! Keys in a text that may hold a URL. What cannot be read is no key here: a body is full of text that
//! was never meant as a URL.

use std::str;

use super::spelling::Spelt;
use crate::canonical::{self, KeptParameters, KeyParameters};

/// How many URLs a URL may be a parameter within, each encoding it once more.
const LEVELS: usize = 5;

/// The keys that the parameters in a text name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// Where what separates the first of them from the text before it stands.
    pub(super) first: usize,
    /// All of them.
    pub(super) named: KeyParameters,
}

/// The keys in a text, apart from those that are kept: what stands behind `?`, `&`, `;` or `#` and
/// before `=` and names one, in any spelling. `;` separates only in what looks like a URL: an error of
/// `status=failed;code=7` is none.
pub(super) fn find(text: &[u8], kept: KeptParameters) -> Option<Keys> {
    find_in(text, kept, false)
}

fn find_in(text: &[u8], kept: KeptParameters, mut like_url: bool) -> Option<Keys> {
    let mut keys: Option<Keys> = None;
    let mut separator = None;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'?' | b'&' | b'#' => {
                separator = Some(at);
                like_url = true;
            }
            b';' => separator = like_url.then_some(at),
            b'/' => like_url = true,
            b'=' => {
                let Some(first) = separator.take() else {
                    continue;
                };
                let named = named(text.get(first + 1..at), kept);
                if !named.is_empty() {
                    let keys = keys.get_or_insert(Keys { first, named });
                    keys.named = keys.named.with(named);
                }
            }
            _ => {}
        }
    }
    keys
}

/// Where the first key begins in the text that was sent, be it in a URL that is a parameter of
/// another one, with its percent codes.
pub(super) fn first(text: &Spelt, kept: KeptParameters) -> Option<usize> {
    first_in(text, kept, false)
}

/// The same in a piece of a text, which may be a piece of a URL.
pub(super) fn first_in(text: &Spelt, kept: KeptParameters, like_url: bool) -> Option<usize> {
    let found = |text: &Spelt| Some(text.sent_at(find_in(&text.text, kept, like_url)?.first));
    let mut decoded = None;
    for _ in 0..LEVELS {
        let text = decoded.as_ref().unwrap_or(text);
        if let Some(first) = found(text) {
            return Some(first);
        }
        decoded = Some(text.percent_decoded()?);
    }
    None
}

/// Whether there is a key in the text, or in a URL that is a parameter of another one.
pub(super) fn carries(text: &[u8], kept: KeptParameters) -> bool {
    memchr::memchr2(b'=', b'%', text).is_some() && first(&Spelt::raw(text), kept).is_some()
}

fn named(name: Option<&[u8]>, kept: KeptParameters) -> KeyParameters {
    let name = str::from_utf8(name.unwrap_or_default()).unwrap_or_default();
    let named = canonical::key_parameters(name).unwrap_or_default();
    named.without(kept.with(KeyParameters::API_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_seen_in_every_spelling() {
        for text in [
            "https://b/x?sig=s",
            "/x?a=1&sig=s",
            "/x;sig=s",
            "?a=b;sig=s",
            "#sig=s",
            "&SIG=s",
            "?%73ig=s",
            "?%2573ig=s",
            "?sig[]=s",
            "?a&amp;sig=s",
            "?x&sig%3Ds",
            "?x_functions_key=s",
            "?next=https%3A%2F%2Fb%2Fx%3Fsig%3Ds",
            "https%3A%2F%2Fb%2Fx%3Fsig%3Ds",
            "?state=redir%3D%252Fapi%252Fx%253Fcode%253Ds",
            "?a=%25252Fx%25253Fsig%25253Ds",
        ] {
            assert!(carries(text.as_bytes(), KeptParameters::NONE), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in [
            "",
            "sig",
            "sig=s",
            "?sig",
            "?sig&a=b",
            "?design=s&signature=s",
            "?a=sig",
            "?api-version=1",
            "status=failed;code=7",
            "https://b/x?a=%zz",
            "a&&b=c",
            "?\u{e9}=1",
            "50%?%=1",
        ] {
            assert!(!carries(text.as_bytes(), KeptParameters::NONE), "{text}");
        }
        assert!(!carries(b"?code=s", KeyParameters::CODE), "kept");
        assert!(!carries(b"?\xFFsig=s", KeptParameters::NONE), "no text");
    }

    #[test]
    fn the_first_key_is_found_where_it_was_sent() {
        let text = br"https:\/\/b\/x?a=1\u0026sig=s\u0026code=k";
        let spelt = Spelt::unpacked(text);
        assert_eq!(first(&spelt, KeptParameters::NONE), Some(18));
        let keys = find(&spelt.text, KeptParameters::NONE).expect("keys");
        assert_eq!(keys.named, KeyParameters::SIG.with(KeyParameters::CODE));
    }
}
