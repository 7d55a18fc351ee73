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
        let Some((status, version, mut headers)) = take_any(input)? else {
            return Ok(None);
        };
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let content = content(method, status, version, &headers)?;
        say_once(&header::CONTENT_LENGTH, &mut headers);
        // A length beside a coding may be somebody's attempt to split answers (RFC 9112 section 6.3).
        let is_chunked = matches!(content, Content::Chunked(_));
        let is_odd = is_chunked && headers.contains_key(header::CONTENT_LENGTH);
        // Behind 101, another protocol is spoken.
        let keeps_alive = version == 1
            && !status.is_informational()
            && !matches!(content, Content::UntilClose { .. })
            && !is_odd
            && !headers
                .get_all(header::CONNECTION)
                .iter()
                .any(|value| lists(value.as_bytes(), b"close"));
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

/// One of several fields that say the same.
fn say_once(name: &HeaderName, headers: &mut HeaderMap) {
    if headers.get_all(name).iter().nth(1).is_some()
        && let Some(one) = headers.remove(name)
    {
        headers.insert(name, one);
    }
}

type Raw = (StatusCode, u8, HeaderMap);

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
    let headers = gather(&head, places.get(..count).unwrap_or_default())?;
    Ok(Some((status, version, headers)))
}

fn gather(head: &Bytes, places: &[(Place, Place)]) -> Result<HeaderMap, Fault> {
    let wrong = || Fault::Malformed("a field of the answer cannot be read");
    let mut headers = HeaderMap::with_capacity(places.len() + ADDED_LATER);
    for (name, value) in places {
        let name = HeaderName::from_bytes(head.get(name.range()).unwrap_or_default());
        let value = HeaderValue::from_maybe_shared(head.slice(value.range()));
        headers.append(name.map_err(|_| wrong())?, value.map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// RFC 9112 section 6.3. A length beside a coding is passed over, as there; the caller never sees it.
fn content(
    method: &Method,
    status: StatusCode,
    version: u8,
    headers: &HeaderMap,
) -> Result<Content, Fault> {
    if !may_have_body(*method == Method::HEAD, status) {
        return Ok(Content::Length(0));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked");
        // Codings that only HTTP/1.0 or nobody knows end nowhere for sure.
        return match is_chunked && codings.next().is_none() && version == 1 {
            true => Ok(Content::chunked(Reader::OfAnswer)),
            false => Err(Fault::Malformed("an unknown transfer coding")),
        };
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(Content::UntilClose { ended: false });
    };
    if lengths.any(|other| other != first) {
        return Err(Fault::Malformed("two lengths"));
    }
    length(first.as_bytes())
        .map(Content::Length)
        .ok_or(Fault::Malformed("a length that is none"))
}
