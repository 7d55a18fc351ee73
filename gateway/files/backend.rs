//! Backends as they are written: what is called, how, and with which credential.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::credential::{Credential, credential};
use super::decode::{Table, spanned};
use super::diagnostics::Diagnostics;
use super::limit::{Concurrency, shared_concurrency};
use super::node::{Entry, Node};
use super::secret::literal_secret;
use super::source::{Span, Spanned};
use super::values::{choice, duration, path, url};

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// An Azure Functions app.
    Function,
    /// The trigger of a Logic App: its URL is called as it stands.
    LogicApp,
    /// Anything else that speaks HTTP.
    Http,
}

const KINDS: [(&str, BackendKind); 3] = [
    ("function", BackendKind::Function),
    ("logicApp", BackendKind::LogicApp),
    ("http", BackendKind::Http),
];

impl BackendKind {
    /// The longest wait for the first byte of an answer, where the file says none: a Logic App is
    /// cut off after 120 s, a Function after 230 s, of which 5 s are left to the gateway's side.
    const fn first_byte(self) -> Duration {
        Duration::from_secs(match self {
            Self::Function => 225,
            Self::LogicApp => 120,
            Self::Http => 100,
        })
    }
}

/// The protocol that a backend is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

/// How long the gateway waits for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included. Default 5 s.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer. Default by kind: 100 s for
    /// `http`, 225 s for `function`, 120 s for `logicApp`.
    pub first_byte: Duration,
    /// Between two bytes of the answer. Default 60 s.
    pub idle: Duration,
}

/// A backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// What it is.
    pub kind: BackendKind,
    /// Where it is: `https`, or `http` on this machine. Only a Logic App's has a query, which is
    /// `api-version` alone.
    pub url: Spanned<Uri>,
    /// What the gateway presents to it.
    pub credential: Spanned<Credential>,
    /// A PEM file of roots to trust for it, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// The protocol. Default HTTP/1.1.
    pub protocol: Protocol,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// How many requests are under way to it at once.
    pub concurrency: Option<Spanned<Concurrency>>,
}

/// Takes a backend apart.
pub(super) fn backend(node: &Node, d: &mut Diagnostics) -> Option<Backend> {
    const PROTOCOLS: [(&str, Protocol); 2] =
        [("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let mut table = Table::of(
        node,
        "a backend with its kind, its URL and a `credential`",
        d,
    )?;
    let place = place(&mut table, d);
    let help = "say what the gateway presents to the backend; write `credential: none` if it really is to be called bare";
    let credential = table.required("credential", help, d, spanned(credential));
    let ca = table.optional("ca", d, spanned(path));
    let protocol = table.optional("protocol", d, |node, d| choice(node, &PROTOCOLS, d));
    let kind = place.as_ref().map_or(BackendKind::Http, |(kind, _)| *kind);
    let timeouts = timeouts(table.section("timeouts", d), kind, d);
    let concurrency = table.optional("concurrency", d, spanned(shared_concurrency));
    table.finish(d);
    let (kind, url) = place?;
    if let Some(written) = &credential
        && matches!(written.value, Credential::Sas { .. })
        && kind != BackendKind::LogicApp
    {
        d.error(
            &written.span,
            "only Logic Apps are called with a SAS signature",
        )
        .help("use `functionKey` for a Function, or `header`");
    }
    Some(Backend {
        kind,
        url,
        credential: credential?,
        ca,
        protocol: protocol.unwrap_or_default(),
        timeouts,
        concurrency,
    })
}

/// The one key that says what and where the backend is.
fn place(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<(BackendKind, Spanned<Uri>)> {
    let written: Vec<(BackendKind, &Entry)> = KINDS
        .iter()
        .filter_map(|(key, kind)| Some((*kind, table.entry(key)?)))
        .collect();
    let read = |(kind, entry): &(BackendKind, &Entry), d: &mut Diagnostics| {
        let decode = |node: &Node, d: &mut Diagnostics| backend_url(node, *kind, d);
        let url = spanned(decode)(&entry.value, d)?;
        Some((*kind, url))
    };
    match written.as_slice() {
        [] => {
            d.error(table.title(), "this backend does not say where it is")
                .help("write `function:`, `logicApp:` or `http:` with its URL");
            None
        }
        [one] => read(one, d),
        [first, others @ ..] => {
            for (_, other) in others {
                d.error(&other.span, "a backend is one thing only")
                    .also(&first.1.span, "and this says already what it is")
                    .help("write two backends, each with a name of its own");
            }
            read(first, d)
        }
    }
}

fn backend_url(node: &Node, kind: BackendKind, d: &mut Diagnostics) -> Option<Uri> {
    let url = url(node, d)?;
    let query = url.query().unwrap_or_default();
    let names: Vec<String> = query.split(['&', ';']).map(parameter_name).collect();
    let mut of_segments = url.path().split(';').skip(1).map(parameter_name);
    let mut of_query = names.iter();
    if of_segments.any(|name| is_key_like(&name)) || of_query.any(|name| is_key_like(name)) {
        literal_secret(&node.span, d).help(
            "leave the signature or key out of the URL: the gateway calls with the `credential`",
        );
        return None;
    }
    match kind {
        _ if url.query().is_none() => Some(url),
        BackendKind::LogicApp if names.iter().eq(["api-version"]) => Some(url),
        BackendKind::LogicApp => refuse_query(
            &node.span,
            "the query of a Logic App's URL holds `api-version` and nothing else",
            d,
        ),
        BackendKind::Function | BackendKind::Http => {
            refuse_query(&node.span, "a backend's URL has no query (`?`) here", d)
        }
    }
}

fn refuse_query(span: &Span, message: &str, d: &mut Diagnostics) -> Option<Uri> {
    d.error(span, message)
        .help("remove the rest of it; the caller's own query is appended");
    None
}

/// The parameters of SAS URLs and of Functions' keys.
fn is_key_like(name: &str) -> bool {
    ["sig", "sp", "sv", "se", "code"].contains(&name)
}

/// A parameter's name, decoded and folded: a key is a key in any spelling.
fn parameter_name(parameter: &str) -> String {
    let name = parameter.split('=').next().unwrap_or_default();
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, after.get(2..)) {
            (Some(byte), Some(after)) => {
                decoded.push(char::from(byte));
                rest = after;
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded.to_ascii_lowercase()
}

fn timeouts(mut table: Table<'_>, kind: BackendKind, d: &mut Diagnostics) -> Timeouts {
    const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);
    let connect = table.optional("connect", d, |node, d| duration(node, BOUNDS, d));
    let first_byte = table.optional("firstByte", d, |node, d| duration(node, BOUNDS, d));
    let idle = table.optional("idle", d, |node, d| duration(node, BOUNDS, d));
    table.finish(d);
    Timeouts {
        connect: connect.unwrap_or(Duration::from_secs(5)),
        first_byte: first_byte.unwrap_or(kind.first_byte()),
        idle: idle.unwrap_or(Duration::from_secs(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::parameter_name;

    #[test]
    fn a_parameter_is_known_in_any_spelling() {
        for (written, name) in [
            ("sig=abc", "sig"),
            ("%73IG=abc", "sig"),
            ("s%69g", "sig"),
            ("a%zz=1", "a%zz"),
            ("a%", "a%"),
            ("%4", "%4"),
            ("", ""),
        ] {
            assert_eq!(parameter_name(written), name, "{written}");
        }
    }
}
