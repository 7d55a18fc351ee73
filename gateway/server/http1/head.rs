//! The head of an HTTP/1 request, checked line by line against RFC 9112 as it is written: what a
//! server may repair is refused, because the next server may repair it otherwise.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};
use memchr::memchr;

use super::authorizations::{Authorizations, Told};
use crate::denial::Reason;
use crate::http1::{Content, Place, Reader, has_controls, is_token, length, lists, take_off};
use crate::pipeline::Brought;
use crate::secret::Secret;
use crate::telemetry::OTHER_METHOD;

/// The longest request line, with its line end: the shortest that a server should take (RFC 9112
/// section 3), and twice what the Functions host takes.
const MAX_REQUEST_LINE: usize = 8 * 1024;

/// The most fields.
const MAX_FIELDS: usize = 100;

/// So many fields are in nearly every head.
const USUAL_FIELDS: usize = 16;

/// A request's head.
pub struct Head {
    /// The request, without its body.
    pub request: Request<()>,
    /// How its token came. Of several `Authorization`s, each stands among the fields.
    pub brought: Brought,
    /// What is to come behind it.
    pub content: Content,
    /// What it says beside.
    pub wishes: Wishes,
}

/// Says nothing of what a request brings.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.request.method())
            .field("content", &self.content)
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
    }
}

/// What a request says of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Whether another request may follow on the connection (RFC 9112 section 9.3).
    pub keeps_alive: bool,
    /// Whether the caller waits to be told to send the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// Whether it reads what stands behind an answer's body (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
    /// Whether it may want to go on in another protocol (RFC 9110 section 7.8).
    pub upgrades: bool,
}

/// Takes the heads of requests off what one connection brings.
#[derive(Debug)]
pub struct Heads {
    max_head: usize,
    scan: Scan,
    /// The `Authorization` of the request before, once it has come twice. Most callers send the same again and
    /// again: then it need not be checked and copied any more.
    authorization: Option<Secret<Bytes>>,
    /// What tells the one of the request before from others.
    before: Option<Told>,
    held: Authorizations,
    /// What the request line of a head said that was refused when it was whole.
    refused: Option<(Method, Version)>,
}

impl Heads {
    /// Heads of up to `max_head` bytes, on a connection that shares `held` with others.
    pub fn new(max_head: usize, held: Authorizations) -> Self {
        Self {
            max_head,
            scan: Scan::default(),
            authorization: None,
            before: None,
            held,
            refused: None,
        }
    }

    #[cfg(test)]
    pub(super) fn keeps_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Takes the next head off `input`, if it is whole.
    ///
    /// # Errors
    /// Why it is refused, as soon as that shows; what may not stand in a value shows when the head is whole. Nothing
    /// behind it can be read.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Head>, Reason> {
        let known = self.authorization.as_ref().map(|known| &**known.expose());
        let Some(length) = self.scan.read(input, self.max_head, known)? else {
            return Ok(None);
        };
        let text = take_off(length, input);
        let scan = std::mem::take(&mut self.scan);
        let said = scan.said();
        let head = scan.into_head(&text, self);
        head.map(Some).inspect_err(|_| self.refused = said)
    }

    /// What a head that was refused asked for, as far as it could be read, for those who tell of it.
    pub(super) fn refused(&self) -> Request<()> {
        let mut request = Request::new(());
        let said = self.refused.clone().or_else(|| self.scan.said());
        match said {
            Some((method, version)) => {
                *request.method_mut() = method;
                *request.version_mut() = version;
            }
            None => {
                // INVARIANT: a token, and so it could be a method.
                let method = Method::from_bytes(OTHER_METHOD.as_bytes()).unwrap_or_default();
                *request.method_mut() = method;
            }
        }
        request
    }

    /// The `Authorization` that stands in this place of a head. It is copied once it comes again: what brings
    /// another each time gains nothing by a copy.
    fn authorization(&mut self, text: &Bytes, place: Place) -> Secret<Bytes> {
        let value = text.get(place.range()).unwrap_or_default();
        let told = self.held.told(value);
        let comes_again = told.is_some() && told == self.before;
        self.before = told;
        self.authorization = told.and_then(|told| match comes_again {
            true => Some(self.held.keep(value, told)),
            false => self.held.find(value, told),
        });
        let kept = self.authorization.clone();
        kept.unwrap_or_else(|| Secret::new(text.slice(place.range())))
    }
}

/// How far a head was read. It is fed the head from its first byte again and again until it is
/// complete, and looks at every byte once.
#[derive(Debug, Default)]
struct Scan {
    /// Where the line that is not complete begins.
    line: usize,
    /// Up to where no line end was found.
    searched: usize,
    /// One empty line in front of a request is to be ignored (RFC 9112 section 2.2).
    blank: bool,
    request_line: Option<RequestLine>,
    fields: Vec<(HeaderName, Place)>,
    /// There is an `Authorization` that is the one of the request before.
    is_known: bool,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
    options: Options,
}

#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: Place,
    version: Version,
}

/// What fields say of the connection.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    takes_trailers: bool,
    upgrades: bool,
}

impl Scan {
    /// What the request line says, if it was read.
    fn said(&self) -> Option<(Method, Version)> {
        let line = self.request_line.as_ref()?;
        Some((line.method.clone(), line.version))
    }

    /// Looks at `head`, which begins where the head begins and may go on behind it. Its length, once it is whole.
    fn read(
        &mut self,
        head: &[u8],
        max_head: usize,
        known: Option<&[u8]>,
    ) -> Result<Option<usize>, Reason> {
        self.first_byte(head)?;
        while let Some(at) = memchr(b'\n', head.get(self.searched..).unwrap_or_default()) {
            let end = self.searched + at;
            self.check_size(end + 1, max_head)?;
            let line = head.get(self.line..end).unwrap_or_default();
            let ends = self.read_line(line, known)?;
            self.line = end + 1;
            self.searched = end + 1;
            if ends {
                return Ok(Some(end + 1));
            }
        }
        self.searched = head.len();
        self.check_size(head.len(), max_head)?;
        Ok(None)
    }

    /// Another protocol shows at once, not when its first line feed comes.
    fn first_byte(&self, head: &[u8]) -> Result<(), Reason> {
        match head.first() {
            Some(b'\r') => Ok(()),
            Some(byte) if !is_token(*byte) => Err(Reason::AmbiguousFraming),
            _ => Ok(()),
        }
    }

    /// The nearer of two limits decides, so that it does not matter how much came at once.
    fn check_size(&self, size: usize, max_head: usize) -> Result<(), Reason> {
        let max_line = match self.request_line {
            None => self.line + MAX_REQUEST_LINE,
            Some(_) => usize::MAX,
        };
        if size <= max_line.min(max_head) {
            Ok(())
        } else if max_line < max_head {
            Err(Reason::UriTooLong)
        } else {
            Err(Reason::HeadTooLarge)
        }
    }

    /// Reads a line without its line feed. True if it ends the head.
    fn read_line(&mut self, line: &[u8], known: Option<&[u8]>) -> Result<bool, Reason> {
        let line = line.strip_suffix(b"\r").ok_or(Reason::AmbiguousFraming)?;
        if self.request_line.is_some()
            && let Some(value) = known.and_then(|known| authorization(line, known))
        {
            self.is_known = true;
            return self.add(header::AUTHORIZATION, value, line).map(|()| false);
        }
        match (&self.request_line, line) {
            (None, []) if self.blank => Err(Reason::AmbiguousFraming),
            (None, []) => {
                self.blank = true;
                Ok(false)
            }
            (None, line) => {
                check_controls(line)?;
                self.request_line = Some(request_line(line, self.line)?);
                Ok(false)
            }
            (Some(_), []) => Ok(true),
            (Some(_), line) => self.field(line).map(|()| false),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Reason> {
        let (name, value) = split_field(line)?;
        match name.as_str().len() {
            2 if name == header::TE => self.options.takes_trailers |= lists(value, b"trailers"),
            4 if name == header::HOST => self.hosts = self.hosts.saturating_add(1),
            6 if name == header::EXPECT => {
                self.options.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name == header::CONNECTION => {
                self.options.close |= lists(value, b"close");
                self.options.keep_alive |= lists(value, b"keep-alive");
                self.options.upgrades |= lists(value, b"upgrade");
            }
            // It is kept apart, and what is put among the fields is looked through once more.
            13 if name == header::AUTHORIZATION => check_controls(value)?,
            14 if name == header::CONTENT_LENGTH => self.content_length(value)?,
            17 if name == header::TRANSFER_ENCODING => self.transfer_encoding(value)?,
            _ => {}
        }
        self.add(name, value, line)
    }

    fn add(&mut self, name: HeaderName, value: &[u8], line: &[u8]) -> Result<(), Reason> {
        match self.fields.len() {
            MAX_FIELDS => return Err(Reason::HeadTooLarge),
            0 => self.fields.reserve(USUAL_FIELDS),
            _ => {}
        }
        self.fields
            .push((name, Place::of(value, line).behind(self.line)));
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        let length = length(value).ok_or_else(|| misframed(value))?;
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Reason::AmbiguousFraming),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reason> {
        let again = std::mem::replace(&mut self.chunked, true);
        if again || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(misframed(value));
        }
        Ok(())
    }

    /// What only the whole head tells.
    fn content(&self, version: Version) -> Result<Content, Reason> {
        match (version, self.hosts) {
            (_, 1) | (Version::HTTP_10, 0) => {}
            _ => return Err(Reason::AmbiguousHost),
        }
        match (self.chunked, self.length) {
            (false, length) => Ok(Content::Length(length.unwrap_or(0))),
            (true, None) if version == Version::HTTP_11 => Ok(Content::chunked(Reader::OfRequest)),
            (true, _) => Err(Reason::AmbiguousFraming),
        }
    }

    /// The head whose text this is.
    fn into_head(mut self, text: &Bytes, heads: &mut Heads) -> Result<Head, Reason> {
        let Some(line) = self.request_line.take() else {
            return Err(Reason::AmbiguousFraming);
        };
        let content = self.content(line.version)?;
        let wishes = self.options.wishes(line.version);
        let uri = Uri::from_maybe_shared(text.slice(line.target.range()));
        let mut request = Request::new(());
        *request.method_mut() = line.method;
        *request.uri_mut() = uri.map_err(|_| Reason::AmbiguousPath)?;
        *request.version_mut() = line.version;
        let authorization = self.take_authorization(text, heads);
        *request.headers_mut() = self.gather(text)?;
        Ok(Head {
            request,
            brought: Brought {
                // If it is not kept, it lies in the head, and whoever held on to it would hold on to all of that.
                lasts: heads.authorization.is_some(),
                authorization,
            },
            content,
            wishes,
        })
    }

    /// Takes `Authorization` out of the fields, if it is the only one. It is in order, for its line was.
    fn take_authorization(&mut self, text: &Bytes, heads: &mut Heads) -> Option<Secret<Bytes>> {
        let is_one = |(name, _): &(HeaderName, Place)| *name == header::AUTHORIZATION;
        let at = self.fields.iter().position(is_one)?;
        if self.fields.iter().skip(at + 1).any(is_one) {
            return None;
        }
        let (_, place) = self.fields.remove(at);
        if self.is_known {
            return heads.authorization.clone();
        }
        Some(heads.authorization(text, place))
    }

    fn gather(self, text: &Bytes) -> Result<HeaderMap, Reason> {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        for (name, place) in self.fields {
            let value = HeaderValue::from_maybe_shared(text.slice(place.range()));
            let value = value.map_err(|_| unfit(text.get(place.range()).unwrap_or_default()))?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// The value of the line, if it is this `Authorization`, which was found to be in order before.
fn authorization<'l>(line: &'l [u8], known: &[u8]) -> Option<&'l [u8]> {
    const NAME: &[u8] = b"authorization: ";
    let name = line.len().checked_sub(known.len())?;
    let (name, value) = line.split_at(name);
    (name.eq_ignore_ascii_case(NAME) && value == known).then_some(value)
}

impl Options {
    fn wishes(self, version: Version) -> Wishes {
        let is_new = version == Version::HTTP_11;
        Wishes {
            keeps_alive: !self.close && (is_new || self.keep_alive),
            expects_continue: is_new && self.expects_continue,
            takes_trailers: self.takes_trailers,
            upgrades: is_new && self.upgrades,
        }
    }
}

fn check_controls(line: &[u8]) -> Result<(), Reason> {
    match has_controls(line) {
        true => Err(unfit(line)),
        false => Ok(()),
    }
}

/// Why a length or coding that is none is refused: what may not stand in any field is told as that.
fn misframed(value: &[u8]) -> Reason {
    let controls = check_controls(value).err();
    controls.unwrap_or(Reason::AmbiguousFraming)
}

/// Why what may not stand in a field is refused: a carriage return may end a line for another reader.
fn unfit(text: &[u8]) -> Reason {
    match memchr(b'\r', text) {
        Some(_) => Reason::AmbiguousFraming,
        None => Reason::AmbiguousHeader,
    }
}

/// `METHOD SP target SP HTTP/1.x`, with these two spaces and no other. The line begins at `from`.
fn request_line(line: &[u8], from: usize) -> Result<RequestLine, Reason> {
    let (rest, version) = if let Some(rest) = line.strip_suffix(b" HTTP/1.1") {
        (rest, Version::HTTP_11)
    } else if let Some(rest) = line.strip_suffix(b" HTTP/1.0") {
        (rest, Version::HTTP_10)
    } else {
        return Err(Reason::AmbiguousFraming);
    };
    let mut parts = rest.splitn(2, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    if target.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Reason::AmbiguousFraming);
    }
    check_target(target)?;
    Ok(RequestLine {
        method: Method::from_bytes(method).map_err(|_| Reason::AmbiguousFraming)?,
        target: Place::of(target, line).behind(from),
        version,
    })
}

/// Refuses what no target may hold, and the fragment, which whoever parses it would silently drop.
/// Of a target that is no path, the characters do not tell; it is rare, so it is parsed twice.
fn check_target(target: &[u8]) -> Result<(), Reason> {
    check_characters(target)?;
    match target {
        [b'/', ..] | b"*" => Ok(()),
        _ => match Uri::try_from(target) {
            Ok(_) => Ok(()),
            Err(_) => Err(Reason::AmbiguousPath),
        },
    }
}

/// Nearly every target holds nothing but what may stand everywhere in it, which is told without a branch for each
/// byte, so that the compiler can look at many at once.
fn check_characters(target: &[u8]) -> Result<(), Reason> {
    let found = target.iter().fold(0, |found, byte| {
        let odd = (*byte < 0x21) | (*byte > 0x7E);
        let delimits = (*byte == b'"') | (*byte == b'#') | (*byte == b'<') | (*byte == b'>');
        found | u8::from(odd | delimits | (*byte == b'`'))
    });
    match found {
        0 => Ok(()),
        _ => check_each_character(target),
    }
}

fn check_each_character(target: &[u8]) -> Result<(), Reason> {
    let mut reason = Reason::AmbiguousPath;
    for byte in target {
        match byte {
            b' ' | b'\t' => return Err(Reason::AmbiguousFraming),
            b'?' => reason = Reason::AmbiguousQuery,
            b'`' if reason == Reason::AmbiguousQuery => {}
            b'"' | b'#' | b'<' | b'>' | b'`' => return Err(reason),
            0x21..=0x7E => {}
            _ => return Err(reason),
        }
    }
    Ok(())
}

/// Name and value. A line that goes on from the one before (obs-fold) and a space in front of the
/// colon are read in two ways by two servers (RFC 9112 sections 5.1 and 5.2).
fn split_field(line: &[u8]) -> Result<(HeaderName, &[u8]), Reason> {
    let colon = memchr(b':', line).unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    if let (Some(b' ' | b'\t'), _) | (_, Some(b' ' | b'\t')) = (name.first(), name.last()) {
        return Err(Reason::AmbiguousFraming);
    }
    let value = value.strip_prefix(b":").ok_or_else(|| unfit(line))?;
    let name = HeaderName::from_bytes(name).map_err(|_| unfit(line))?;
    Ok((name, without_whitespace(value)))
}

/// Without the optional whitespace around it, which is spaces and tabs alone (RFC 9110 section 5.6.3).
fn without_whitespace(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Framing {
        Length(u64),
        Chunked,
    }

    /// How long a head is, and how its body is framed.
    fn read(head: &str) -> Result<Option<(usize, Framing)>, Reason> {
        let mut input = BytesMut::from(head);
        let taken = Heads::new(32 * 1024, Authorizations::default()).take(&mut input)?;
        Ok(taken.map(|taken| {
            let framing = match taken.content {
                Content::Length(length) => Framing::Length(length),
                Content::Chunked(_) => Framing::Chunked,
                Content::UntilClose { .. } => panic!("a request does not end with its connection"),
            };
            (head.len() - input.len(), framing)
        }))
    }

    #[test]
    fn a_plain_head_tells_how_its_body_ends() {
        for (head, framing) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("GET / HTTP/1.0\r\n\r\n", Framing::Length(0)),
            ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", Framing::Length(0)),
            (
                "POST /a?b HTTP/1.1\r\nhost:a\r\ncontent-length: 42 \t\r\n\r\n",
                Framing::Length(42),
            ),
            (
                "POST / HTTP/1.1\r\nHOST: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nx: \u{e9}\tb\r\ny:\r\n\r\n",
                Framing::Length(0),
            ),
            (
                "GET http://a/?`=1 HTTP/1.1\r\nhost: a\r\n\r\n",
                Framing::Length(0),
            ),
            ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Framing::Length(0)),
        ] {
            assert_eq!(read(head), Ok(Some((head.len(), framing))), "{head:?}");
            let pipelined = format!("{head}GET");
            assert_eq!(
                read(&pipelined),
                Ok(Some((head.len(), framing))),
                "{head:?}"
            );
            assert_eq!(read(&head[..head.len() - 1]), Ok(None), "{head:?}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused_with_its_reason() {
        use Reason::{
            AmbiguousFraming as Framing, AmbiguousHeader as Header, AmbiguousHost as Host,
            AmbiguousPath as Path, AmbiguousQuery as Query,
        };
        for (why, head, reason) in [
            ("TLS", "\u{16}\u{3}\u{1}", Framing),
            ("not HTTP", "(hello)", Framing),
            ("SSH", "SSH-2.0-OpenSSH_9.6\r\n", Framing),
            ("HTTP/2", "PRI * HTTP/2.0\r\n", Framing),
            ("HTTP/0.9", "GET /\r\n", Framing),
            ("another version", "GET / HTTP/1.2\r\n", Framing),
            ("version in lower case", "GET / http/1.1\r\n", Framing),
            ("two spaces", "GET  / HTTP/1.1\r\n", Framing),
            ("two spaces behind", "GET /  HTTP/1.1\r\n", Framing),
            ("a space in the target", "GET /a b HTTP/1.1\r\n", Framing),
            ("a tab", "GET\t/ HTTP/1.1\r\n", Framing),
            ("a space behind the version", "GET / HTTP/1.1 \r\n", Framing),
            ("no target", "GET HTTP/1.1\r\n", Framing),
            ("no method", " / HTTP/1.1\r\n", Framing),
            ("a method that is no token", "G(T / HTTP/1.1\r\n", Framing),
            (
                "two empty lines in front",
                "\r\n\r\nGET / HTTP/1.1\r\n",
                Framing,
            ),
            ("a bare line feed in front", "\nGET / HTTP/1.1\r\n", Framing),
            (
                "a bare line feed",
                "GET / HTTP/1.1\nhost: a\r\n\r\n",
                Framing,
            ),
            (
                "a bare line feed behind a field",
                "GET / HTTP/1.1\r\nhost: a\n\r\n",
                Framing,
            ),
            (
                "a bare line feed at the end",
                "GET / HTTP/1.1\r\nhost: a\r\n\n",
                Framing,
            ),
            (
                "a bare carriage return",
                "GET / HTTP/1.1\r\nx: a\rb\r\nhost: a\r\n\r\n",
                Framing,
            ),
            (
                "a carriage return too many",
                "GET / HTTP/1.1\r\nx: a\r\r\nhost: a\r\n\r\n",
                Framing,
            ),
            (
                "a carriage return in a name",
                "GET / HTTP/1.1\r\nho\rst: a\r\n",
                Framing,
            ),
            (
                "a carriage return for a line",
                "GET / HTTP/1.1\r\n\r\r\n",
                Framing,
            ),
            (
                "a carriage return in the target",
                "GET /\r HTTP/1.1\r\n",
                Framing,
            ),
            (
                "a field that goes on",
                "GET / HTTP/1.1\r\nx: a\r\n b\r\n",
                Framing,
            ),
            (
                "a field that goes on with a colon",
                "GET / HTTP/1.1\r\nx: a\r\n\tb: c\r\n",
                Framing,
            ),
            (
                "a space in front of the first field",
                "GET / HTTP/1.1\r\n host: a\r\n",
                Framing,
            ),
            (
                "a space before the colon",
                "GET / HTTP/1.1\r\nhost : a\r\n",
                Framing,
            ),
            (
                "a tab before the colon",
                "GET / HTTP/1.1\r\ncontent-length\t: 1\r\n",
                Framing,
            ),
            (
                "length twice",
                "GET / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1\r\n",
                Framing,
            ),
            (
                "a list of lengths",
                "GET / HTTP/1.1\r\ncontent-length: 1, 1\r\n",
                Framing,
            ),
            (
                "a signed length",
                "GET / HTTP/1.1\r\ncontent-length: +1\r\n",
                Framing,
            ),
            (
                "a negative length",
                "GET / HTTP/1.1\r\ncontent-length: -1\r\n",
                Framing,
            ),
            (
                "no length",
                "GET / HTTP/1.1\r\ncontent-length:\r\n",
                Framing,
            ),
            (
                "a length beyond 64 bits",
                "GET / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n",
                Framing,
            ),
            (
                "two codings",
                "GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n",
                Framing,
            ),
            (
                "a coding that looks like chunked",
                "GET / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n",
                Framing,
            ),
            (
                "chunked in quotes",
                "GET / HTTP/1.1\r\ntransfer-encoding: \"chunked\"\r\n",
                Framing,
            ),
            (
                "chunked twice",
                "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                Framing,
            ),
            (
                "coding and length",
                "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
                Framing,
            ),
            (
                "length and coding",
                "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "chunked in HTTP/1.0",
                "GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "NUL in a value",
                "GET / HTTP/1.1\r\nx: a\0b\r\nhost: a\r\n\r\n",
                Header,
            ),
            (
                "escape in a value",
                "GET / HTTP/1.1\r\nx: a\u{1b}b\r\nhost: a\r\n\r\n",
                Header,
            ),
            (
                "delete in a value",
                "GET / HTTP/1.1\r\nx: a\u{7f}b\r\nhost: a\r\n\r\n",
                Header,
            ),
            (
                "a form feed behind a value",
                "GET / HTTP/1.1\r\nx: a\u{c}\r\nhost: a\r\n\r\n",
                Header,
            ),
            (
                "a carriage return in front of a value",
                "GET / HTTP/1.1\r\nx: \ra\r\nhost: a\r\n\r\n",
                Framing,
            ),
            (
                "NUL in an Authorization",
                "GET / HTTP/1.1\r\nauthorization: Bearer a\0b\r\n",
                Header,
            ),
            (
                "a carriage return behind an Authorization",
                "GET / HTTP/1.1\r\nauthorization: Bearer a\r\r\n",
                Framing,
            ),
            ("no colon", "GET / HTTP/1.1\r\nhost\r\n", Header),
            ("no name", "GET / HTTP/1.1\r\n: a\r\n", Header),
            ("a space in a name", "GET / HTTP/1.1\r\na b: c\r\n", Header),
            (
                "a name beyond ASCII",
                "GET / HTTP/1.1\r\nh\u{f6}st: c\r\n",
                Header,
            ),
            ("no host", "GET / HTTP/1.1\r\nx: a\r\n\r\n", Host),
            (
                "two hosts",
                "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
                Host,
            ),
            (
                "two hosts in HTTP/1.0",
                "GET / HTTP/1.0\r\nhost: a\r\nHost: b\r\n\r\n",
                Host,
            ),
            ("a fragment", "GET /a#b HTTP/1.1\r\n", Path),
            ("a quote", "GET /a\"b HTTP/1.1\r\n", Path),
            ("a backtick in the path", "GET /a`b HTTP/1.1\r\n", Path),
            ("an open bracket", "GET http://[::1/ HTTP/1.1\r\n", Path),
            ("no form of a target", "GET a:b:c HTTP/1.1\r\n", Path),
            ("a path beyond ASCII", "GET /caf\u{e9} HTTP/1.1\r\n", Path),
            (
                "a query beyond ASCII",
                "GET /?caf\u{e9} HTTP/1.1\r\n",
                Query,
            ),
            (
                "a fragment behind the query",
                "GET /?a#b HTTP/1.1\r\n",
                Query,
            ),
        ] {
            assert_eq!(read(head), Err(reason), "{why}");
        }
    }

    #[test]
    fn the_nearer_limit_gives_the_reason() {
        let head = |target: usize, field: usize| {
            format!(
                "GET /{} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
                "a".repeat(target),
                "b".repeat(field)
            )
        };
        for (target, field, max_head, reason) in [
            (8000, 10, 32 * 1024, None),
            (8200, 10, 32 * 1024, Some(Reason::UriTooLong)),
            (8200, 10, 4096, Some(Reason::HeadTooLarge)),
            (10, 4200, 4096, Some(Reason::HeadTooLarge)),
            (10, 4200, 8192, None),
        ] {
            let head = head(target, field);
            let whole = Scan::default().read(head.as_bytes(), max_head, None).err();
            assert_eq!(whole, reason, "{target} {field} {max_head}");
            let mut scan = Scan::default();
            let drip = (1..=head.len())
                .find_map(|at| scan.read(&head.as_bytes()[..at], max_head, None).err());
            assert_eq!(
                drip, reason,
                "{target} {field} {max_head}, a byte at a time"
            );
        }
    }

    #[test]
    fn more_than_a_hundred_fields_are_too_many() {
        let head = |fields: usize| {
            format!(
                "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
                "x: 1\r\n".repeat(fields)
            )
        };
        assert!(matches!(read(&head(99)), Ok(Some(_))));
        assert_eq!(read(&head(100)), Err(Reason::HeadTooLarge));
    }
}
