//! Percent codes (RFC 3986 section 2.1) and classes of bytes, as both path and query need them.

/// The byte that a percent code at the front of `bytes` stands for, if one stands there in full.
pub(crate) fn escape(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

/// What one hexadecimal digit counts.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The upper-case digit of the lower four bits.
pub(super) fn digit(value: u8) -> char {
    char::from_digit(u32::from(value & 0x0F), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// `unreserved` (RFC 3986 section 2.3): encoded or not, the same character.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `sub-delims` (RFC 3986 section 2.2).
pub(super) const fn is_sub_delim(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// A class for each of the 256 bytes, so that a scan is one load a byte.
pub(super) struct Table<T>([T; 256]);

impl<T: Copy> Table<T> {
    pub(super) const fn new(classes: [T; 256]) -> Self {
        Self(classes)
    }

    #[expect(clippy::indexing_slicing, reason = "256 entries, one for every byte")]
    pub(super) fn class(&self, byte: u8) -> T {
        self.0[usize::from(byte)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_code_is_three_bytes_or_none() {
        for (text, byte) in [
            ("%2F", Some(b'/')),
            ("%2frest", Some(b'/')),
            ("%00", Some(0)),
            ("%fF", Some(0xFF)),
            ("%2", None),
            ("%", None),
            ("%2G", None),
            ("%+1", None),
            ("%u0073", None),
            ("2F", None),
        ] {
            assert_eq!(escape(text.as_bytes()), byte, "{text}");
        }
    }

    #[test]
    fn digits_are_written_in_upper_case() {
        let written: String = (0..16).map(digit).collect();
        assert_eq!(written, "0123456789ABCDEF");
    }
}
