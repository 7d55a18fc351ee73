//! Seals the URLs in a body as it streams by. A token is held until it ends; what could be no URL of
//! Azure's, for it is too long, is looked through piece by piece.

use http::Method;

use super::keys;
use super::link::Methods;
use super::scan::{Step, Text};
use super::sealer::{Caught, Sealer, What};
use super::spelling::Spelt;
use super::url::{self, Keyed};

/// The longest token in bytes that is read as one. Azure's URLs end well below.
const LONGEST: usize = 16 * 1024;

/// How much of a long token's piece is looked at again with the next: more than any spelling of a key's
/// name.
const OVERLAP: usize = 4 * 1024;

/// Seals the URLs in one body. However the body is cut into chunks, what comes out is the same.
pub struct BodySealer {
    sealer: Sealer,
    text: Text,
    /// What is not yet decided: the token, or the piece of a long one, that is under way.
    held: Vec<u8>,
    /// How much of it was scanned.
    scanned: usize,
    token: Token,
    /// By the last word: what the URL that comes next may be followed with.
    methods: Methods,
    caught: Caught,
}

/// The token that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// All of it is held.
    Whole,
    /// Its beginning was let through.
    Long,
    /// A key was found in it; the rest is dropped.
    Dropped,
}

impl BodySealer {
    pub(super) fn new(sealer: Sealer, text: Text) -> Self {
        Self {
            sealer,
            text,
            held: Vec::new(),
            scanned: 0,
            token: Token::Whole,
            methods: Methods::Read,
            caught: Caught::default(),
        }
    }

    /// Takes the next chunk, and appends to `out` what is decided. At most 16 KiB and a few bytes of
    /// what came are held back.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(chunk);
        let done = self.read(&text, out);
        text.drain(..done);
        self.held = text;
    }

    /// Takes the end of the body, and appends to `out` what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        self.scanned = 0;
        self.end_token(&text, out);
    }

    /// What was sealed and withheld so far.
    pub fn caught(&self) -> Caught {
        self.caught
    }

    /// Reads as far as the text goes, and says how much of it is done with.
    fn read(&mut self, text: &[u8], out: &mut Vec<u8>) -> usize {
        let (mut from, mut at) = (0, self.scanned);
        loop {
            match self.text.step(text, at, from + LONGEST) {
                Step::Token { end, next } => {
                    self.end_token(text.get(from..end).unwrap_or_default(), out);
                    out.extend_from_slice(text.get(end..next).unwrap_or_default());
                    (from, at) = (next, next);
                }
                Step::TooLong { next } => {
                    from += self.pass(text.get(from..next).unwrap_or_default(), out);
                    at = next;
                }
                Step::End { at } => {
                    self.scanned = at - from;
                    return from;
                }
            }
        }
    }

    fn end_token(&mut self, token: &[u8], out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.token, Token::Whole) {
            Token::Whole => self.whole(token, out),
            Token::Long => {
                let safe = self.before_key(token, true).unwrap_or(token);
                out.extend_from_slice(safe);
            }
            Token::Dropped => {}
        }
    }

    /// Lets a piece of a long token through, and says how much of it is done with: the end of it is
    /// looked at once more, with what follows.
    fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        if self.token == Token::Dropped {
            return piece.len();
        }
        if let Some(safe) = self.before_key(piece, self.token == Token::Long) {
            out.extend_from_slice(safe);
            self.token = Token::Dropped;
            return piece.len();
        }
        self.token = Token::Long;
        let end = piece.len().saturating_sub(OVERLAP);
        let end = self.text.cut(piece, end);
        out.extend_from_slice(piece.get(..end).unwrap_or_default());
        end
    }

    /// What of a piece stands before its first key; `None` if there is no key. In a later piece of a token,
    /// the URL may have begun in one before it.
    fn before_key<'p>(&mut self, piece: &'p [u8], is_later: bool) -> Option<&'p [u8]> {
        if !may_carry_key(piece) {
            return None;
        }
        let spelt = Spelt::unpacked(piece);
        let first = keys::first_in(&spelt, self.sealer.kept, is_later)?;
        self.caught += Caught::WITHHELD;
        piece.get(..first)
    }

    fn whole(&mut self, token: &[u8], out: &mut Vec<u8>) {
        if is_word(token) {
            self.methods = methods_by(token);
        }
        let keyed = match may_carry_key(token) {
            true => url::keyed(&Spelt::unpacked(token), self.sealer.kept),
            false => None,
        };
        match keyed {
            None => out.extend_from_slice(token),
            Some(Keyed::Elsewhere) => self.caught += Caught::WITHHELD,
            Some(Keyed::Url { at, url }) => {
                out.extend_from_slice(token.get(..at.start).unwrap_or_default());
                self.replace(&url, out);
                out.extend_from_slice(token.get(at.end..).unwrap_or_default());
            }
        }
    }

    fn replace(&mut self, url: &str, out: &mut Vec<u8>) {
        match self.sealer.seal(What::Keyed, url, &self.methods) {
            Some(sealed) => {
                out.extend_from_slice(sealed.as_bytes());
                self.caught += Caught::SEALED;
            }
            None => self.caught += Caught::WITHHELD,
        }
    }
}

/// Whether there is anything that a key could not do without: `=` behind its name, as it stands or in
/// some code.
fn may_carry_key(token: &[u8]) -> bool {
    memchr::memchr3(b'=', b'\\', b'%', token).is_some() || memchr::memchr(b'&', token).is_some()
}

/// A word such as a property's name, and not a URL.
fn is_word(token: &[u8]) -> bool {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    token.iter().all(in_word) && token.iter().any(u8::is_ascii_alphanumeric)
}

/// Durable Functions name their URLs by the method that each takes (`sendEventPostUri`).
fn methods_by(word: &[u8]) -> Methods {
    if word.ends_with(b"PostUri") {
        Methods::Only(Method::POST)
    } else if word.ends_with(b"DeleteUri") {
        Methods::Only(Method::DELETE)
    } else {
        Methods::Read
    }
}
