//! What goes out over OTLP: spans, records of decisions, metrics.
//! <https://opentelemetry.io/docs/specs/otlp/>

mod metrics;
mod spans;
mod wire;

pub use metrics::Temporality;
pub(super) use metrics::metrics;
pub(super) use spans::{DECISION, Item, decision, event, sent, served};
pub(super) use wire::{Message, nanos};

/// Who sends.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The resource, as the field of a request that it is.
    resource: Vec<u8>,
    /// Who made the items, and by which conventions: fields of the scope.
    scope: Vec<u8>,
}

impl Resource {
    /// The resource with these attributes.
    pub fn new(attributes: &[(String, String)]) -> Self {
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        Message::new(&mut resource).message(1, |resource| {
            for (name, value) in attributes {
                resource.text_attribute(1, name, value.as_bytes());
            }
        });
        let mut fields = Message::new(&mut scope);
        fields.message(1, |who| {
            who.bytes(1, b"portcullis");
            who.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
        });
        fields.bytes(3, SCHEMA.as_bytes());
        Self { resource, scope }
    }

    /// What stands in a request before items of one kind that take so many bytes, each of them a field 2 of the scope.
    pub(super) fn before(&self, length: usize) -> Vec<u8> {
        let mut inner = self.resource.clone();
        Message::new(&mut inner).before_bytes(2, self.scope.len() + length);
        inner.extend_from_slice(&self.scope);
        let mut out = Vec::with_capacity(inner.len() + 16);
        Message::new(&mut out).before_bytes(1, inner.len() + length);
        out.append(&mut inner);
        out
    }
}

/// The version of the semantic conventions.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The field of a scope that holds spans, records or metrics.
const ITEM: u32 = 2;
