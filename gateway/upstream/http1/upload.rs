//! A request on its way out.

use http::header::{self, HeaderValue};
use http_body::Body as _;

use super::head;
use crate::http1::{Coding, Scratch, Sending, length};
use crate::upstream::body::RequestBody;
use crate::upstream::outgoing::Outgoing;

/// A request that is being sent.
pub(in crate::upstream) type Upload = Sending<RequestBody>;

/// The request that is to be sent.
pub(in crate::upstream) fn upload(
    head: &Outgoing<'_>,
    body: RequestBody,
    scratch: Scratch,
) -> Upload {
    let coding = coding(head, &body);
    let is_chunked = coding == Coding::Chunked;
    let mut out = scratch.take();
    head::write(head, is_chunked, &mut out);
    let announced = match is_chunked {
        true => head.all(&header::TRAILER).cloned().collect(),
        false => Vec::new(),
    };
    Sending::new(out, body, coding, announced, scratch)
}

/// A request without a body, whose head is there.
pub(in crate::upstream) fn bodiless(head: Vec<u8>, body: RequestBody, scratch: Scratch) -> Upload {
    Sending::new(head, body, Coding::Done, Vec::new(), scratch)
}

/// What is said in another protocol, as it comes.
pub(in crate::upstream) fn as_it_is(body: RequestBody, scratch: Scratch) -> Upload {
    Sending::new(Vec::new(), body, Coding::UntilClose, Vec::new(), scratch).once()
}

/// Has it go to another host, as long as nothing of it was sent.
pub(in crate::upstream) fn readdress(upload: &mut Upload, host: &HeaderValue) {
    // The only line of this name: what a caller sends under it never gets here, and no value holds a line break.
    const HOST: &[u8] = b"\r\nhost: ";
    let place = upload.unsent().and_then(|head| {
        let start = memchr::memmem::find(head, HOST)? + HOST.len();
        let length = memchr::memchr(b'\r', head.get(start..)?)?;
        Some(start..start + length)
    });
    if let Some(place) = place {
        upload.replace(place, host.as_bytes());
    }
}

/// A body of unknown length is framed by chunks.
fn coding(head: &Outgoing<'_>, body: &RequestBody) -> Coding {
    match head.callers(&header::CONTENT_LENGTH) {
        None if body.is_end_stream() => Coding::Done,
        None => Coding::Chunked,
        Some(said) => {
            // The canonical form lets no other through.
            match length(said.as_bytes()).unwrap_or_default() {
                0 if body.is_end_stream() => Coding::Done,
                length => Coding::Length(length),
            }
        }
    }
}
