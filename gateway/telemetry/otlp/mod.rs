//! What goes out over OTLP: spans, records of decisions, metrics.
//! <https://opentelemetry.io/docs/specs/otlp/>

mod metrics;
mod spans;
mod wire;

pub use metrics::Temporality;
pub(super) use metrics::metrics;
pub(super) use spans::{DECISION, decision, event, spans};
pub(super) use wire::Message;

/// Who sends.
#[derive(Clone, Debug)]
pub struct Resource(Vec<u8>);

impl Resource {
    /// The resource with these attributes.
    pub fn new(attributes: &[(String, String)]) -> Self {
        let mut bytes = Vec::new();
        let mut resource = Message::new(&mut bytes);
        for (name, value) in attributes {
            resource.text_attribute(1, name, value);
        }
        Self(bytes)
    }

    /// A whole request: the items of one kind, each of them a field 2 of a scope's.
    pub(super) fn request(&self, items: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        self.request_in(items, &mut out);
        out
    }

    /// The same, in memory that is there.
    pub(super) fn request_in(&self, items: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = items.iter().map(|piece| piece.len()).sum();
        out.reserve(length + self.0.len() + 256);
        Message::new(out).message_of(1, length, |resource| {
            resource.bytes(1, &self.0);
            resource.message_of(2, length, |scope| {
                scope.message(1, |who| {
                    who.bytes(1, b"portcullis");
                    who.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
                });
                for piece in items {
                    scope.raw(piece);
                }
                scope.bytes(3, SCHEMA.as_bytes());
            });
        });
    }
}

/// The version of the semantic conventions.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The field of a scope that holds spans, records or metrics.
const ITEM: u32 = 2;
