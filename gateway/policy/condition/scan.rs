//! A look at the text of a condition before it is parsed: its tokens, its brackets, its depth.
//!
//! The parser and what walks over its tree recurse, so what it is given must be shallow. Text that
//! is split into tokens here in another way than by the parser could hide depth, so whatever the
//! grammar of CEL has no token for is a fault here and is never parsed. The tokens also tell where
//! a part of the tree ends, for the parser only says where its operator stands.

use std::ops::Range;

use super::Fault;

/// How long a text may be, in bytes.
pub(super) const LONGEST: usize = 4096;

/// How deep a tree may be, in nodes.
pub(super) const DEEPEST: usize = 64;

/// A text that may be parsed.
#[derive(Debug)]
pub(super) struct Scan {
    tokens: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
    /// For a bracket that opens: where the one that closes it ends.
    closes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Text,
    Open,
    Close,
    Sign,
}

impl Scan {
    /// Splits a text into tokens.
    ///
    /// # Errors
    ///
    /// What the parser must not see: text that is too long or too deep, brackets without a partner,
    /// strings that do not end, characters and escapes that CEL does not know.
    pub(super) fn new(text: &str) -> Result<Scan, Fault> {
        if text.len() > LONGEST {
            let message = format!("a condition has at most {LONGEST} bytes");
            return Err(Fault::new(
                text.floor_char_boundary(LONGEST)..text.len(),
                message,
            ));
        }
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let (kind, length) = token(rest).map_err(|unknown| refused(text, at, unknown))?;
            if let Some(kind) = kind {
                tokens.push(Token {
                    kind,
                    range: at..at + length,
                    closes: 0,
                });
            }
            at += length.max(1);
        }
        pair(text, &mut tokens)?;
        Ok(Scan { tokens })
    }

    /// Where the token that starts at `start` stands.
    pub(super) fn token(&self, start: usize) -> Range<usize> {
        self.find(start)
            .map_or(start..start, |index| self.range(index))
    }

    /// Where the token after the one that starts at `start` stands.
    pub(super) fn after(&self, start: usize) -> Range<usize> {
        let next = self.find(start).map(|index| index + 1);
        next.map_or(start..start, |index| self.range(index))
    }

    /// Where the token before the one that starts at `start` stands.
    pub(super) fn before(&self, start: usize) -> Range<usize> {
        let previous = self.find(start).and_then(|index| index.checked_sub(1));
        previous.map_or(start..start, |index| self.range(index))
    }

    /// Where the bracket that opens at `start` is closed again: the end of the closing one.
    pub(super) fn closes(&self, start: usize) -> Option<usize> {
        let token = self.tokens.get(self.find(start)?)?;
        (token.kind == Kind::Open).then_some(token.closes)
    }

    /// The token that stands at `offset`, or else the last one before it.
    pub(super) fn near(&self, offset: usize) -> Range<usize> {
        let after = self
            .tokens
            .partition_point(|token| token.range.start <= offset);
        self.range(after.saturating_sub(1))
    }

    fn find(&self, start: usize) -> Option<usize> {
        self.tokens
            .binary_search_by_key(&start, |token| token.range.start)
            .ok()
    }

    fn range(&self, index: usize) -> Range<usize> {
        self.tokens
            .get(index)
            .map_or(0..0, |token| token.range.clone())
    }
}

/// Tells every opening bracket where it is closed, and refuses what is too deep.
fn pair(text: &str, tokens: &mut [Token]) -> Result<(), Fault> {
    let mut levels = vec![Level::default()];
    let mut previous = "";
    for index in 0..tokens.len() {
        let Some(token) = tokens.get(index) else {
            break;
        };
        let (kind, range) = (token.kind, token.range.clone());
        let written = text.get(range.clone()).unwrap_or_default();
        match kind {
            Kind::Open => levels.push(Level {
                opened: Some(index),
                ..Level::default()
            }),
            Kind::Close => {
                let height = close(text, tokens, &mut levels, index)?;
                if let Some(level) = levels.last_mut() {
                    level.run += height;
                }
            }
            Kind::Word | Kind::Number | Kind::Text | Kind::Sign => {
                if let Some(level) = levels.last_mut() {
                    level.count(written, previous);
                }
            }
        }
        let height = levels.len() + levels.last().map_or(0, Level::height);
        if height > DEEPEST {
            let message = "this is nested too deep for a condition";
            let help = "split it into several rules, or write long lists with `in`";
            return Err(Fault::new(range, message).help(help));
        }
        previous = text.get(range).unwrap_or_default();
    }
    match levels.last().and_then(|level| level.opened) {
        Some(opened) => {
            let range = tokens.get(opened).map_or(0..0, |token| token.range.clone());
            Err(Fault::new(range, "this bracket is never closed"))
        }
        None => Ok(()),
    }
}

fn close(
    text: &str,
    tokens: &mut [Token],
    levels: &mut Vec<Level>,
    index: usize,
) -> Result<usize, Fault> {
    let range = tokens.get(index).map_or(0..0, |token| token.range.clone());
    let opener = match text.get(range.clone()) {
        Some(")") => "(",
        Some("]") => "[",
        _ => "{",
    };
    let level = levels.pop().unwrap_or_default();
    let height = level.height();
    let Some(open) = level.opened.and_then(|opened| tokens.get_mut(opened)) else {
        return Err(Fault::new(range, "this bracket closes nothing"));
    };
    if text.get(open.range.clone()) != Some(opener) {
        return Err(Fault::new(range, "this closes a bracket of another kind"));
    }
    open.closes = range.end;
    Ok(height)
}

/// One level of brackets, with what bounds the height of the tree inside from above.
///
/// Operators of one rank make a tree as high as there are of them, and so do selections, indexes
/// and calls in a row. `&&`, `||` and commas begin anew: the parser balances the first two.
#[derive(Debug, Default)]
struct Level {
    opened: Option<usize>,
    run: usize,
    highest: usize,
    choices: usize,
}

impl Level {
    fn height(&self) -> usize {
        1 + self.highest.max(self.run) + self.choices
    }

    fn count(&mut self, token: &str, previous: &str) {
        match token {
            "&&" | "||" | "," | ":" => self.begin_anew(),
            "?" => {
                self.begin_anew();
                self.choices += 1;
            }
            "!" | "-" if token == previous => {}
            "!" | "-" | "." | "+" | "*" | "/" | "%" => self.run += 1,
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => self.run += 1,
            _ => {}
        }
    }

    fn begin_anew(&mut self) {
        self.highest = self.highest.max(self.run);
        self.run = 0;
    }
}

/// The fault of a text that has no token at `at`.
fn refused(text: &str, at: usize, (length, message): Unknown) -> Fault {
    let fault = Fault::new(at..at + length, message);
    match text.get(at..at + length) {
        Some("=") => fault.help("write `==` to compare"),
        Some("&") => fault.help("write `&&` for \"and\""),
        Some("|") => fault.help("write `||` for \"or\""),
        Some("\u{2018}" | "\u{2019}" | "\u{201c}" | "\u{201d}") => {
            fault.help("strings stand in straight quotes: `'` or `\"`")
        }
        _ => fault,
    }
}

/// What is wrong and how long it is, in bytes.
type Unknown = (usize, &'static str);

/// The kind and the length of the token that `rest` begins with: no kind for what parts tokens.
fn token(rest: &str) -> Result<(Option<Kind>, usize), Unknown> {
    let mut bytes = rest.bytes();
    let first = bytes.next().unwrap_or_default();
    let second = bytes.next().unwrap_or_default();
    match first {
        b' ' | b'\t' | b'\r' | b'\n' | 0x0c => Ok((None, 1)),
        b'/' if second == b'/' => Ok((None, rest.find('\n').unwrap_or(rest.len()))),
        b'.' if second.is_ascii_digit() => number(rest),
        b'0'..=b'9' => number(rest),
        b'\'' | b'"' => string(rest, 0),
        b'(' | b'[' | b'{' => Ok((Some(Kind::Open), 1)),
        b')' | b']' | b'}' => Ok((Some(Kind::Close), 1)),
        b'&' | b'|' if second == first => Ok((Some(Kind::Sign), 2)),
        b'=' | b'!' | b'<' | b'>' if second == b'=' => Ok((Some(Kind::Sign), 2)),
        b'!' | b'<' | b'>' | b'.' | b',' | b'?' | b':' | b'+' | b'-' | b'*' | b'/' | b'%' => {
            Ok((Some(Kind::Sign), 1))
        }
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => word(rest),
        _ => {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            Err((length, "this character has no meaning in a condition"))
        }
    }
}

fn word(rest: &str) -> Result<(Option<Kind>, usize), Unknown> {
    let length = rest
        .find(|letter: char| !is_of_word(letter))
        .unwrap_or(rest.len());
    let quoted = rest
        .get(length..)
        .is_some_and(|after| after.starts_with(['\'', '"']));
    let prefix = rest.get(..length).unwrap_or_default();
    let is_prefix = ["r", "b", "br"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(prefix));
    if quoted && is_prefix {
        return string(rest, length);
    }
    Ok((Some(Kind::Word), length))
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn number(rest: &str) -> Result<(Option<Kind>, usize), Unknown> {
    let mut length = 0;
    let mut previous = ' ';
    let mut letters = rest.chars().peekable();
    let hexadecimal = rest.starts_with("0x");
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied().unwrap_or(' ');
        let in_exponent = matches!(previous, 'e' | 'E') && !hexadecimal;
        let goes_on = match letter {
            '.' => next.is_ascii_digit() && !in_exponent,
            '+' | '-' => next.is_ascii_digit() && in_exponent,
            _ => is_of_word(letter),
        };
        if !goes_on {
            break;
        }
        length += letter.len_utf8();
        previous = letter;
    }
    match rest.get(..length).is_some_and(is_number) {
        true => Ok((Some(Kind::Number), length)),
        false => Err((length, "this is no number")),
    }
}

/// NUM_INT, NUM_UINT and NUM_FLOAT of the grammar.
fn is_number(text: &str) -> bool {
    let whole = text.strip_suffix(['u', 'U']).unwrap_or(text);
    if let Some(digits) = whole.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits(whole) {
        return true;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let mantissa = match mantissa.split_once('.') {
        Some((before, after)) => (before.is_empty() || digits(before)) && digits(after),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(digits)
}

/// A string whose quotes begin after `prefix` bytes.
fn string(rest: &str, prefix: usize) -> Result<(Option<Kind>, usize), Unknown> {
    let (before, quoted) = rest.split_at_checked(prefix).unwrap_or(("", rest));
    let raw = before.contains(['r', 'R']);
    let quote = quoted.get(..1).unwrap_or_default();
    let triple = quote.repeat(3);
    let (end, one_line) = match quoted.starts_with(&triple) {
        true => (triple.as_str(), false),
        false => (quote, true),
    };
    let mut at = prefix + end.len();
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with(end) {
            return Ok((Some(Kind::Text), at + end.len()));
        }
        at += match tail.chars().next() {
            Some('\\') if !raw => match escape(tail) {
                Some(length) => length,
                None => return Err((at, "this string has an escape that CEL does not know")),
            },
            Some('\n' | '\r') if one_line => break,
            Some(letter) => letter.len_utf8(),
            None => 1,
        };
    }
    Err((at, "this string does not end"))
}

/// The length of an escape sequence: ESC_SEQ of the grammar.
fn escape(tail: &str) -> Option<usize> {
    let octal = |from: usize| {
        let digits = tail.get(from..4)?.bytes();
        digits
            .into_iter()
            .all(|digit| matches!(digit, b'0'..=b'7'))
            .then_some(4)
    };
    let hexadecimal = |length: usize| {
        let digits = tail.get(2..length)?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then_some(length)
    };
    match tail.chars().nth(1)? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(2),
        'x' | 'X' => hexadecimal(4),
        'u' => hexadecimal(6),
        'U' => hexadecimal(10),
        '0'..='3' => octal(2),
        _ => None,
    }
}
