//! Other spellings of one text: JSON escapes, entities of HTML, percent codes. A key is looked for in
//! what the last reader sees, and replaced where it stands in the bytes that were sent.

use std::str;

use crate::canonical::escape;

/// How often JSON within JSON is unpacked. Each level doubles the backslashes.
const LEVELS: usize = 8;

/// What an escape for a character beyond ASCII is read as: a byte that no URL and no name holds.
const BEYOND_ASCII: u8 = 0xFF;

/// Text, and where each of its bytes begins in the text that was sent.
#[derive(Clone, Debug)]
pub(super) struct Spelt {
    pub(super) text: Vec<u8>,
    at: Vec<usize>,
    length: usize,
}

impl Spelt {
    /// As it was sent.
    pub(super) fn raw(text: &[u8]) -> Self {
        Self {
            text: text.to_vec(),
            at: (0..text.len()).collect(),
            length: text.len(),
        }
    }

    /// As its last reader sees it: escapes undone until none is left.
    pub(super) fn unpacked(text: &[u8]) -> Self {
        let mut spelt = Self::raw(text);
        for _ in 0..LEVELS {
            match spelt.respelt(code) {
                Some(next) => spelt = next,
                None => break,
            }
        }
        spelt
    }

    /// With its percent codes decoded once; `None` if there are none.
    pub(super) fn percent_decoded(&self) -> Option<Self> {
        self.respelt(|rest| escape(rest).map(|byte| (byte, 3)))
    }

    /// Where the byte at `index` begins in the text that was sent.
    pub(super) fn sent_at(&self, index: usize) -> usize {
        self.at.get(index).copied().unwrap_or(self.length)
    }

    /// With every code replaced by the byte that it stands for; `None` if there is none.
    fn respelt(&self, code: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Option<Self> {
        let mut text = Vec::with_capacity(self.text.len());
        let mut at = Vec::with_capacity(self.text.len());
        let mut index = 0;
        while let Some(rest) = self.text.get(index..)
            && let Some(&first) = rest.first()
        {
            let (byte, length) = code(rest).unwrap_or((first, 1));
            text.push(byte);
            at.push(self.sent_at(index));
            index += length;
        }
        let changed = text.len() < self.text.len();
        changed.then_some(Self {
            text,
            at,
            length: self.length,
        })
    }
}

/// The escape or entity at the front of `rest`: the byte it stands for, and its length. HTML stands in JSON,
/// and JSON in HTML.
fn code(rest: &[u8]) -> Option<(u8, usize)> {
    match json_escape(rest) {
        Escape::Of(byte, length) => Some((byte, length)),
        Escape::No | Escape::Cut => entity(rest),
    }
}

/// What stands at a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// An escape for this byte, of this many bytes.
    Of(u8, usize),
    /// None that JSON knows.
    No,
    /// Too little to say.
    Cut,
}

/// The escape at the front of `rest` (RFC 8259 section 7).
pub(super) fn json_escape(rest: &[u8]) -> Escape {
    match rest {
        [b'\\'] => Escape::Cut,
        [b'\\', b'u', digits @ ..] => unicode_escape(digits, 4),
        // Of scripts alone; in JSON there is none, and so nothing is lost.
        [b'\\', b'x', digits @ ..] => unicode_escape(digits, 2),
        [b'\\', letter, ..] => named_escape(*letter),
        _ => Escape::No,
    }
}

fn named_escape(letter: u8) -> Escape {
    let byte = match letter {
        b'"' | b'\\' | b'/' => letter,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Escape::No,
    };
    Escape::Of(byte, 2)
}

fn unicode_escape(digits: &[u8], length: usize) -> Escape {
    let mut value = 0;
    for count in 0..length {
        let Some(digit) = digits.get(count) else {
            return Escape::Cut;
        };
        let Some(digit) = char::from(*digit).to_digit(16) else {
            return Escape::No;
        };
        value = value << 4 | digit;
    }
    let byte = u8::try_from(value).ok().filter(u8::is_ascii);
    Escape::Of(byte.unwrap_or(BEYOND_ASCII), length + 2)
}

/// The entity at the front of `rest`, of those for what separates the parts of a URL, and of those by number:
/// the byte that it stands for, and its length.
fn entity(rest: &[u8]) -> Option<(u8, usize)> {
    /// More digits than any entity has.
    const LONGEST: usize = 12;
    const NAMED: [(&[u8], u8); 6] = [
        (b"amp", b'&'),
        (b"equals", b'='),
        (b"quest", b'?'),
        (b"semi", b';'),
        (b"num", b'#'),
        (b"sol", b'/'),
    ];
    let name = rest.strip_prefix(b"&")?;
    let length = name.iter().take(LONGEST).position(|byte| *byte == b';')?;
    let name = name.get(..length)?;
    let byte = match name {
        [b'#', b'x' | b'X', digits @ ..] => numbered(digits, 16)?,
        [b'#', digits @ ..] => numbered(digits, 10)?,
        name => {
            let mut named = NAMED.iter();
            let (_, byte) = named.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            *byte
        }
    };
    Some((byte, length + 2))
}

/// The ASCII character of this number.
fn numbered(digits: &[u8], base: u32) -> Option<u8> {
    let digits = str::from_utf8(digits).ok()?;
    let unsigned = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = u32::from_str_radix(digits, base)
        .ok()
        .filter(|_| unsigned)?;
    u8::try_from(number).ok().filter(u8::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_to_the_last_reader() {
        for (sent, unpacked) in [
            (r"a\/b\u0026c", "a/b&c"),
            (r"a\\/b\\u0026c", "a/b&c"),
            (r"a\\\\u0026c", "a&c"),
            (r"\u005cu0026", "&"),
            (r"a\qb\u00", r"a\qb\u00"),
            ("a&amp;b", "a&b"),
            ("a&amp;b&#x3D;", "a&b="),
            ("&#x0026;s&#105;g&equals;", "&sig="),
            ("&#+38;&#233;&#;&x;&", "&#+38;&#233;&#;&x;&"),
            (r"\x26sig\x3d", "&sig="),
            (r"a\u0026amp;b", "a&b"),
        ] {
            let spelt = Spelt::unpacked(sent.as_bytes());
            assert_eq!(spelt.text, unpacked.as_bytes(), "{sent}");
        }
    }

    #[test]
    fn every_byte_knows_where_it_began() {
        let spelt = Spelt::unpacked(br"a\\u0026b\/c");
        assert_eq!(spelt.text, b"a&b/c");
        let began: Vec<usize> = (0..=5).map(|index| spelt.sent_at(index)).collect();
        assert_eq!(began, [0, 1, 8, 9, 11, 12]);
        let percent = spelt.percent_decoded();
        assert!(percent.is_none(), "no codes");
    }

    #[test]
    fn what_is_cut_is_told_from_what_is_none() {
        for (text, expected) in [
            (r"\", Escape::Cut),
            (r"\u", Escape::Cut),
            (r"\u002", Escape::Cut),
            (r"\u0026", Escape::Of(b'&', 6)),
            (r"\u00e9", Escape::Of(BEYOND_ASCII, 6)),
            (r"\u2126", Escape::Of(BEYOND_ASCII, 6)),
            (r"\u0x", Escape::No),
            (r"\x2", Escape::Cut),
            (r"\x26", Escape::Of(b'&', 4)),
            (r"\n", Escape::Of(b'\n', 2)),
            (r"\q", Escape::No),
            ("a", Escape::No),
        ] {
            assert_eq!(json_escape(text.as_bytes()), expected, "{text}");
        }
    }
}
