//! Other spellings of one text: JSON escapes, entities of HTML, percent codes. A key is looked for in
//! what the last reader sees, and replaced where it stands in the bytes that were sent.

use super::scan::Text;
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
    pub(super) fn unpacked(text: &[u8], kind: Text) -> Self {
        let mut spelt = Self::raw(text);
        for _ in 0..LEVELS {
            match spelt.respelt(|rest| kind.code(rest)) {
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
        [b'\\', b'u', digits @ ..] => unicode_escape(digits),
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

fn unicode_escape(digits: &[u8]) -> Escape {
    let mut value = 0;
    for count in 0..4 {
        let Some(digit) = digits.get(count) else {
            return Escape::Cut;
        };
        let Some(digit) = char::from(*digit).to_digit(16) else {
            return Escape::No;
        };
        value = value << 4 | digit;
    }
    let byte = u8::try_from(value).ok().filter(u8::is_ascii);
    Escape::Of(byte.unwrap_or(BEYOND_ASCII), 6)
}

/// The entity at the front of `rest`, of those that writers of HTML put into URLs.
pub(super) fn entity(rest: &[u8]) -> Option<(u8, usize)> {
    const ENTITIES: [(&[u8], u8); 5] = [
        (b"&amp;", b'&'),
        (b"&#38;", b'&'),
        (b"&#x26;", b'&'),
        (b"&#61;", b'='),
        (b"&#x3d;", b'='),
    ];
    let starts = |text: &[u8]| {
        let front = rest.get(..text.len());
        front.is_some_and(|front| front.eq_ignore_ascii_case(text))
    };
    let found = ENTITIES.iter().find(|(text, _)| starts(text));
    found.map(|(text, byte)| (*byte, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_to_the_last_reader() {
        for (sent, kind, unpacked) in [
            (r"a\/b\u0026c", Text::Json, "a/b&c"),
            (r"a\\/b\\u0026c", Text::Json, "a/b&c"),
            (r"a\\\\u0026c", Text::Json, "a&c"),
            (r"\u005cu0026", Text::Json, "&"),
            (r"a\qb\u00", Text::Json, r"a\qb\u00"),
            ("a&amp;b", Text::Json, "a&amp;b"),
            ("a&amp;b&#x3D;", Text::Plain, "a&b="),
            (r"a\u0026amp;b", Text::Plain, "a&b"),
        ] {
            let spelt = Spelt::unpacked(sent.as_bytes(), kind);
            assert_eq!(spelt.text, unpacked.as_bytes(), "{sent}");
        }
    }

    #[test]
    fn every_byte_knows_where_it_began() {
        let spelt = Spelt::unpacked(br"a\\u0026b\/c", Text::Json);
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
            (r"\n", Escape::Of(b'\n', 2)),
            (r"\q", Escape::No),
            ("a", Escape::No),
        ] {
            assert_eq!(json_escape(text.as_bytes()), expected, "{text}");
        }
    }
}
