//! Diagnostics as SARIF, which code hosts show beside the changed lines.
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};

use super::diagnostics::{Diagnostic, Label, Severity};

/// The one rule that every fault breaks: each says itself what is wrong.
const RULE: &str = "policy";

/// All of them as one run of one tool. No line of a file is in it, for a line may hold a secret.
pub(super) fn sarif(found: &[&Diagnostic]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "portcullis",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": [{
                    "id": RULE,
                    "shortDescription": { "text": "Policies say what they are meant to say" },
                }],
            } },
            "columnKind": "unicodeCodePoints",
            "results": found.iter().map(|found| result(found)).collect::<Vec<_>>(),
        }],
    })
}

fn result(found: &Diagnostic) -> Value {
    let primary = found.primary();
    let said = [found.message(), &primary.text].into_iter();
    let said = said.chain(found.helps().iter().map(String::as_str));
    let said: Vec<&str> = said.filter(|text| !text.is_empty()).collect();
    let related = found.related().iter().map(|label| {
        let mut location = location(label);
        if let Some(location) = location.as_object_mut() {
            location.insert("message".to_owned(), json!({ "text": label.text }));
        }
        location
    });
    json!({
        "ruleId": RULE,
        "level": match found.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "message": { "text": said.join("; ") },
        "locations": [location(primary)],
        "relatedLocations": related.collect::<Vec<_>>(),
    })
}

fn location(label: &Label) -> Value {
    let (start, end) = (label.span.start(), label.span.end());
    json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(label.span.source().name()) },
            "region": {
                "startLine": start.line,
                "startColumn": start.column,
                "endLine": end.line,
                "endColumn": end.column,
            },
        },
    })
}

/// A path as a relative reference (RFC 3986 section 4.2): what may not stand in one is encoded.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::files::{Diagnostics, parse_policies};

    #[test]
    fn a_fault_becomes_a_result_with_its_place_and_without_the_line() {
        let mut diagnostics = Diagnostics::new();
        let text = "tenants:\n  a: 11111111-1111-1111-1111-111111111111\n  A: 11111111-1111-1111-1111-111111111112\n";
        parse_policies(&[(Path::new("./a b.yaml"), text)], &mut diagnostics);
        let told = diagnostics.to_sarif();
        assert_eq!(
            told["runs"][0]["results"],
            json!([{
                "ruleId": "policy",
                "level": "error",
                "message": { "text": "there are two tenants of this name; and again here; names that differ in case alone count as one; rename or remove one of the two" },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": "a%20b.yaml" },
                    "region": { "startLine": 3, "startColumn": 3, "endLine": 3, "endColumn": 4 },
                } }],
                "relatedLocations": [{
                    "message": { "text": "first named here" },
                    "physicalLocation": {
                        "artifactLocation": { "uri": "a%20b.yaml" },
                        "region": { "startLine": 2, "startColumn": 3, "endLine": 2, "endColumn": 4 },
                    },
                }],
            }])
        );
        assert!(!told.to_string().contains("1111"));
    }
}
