//! Keys go from the query, in every spelling that some backend reads as their name. Everything else
//! is passed on byte for byte and in its order.

use memchr::{memchr, memchr2};

use super::keys::KeyParameters;
use super::percent::{Table, escape};
use crate::denial::Reason;

/// How often a name may be decoded before it stands still. Nobody encodes honestly more than twice.
const DECODINGS: usize = 8;

const REFUSED: Reason = Reason::AmbiguousQuery;

/// Checks the query and finds the key parameters in it, without allocating unless a name is encoded.
///
/// # Errors
/// `AmbiguousQuery` for incomplete percent codes and for bytes that are not printable ASCII, and
/// for names that hold control characters or are not UTF-8 once they are decoded.
pub(super) fn examine(query: &str) -> Result<Examined, Reason> {
    let mut examined = Examined::default();
    let mut places = examined.first.iter_mut();
    for parameter in query.as_bytes().split(|byte| is_separator(*byte)) {
        let named = examine_parameter(parameter)?;
        examined.all = examined.all.with(named);
        if let Some(place) = places.next() {
            *place = named;
        }
    }
    Ok(examined)
}

/// The keys that the parameters of a query name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Examined {
    pub(super) all: KeyParameters,
    /// Those of the first parameters, one by one, so that they need not be looked at again.
    first: [KeyParameters; 8],
}

/// The value, as it was sent, of the first of these parameters that has one, in the order of their kinds.
pub(super) fn key_value(query: &str, keys: KeyParameters) -> Option<&str> {
    [
        KeyParameters::SIG,
        KeyParameters::CODE,
        KeyParameters::X_FUNCTIONS_KEY,
    ]
    .into_iter()
    .filter(|key| keys.contains(*key))
    .find_map(|key| {
        let mut parameters = query.split(['&', ';']);
        parameters.find_map(|parameter| {
            let (_, value) = parameter.split_once('=')?;
            (!value.is_empty() && carries(parameter, key)).then_some(value)
        })
    })
}

impl Examined {
    /// The query that was examined, without the parameters of these names; empty if nothing is left.
    pub(super) fn without(&self, query: &str, names: KeyParameters) -> String {
        let mut out = String::with_capacity(query.len());
        let (mut rest, mut separator) = (query, '&');
        let mut known = self.first.iter();
        loop {
            let end = memchr2(b'&', b';', rest.as_bytes());
            let parameter = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
            let goes = match known.next() {
                Some(named) => *named != named.without(names),
                None => carries(parameter, names),
            };
            if !parameter.is_empty() && !goes {
                if !out.is_empty() {
                    out.push(separator);
                }
                out.push_str(parameter);
            }
            let Some(end) = end else {
                return out;
            };
            separator = if rest.as_bytes().get(end) == Some(&b';') {
                ';'
            } else {
                '&'
            };
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
}

/// Whether the parameter has one of these names. One that cannot be read is not passed on.
fn carries(parameter: &str, names: KeyParameters) -> bool {
    match examine_parameter(parameter.as_bytes()) {
        Ok(found) => found != found.without(names),
        Err(_) => true,
    }
}

/// `;` separates in some readers (W3C once recommended it) and not in others; so what stands
/// behind one is read as a parameter too.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A character that stands for itself in every reader.
    Plain,
    /// The end of the name.
    Equals,
    /// Printable, but a reader may drop, cut or decode it.
    Special,
    Percent,
    Refused,
}

static CLASSES: Table<Class> = Table::new(classes());

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x21u8;
    while byte < 0x7F {
        #[expect(clippy::indexing_slicing, reason = "256 entries, one for every byte")]
        {
            classes[byte as usize] = match byte {
                b'=' => Class::Equals,
                b'%' => Class::Percent,
                b'+' | b'[' | b'?' | b'#' => Class::Special,
                _ => Class::Plain,
            };
        }
        byte += 1;
    }
    classes
}

/// Checks one parameter and says which keys its name names.
fn examine_parameter(parameter: &[u8]) -> Result<KeyParameters, Reason> {
    let equals = memchr(b'=', parameter).unwrap_or(parameter.len());
    let (name, value) = parameter.split_at_checked(equals).unwrap_or_default();
    let is_plain = |byte: &u8| matches!(CLASSES.class(*byte), Class::Plain | Class::Equals);
    match name.iter().all(is_plain) && value.iter().all(is_plain) {
        true => Ok(KeyParameters::recognise(name).unwrap_or_default()),
        false => examine_special(parameter),
    }
}

/// The same for a parameter that holds more than characters that stand for themselves.
fn examine_special(parameter: &[u8]) -> Result<KeyParameters, Reason> {
    let mut name = None;
    let mut plain = true;
    for (at, &byte) in parameter.iter().enumerate() {
        match CLASSES.class(byte) {
            Class::Plain => {}
            Class::Equals => {
                name = name.or(parameter.get(..at));
            }
            Class::Special => plain &= name.is_some(),
            Class::Percent => {
                escape(parameter.get(at..).unwrap_or_default()).ok_or(REFUSED)?;
                plain &= name.is_some();
            }
            Class::Refused => return Err(REFUSED),
        }
    }
    let name = name.unwrap_or(parameter);
    if plain {
        return Ok(KeyParameters::recognise(name).unwrap_or_default());
    }
    keys_of_encoded(name)
}

/// The keys that a name names to a reader who decodes it, however often.
fn keys_of_encoded(name: &[u8]) -> Result<KeyParameters, Reason> {
    let name = decoded(name)?;
    let mut keys = KeyParameters::NONE;
    // Who decodes before splitting finds further parameters inside the name.
    for part in name.split(['&', ';']) {
        let part = part.trim_matches(|c: char| c.is_whitespace() || c == '?');
        let end = part.find(['=', '[', '#']).unwrap_or(part.len());
        let part = part.get(..end).unwrap_or(part).trim_end();
        let folded: String = part.chars().map(fold).collect();
        keys = keys.with(KeyParameters::recognise(folded.as_bytes()).unwrap_or_default());
    }
    Ok(keys)
}

/// Decodes until nothing changes any more.
fn decoded(name: &[u8]) -> Result<String, Reason> {
    let mut text = name.to_vec();
    for _ in 0..DECODINGS {
        let next = decoded_once(&text);
        if next == text {
            let text = String::from_utf8(text).map_err(|_| REFUSED)?;
            let controls = text.chars().any(char::is_control);
            return if controls { Err(REFUSED) } else { Ok(text) };
        }
        text = next;
    }
    Err(REFUSED)
}

fn decoded_once(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        match escape(rest) {
            Some(code) => {
                out.push(code);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    out
}

/// The ASCII letter that folding readers make of a character: by Unicode case folding (the long s,
/// the Kelvin sign) or by the best fit of Windows code pages (full width forms).
fn fold(character: char) -> char {
    match character {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        '\u{FF01}'..='\u{FF5E}' => {
            char::from_u32(u32::from(character) - 0xFEE0).unwrap_or(character)
        }
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(query: &str) -> Result<KeyParameters, Reason> {
        examine(query).map(|examined| examined.all)
    }

    fn without(query: &str, names: KeyParameters) -> String {
        examine(query).expect("well formed").without(query, names)
    }

    const ALL: KeyParameters = KeyParameters::SIG
        .with(KeyParameters::SP)
        .with(KeyParameters::SV)
        .with(KeyParameters::SE)
        .with(KeyParameters::CODE)
        .with(KeyParameters::X_FUNCTIONS_KEY)
        .with(KeyParameters::ACCESS_TOKEN);

    #[test]
    fn every_hostile_spelling_of_a_key_is_seen_and_goes() {
        for (query, left) in [
            ("sig=x", ""),
            ("sig", ""),
            ("sig=", ""),
            ("SIG=x", ""),
            ("sIg=x", ""),
            ("%73ig=x", ""),
            ("s%69%67=x", ""),
            ("%53%49%47=x", ""),
            ("%2573ig=x", ""),
            ("%252573ig=x", ""),
            ("sig[]=x", ""),
            ("sig%5B%5D=x", ""),
            ("sig%255b0%255d=x", ""),
            ("+sig=x", ""),
            ("sig+=x", ""),
            ("%20sig%20=x", ""),
            ("%2Bsig=x", ""),
            ("%C2%A0sig=x", ""),
            ("?sig=x", ""),
            ("%3Fsig=x", ""),
            ("sig%3Dx", ""),
            ("sig%23=x", ""),
            ("sig%20[]=x", ""),
            ("%C5%BFig=x", ""),
            ("%EF%BD%93ig=x", ""),
            ("a=1&sig=x", "a=1"),
            ("sig=x&a=1", "a=1"),
            ("a=1&sig=x&b=2", "a=1&b=2"),
            ("sig=x&a=1&sig=y&b=2&SIG=z", "a=1&b=2"),
            ("a=1&&sig=x", "a=1"),
            ("&&sig=x&&a=1&", "a=1"),
            (";sig=x", ""),
            ("a=1;sig=x", "a=1"),
            ("a=1;sig=x&b=2", "a=1&b=2"),
            ("sig=x;b=2", "b=2"),
            ("a=1;sig=x;b=2", "a=1;b=2"),
            ("a=1&amp;sig=x", "a=1&amp"),
            ("a%26sig=x&b=2", "b=2"),
            ("a=b=c&sig==x=y", "a=b=c"),
            (
                "sp=r&sv=1&se=2026&sig=x&api-version=2016-10-01",
                "api-version=2016-10-01",
            ),
            ("Code=k&name=v", "name=v"),
            ("%63ode=k&name=v", "name=v"),
            ("X-Functions-Key=k", ""),
            ("x_functions_key=k", ""),
            ("x.functions%2Dkey=k", ""),
            ("access_token=t", ""),
            ("ACCESS%5FTOKEN=t", ""),
        ] {
            let seen = keys(query).expect(query);
            assert!(!seen.is_empty(), "{query}");
            assert_eq!(without(query, ALL), left, "{query}");
        }
    }

    #[test]
    fn what_merely_looks_like_a_key_stays() {
        for query in [
            "",
            "a",
            "=sig",
            "a=sig",
            "design=x",
            "signature=x",
            "sigs=x",
            "s=1&i=2&g=3",
            "mysig=x",
            "barcode=1&codes=2&zipcode=3",
            "filter=a%26sig%3Dx",
            "redirect=https%3A%2F%2Fa%2F%3Fsig%3Dx",
            "%24filter=x&%24top=5",
            "q=a+b+c",
            "q=%00%0A%FF",
            "[sig]=x",
            "a[sig]=x",
            "server=1&sequence=2&spv=3",
            "token=t&accesstoken=t",
        ] {
            assert_eq!(keys(query), Ok(KeyParameters::NONE), "{query}");
        }
    }

    #[test]
    fn an_ambiguous_query_is_refused() {
        for (why, query) in [
            ("incomplete code in a name", "a%2=1"),
            ("incomplete code in a value", "a=1%"),
            ("no digits", "a=%zz"),
            ("IIS's own encoding", "%u0073ig=x"),
            ("NUL in a name", "si%00g=x"),
            ("NUL behind two decodings", "sig%2500=x"),
            ("line feed in a name", "a%0Ab=1"),
            ("C1 control in a name", "a%C2%85=1"),
            ("overlong letter in a name", "%C1%B3ig=x"),
            ("a name that is not UTF-8", "%FF=x"),
            ("raw beyond ASCII", "caf\u{e9}=1"),
            ("raw control in a value", "a=\u{1}"),
            ("raw NUL in a value", "a=\0"),
            ("space", "a=b c"),
            (
                "endless encoding",
                "%2525252525252525252525252525252525252525252525252573ig=x",
            ),
        ] {
            assert_eq!(keys(query), Err(Reason::AmbiguousQuery), "{why}: {query}");
        }
    }

    #[test]
    fn only_the_named_keys_go() {
        let query = "code=abc&sig=x&state=1";
        let strip = keys(query).expect("plain").without(KeyParameters::CODE);
        assert_eq!(without(query, strip), "code=abc&state=1");
    }

    /// One of the keys' names, in a random hostile spelling.
    fn spelled() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["sig", "sp", "sv", "se", "code", "access_token"]);
        (
            name,
            any::<u64>(),
            0usize..3,
            proptest::sample::select(vec!["", "+", "%20", "[]", "%5B"]),
        )
            .prop_map(|(name, bits, depth, tail)| {
                let mut out = String::new();
                for (at, letter) in name.chars().enumerate() {
                    let letter = if bits >> at & 1 == 1 {
                        letter.to_ascii_uppercase()
                    } else {
                        letter
                    };
                    if bits >> (at + 20) & 1 == 1 {
                        out.push_str(&format!("%{}{:02x}", "25".repeat(depth), u32::from(letter)));
                    } else {
                        out.push(letter);
                    }
                }
                out + tail
            })
    }

    fn innocent() -> impl Strategy<Value = String> {
        "[b-z]{4}[0-9]{0,2}(=([a-zA-Z0-9._~=?/-]|%[0-9A-F]{2}){0,8})?"
            .prop_filter("no key by chance", |text| !text.starts_with("code"))
    }

    proptest! {
        #[test]
        fn no_key_is_left_and_what_is_left_is_what_came(
            parameters in proptest::collection::vec((any::<bool>(), spelled(), innocent(), any::<bool>()), 1..8),
        ) {
            let mut query = String::new();
            let mut kept = Vec::new();
            for (key, name, innocent, semicolon) in parameters {
                if !query.is_empty() {
                    query.push(if semicolon { ';' } else { '&' });
                }
                if key {
                    query.push_str(&format!("{name}=secret"));
                } else {
                    query.push_str(&innocent);
                    kept.push(innocent);
                }
            }
            let left = without(&query, keys(&query).expect("well formed"));
            prop_assert_eq!(keys(&left), Ok(KeyParameters::NONE));
            prop_assert!(!left.contains("secret"));
            let parts: Vec<&str> = left.split(['&', ';']).filter(|part| !part.is_empty()).collect();
            prop_assert_eq!(parts, kept);
            prop_assert!(!left.starts_with('&') && !left.ends_with('&') && !left.contains("&&"));
        }

        #[test]
        fn nothing_is_left_of_a_key_in_any_query_at_all(query in "[sigSIG%2573&;=+?\\[\\]code ]{0,24}") {
            if let Ok(seen) = keys(&query) {
                prop_assert_eq!(keys(&without(&query, seen)), Ok(KeyParameters::NONE));
            }
        }
    }
}
