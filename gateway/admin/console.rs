//! The page for people: three files that stand in the program, and nothing from anywhere else.

use http::{HeaderValue, StatusCode, header};

use super::answer::{Answer, of_kind};

/// Nothing but the page's own files, and nobody may put it into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) fn page() -> Answer {
    served(
        "text/html; charset=utf-8",
        include_str!("console/index.html"),
    )
}

/// Its style.
pub(super) fn style() -> Answer {
    served(
        "text/css; charset=utf-8",
        include_str!("console/console.css"),
    )
}

/// Its script.
pub(super) fn script() -> Answer {
    served(
        "text/javascript; charset=utf-8",
        include_str!("console/console.js"),
    )
}

fn served(kind: &'static str, text: &'static str) -> Answer {
    let mut answer = of_kind(StatusCode::OK, kind, text);
    let fields = answer.headers_mut();
    fields.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    fields.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    answer
}
