//! Heads: a request's is written, an answer's is read, and says how its body is framed (RFC 9112 sections 3, 4
//! and 6.3). What can be read in two ways is no answer.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::Fault;
use crate::http1::{Content, Place, Reader, length, lists, may_have_body, take_off, write_field};
use crate::upstream::outgoing::Outgoing;

/// The most fields of an answer.
const MOST_FIELDS: usize = 100;

/// Room for fields that the gateway puts in, so that the map need not grow.
const ADDED_LATER: usize = 4;

/// The head of an answer.
pub(in crate::upstream) struct Head {
    pub(in crate::upstream) response: Response<()>,
    pub(super) content: Content,
    /// Whether the connection may serve another request.
    pub(super) keeps_alive: bool,
}

/// Writes the head of a request. A body of unknown length is framed by chunks.
pub(super) fn write(head: &Outgoing<'_>, is_chunked: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in head.fields() {
        write_field(name, value, out);
    }
    for block in head.blocks() {
        out.extend_from_slice(block.lines());
    }
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes the head of the final answer off `input`, if it is all there. Interim answers are passed over
/// (RFC 9110 section 15.2).
pub(super) fn take(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, Fault> {
    while !input.is_empty() {
        let Some((status, version, fields)) = take_any(input)? else {
            return Ok(None);
        };
        let Fields { headers, framing } = fields;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let content = framing.content(method, status, version)?;
        // A length beside a coding may be somebody's attempt to split answers (RFC 9112 section 6.3).
        let is_chunked = matches!(content, Content::Chunked(_));
        let is_odd = is_chunked && framing.length != Length::Unsaid;
        // Behind 101, another protocol is spoken.
        let keeps_alive = version == 1
            && !status.is_informational()
            && !matches!(content, Content::UntilClose { .. })
            && !is_odd
            && !framing.closes;
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        return Ok(Some(Head {
            response,
            content,
            keeps_alive,
        }));
    }
    Ok(None)
}

/// The fields of an answer, and what they say of the message that they stand in.
struct Fields {
    headers: HeaderMap,
    framing: Framing,
}

/// What fields say of where the body ends, and the connection.
#[derive(Default)]
struct Framing {
    length: Length,
    coding: Coding,
    closes: bool,
}

#[derive(Default, PartialEq)]
enum Length {
    #[default]
    Unsaid,
    /// However often, in the same words. None for one that is no number.
    Said(Option<u64>),
    /// Not the same each time.
    Unclear,
}

#[derive(Default, PartialEq)]
enum Coding {
    #[default]
    None,
    Chunked,
    /// One that only HTTP/1.0 or nobody knows, or more than one: it ends nowhere for sure.
    Unknown,
}

type Raw = (StatusCode, u8, Fields);

fn take_any(input: &mut BytesMut) -> Result<Option<Raw>, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Fault::Malformed("what came is no HTTP/1.1")),
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
    let status = status.map_err(|_| Fault::Malformed("the status is none"))?;
    let version = parsed.version.unwrap_or_default();
    // Where the fields stand, for they cannot be borrowed while the head is split off.
    let place = |text| Place::of(text, input);
    let mut places = [(Place::default(), Place::default()); MOST_FIELDS];
    let count = parsed.headers.len();
    for (at, field) in places.iter_mut().zip(parsed.headers.iter()) {
        *at = (place(field.name.as_bytes()), place(field.value));
    }
    let head = take_off(length, input);
    let fields = gather(&head, places.get(..count).unwrap_or_default())?;
    Ok(Some((status, version, fields)))
}

fn gather(head: &Bytes, places: &[(Place, Place)]) -> Result<Fields, Fault> {
    let wrong = || Fault::Malformed("a field of the answer cannot be read");
    let mut headers = HeaderMap::with_capacity(places.len() + ADDED_LATER);
    let mut framing = Framing::default();
    for (name, value) in places {
        let name = HeaderName::from_bytes(head.get(name.range()).unwrap_or_default());
        let value = HeaderValue::from_maybe_shared(head.slice(value.range()));
        let (name, value) = (name.map_err(|_| wrong())?, value.map_err(|_| wrong())?);
        if name == header::CONTENT_LENGTH
            && let Some(first) = headers.get(&name)
        {
            // What is said twice is passed on once.
            if *first != value {
                framing.length = Length::Unclear;
            }
            continue;
        }
        framing.note(&name, &value);
        headers.append(name, value);
    }
    Ok(Fields { headers, framing })
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == header::CONTENT_LENGTH {
            self.length = Length::Said(length(value.as_bytes()));
        } else if *name == header::TRANSFER_ENCODING {
            let coding = value.as_bytes().trim_ascii();
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.coding = match self.coding {
                Coding::None if is_chunked => Coding::Chunked,
                _ => Coding::Unknown,
            };
        } else if *name == header::CONNECTION {
            self.closes |= lists(value.as_bytes(), b"close");
        }
    }

    /// RFC 9112 section 6.3. A length beside a coding is passed over, as there; the caller never sees it.
    fn content(&self, method: &Method, status: StatusCode, version: u8) -> Result<Content, Fault> {
        if !may_have_body(*method == Method::HEAD, status) {
            return Ok(Content::Length(0));
        }
        match self.coding {
            Coding::None => {}
            Coding::Chunked if version == 1 => return Ok(Content::chunked(Reader::OfAnswer)),
            _ => return Err(Fault::Malformed("an unknown transfer coding")),
        }
        match self.length {
            Length::Unsaid => Ok(Content::UntilClose { ended: false }),
            Length::Said(Some(length)) => Ok(Content::Length(length)),
            Length::Said(None) => Err(Fault::Malformed("a length that is none")),
            Length::Unclear => Err(Fault::Malformed("two lengths")),
        }
    }
}
