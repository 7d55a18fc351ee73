//! Certificates of callers as those in front pass them on, who have ended TLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::HeaderName;
use rustls::pki_types::CertificateDer;

use super::clients::certificates;
use crate::files::CertificateHeader;
use crate::fingerprint::decoded;

/// Container Apps and Envoy.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert>
const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// App Service.
/// <https://learn.microsoft.com/azure/app-service/app-service-web-configure-tls-mutual-auth>
const ARR: HeaderName = HeaderName::from_static("x-arr-clientcert");

/// What a request brings of its caller's certificate.
#[derive(Debug, PartialEq, Eq)]
pub enum PassedOn {
    /// Nothing.
    Nothing,
    /// The certificate, and what leads to its issuer.
    Chain(Vec<CertificateDer<'static>>),
    /// Something that cannot be read in one way alone.
    Unreadable,
}

impl PassedOn {
    /// Reads the field.
    pub fn read(headers: &HeaderMap, from: CertificateHeader) -> Self {
        let name = match from {
            CertificateHeader::ForwardedClientCert => XFCC,
            CertificateHeader::ArrClientCert => ARR,
        };
        let mut values = headers.get_all(name).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Nothing,
            (Some(value), None) => value.as_bytes(),
            (Some(_), Some(_)) => return Self::Unreadable,
        };
        let chain = match from {
            CertificateHeader::ForwardedClientCert => forwarded(value),
            CertificateHeader::ArrClientCert => leaf(value),
        };
        match chain {
            Some(chain) if !chain.is_empty() => Self::Chain(chain),
            _ => Self::Unreadable,
        }
    }
}

/// `Cert` and `Chain` of the only element. Several mean that some hop has appended to what a caller sent.
fn forwarded(value: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let pairs = pairs(value)?;
    let of = |key: &str| {
        let mut found = pairs
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(key));
        match (found.next(), found.next()) {
            (found, None) => Some(found.map(|(_, value)| *value)),
            _ => None,
        }
    };
    let leaf = pem(of("Cert")??)?;
    let mut chain = match of("Chain")? {
        None => Vec::new(),
        Some(chain) => pem(chain)?,
    };
    let [leaf] = <[_; 1]>::try_from(leaf).ok()?;
    chain.retain(|one| *one != leaf);
    chain.insert(0, leaf);
    Some(chain)
}

type Pair<'v> = (&'v str, &'v [u8]);

/// The pairs of one element; values may be quoted, and hold what separates others then.
fn pairs(value: &[u8]) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    let mut rest = value;
    loop {
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let (name, behind) = rest.split_at_checked(equals)?;
        let name = std::str::from_utf8(name).ok()?.trim();
        let behind = behind.get(1..)?;
        let (value, behind) = match behind.strip_prefix(b"\"") {
            None => {
                let end = behind.iter().position(|byte| *byte == b';');
                let (value, behind) = behind.split_at_checked(end.unwrap_or(behind.len()))?;
                // Behind a comma there is another element.
                if value.contains(&b',') {
                    return None;
                }
                (value, behind)
            }
            Some(quoted) => {
                let end = end_of_quoted(quoted)?;
                let (value, behind) = quoted.split_at_checked(end)?;
                (value, behind.get(1..)?)
            }
        };
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_whole = matches!(behind.first(), None | Some(b';'));
        if !is_plain || !is_whole {
            return None;
        }
        pairs.push((name, value));
        match behind.get(1..).unwrap_or_default() {
            [] => return Some(pairs),
            next => rest = next,
        }
    }
}

/// Where the quotation mark is that closes. Names of subjects hold what is escaped (RFC 4514 section 2.4).
fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|byte| {
        let closes = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        closes
    })
}

/// PEM with percent codes, as Envoy writes it, or as it is, with spaces for line breaks.
fn pem(value: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    if value.contains(&b'\\') {
        return None;
    }
    let text = match value.contains(&b'%') {
        true => decoded(value),
        false => lines(value),
    };
    certificates(&text)
}

/// A field holds no line breaks, so whoever passes PEM on as it is has put spaces in their place.
fn lines(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let broken = text.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN_CERTIFICATE-----");
    let broken = broken.replace("-----END CERTIFICATE-----", "-----END_CERTIFICATE-----");
    let broken = broken.replace(char::is_whitespace, "\n");
    let whole = broken.replace("_CERTIFICATE-----", " CERTIFICATE-----\n");
    whole.replace("-----END", "\n-----END").into_bytes()
}

/// The certificate alone, in base64.
fn leaf(value: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    if value.starts_with(b"-----BEGIN") {
        return certificates(&lines(value));
    }
    let der = STANDARD.decode(value.trim_ascii()).ok()?;
    Some(vec![CertificateDer::from(der)])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::demo::ca::Ca;

    fn percent(text: &str) -> String {
        let coded = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        coded.collect()
    }

    fn read(name: HeaderName, from: CertificateHeader, values: &[String]) -> PassedOn {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(name.clone(), value);
        }
        PassedOn::read(&headers, from)
    }

    #[test]
    fn one_element_of_envoys_field_is_read_in_either_spelling() {
        let ca = Ca::new().expect("a CA");
        let pem = ca.certificate(&["client"]).expect("made").cert_pem;
        let leaf = certificates(pem.as_bytes()).expect("one");
        let both = [
            leaf.clone(),
            certificates(ca.pem().as_bytes()).expect("one"),
        ]
        .concat();
        let (coded, spaced) = (percent(&pem), pem.trim().replace(['\n', '\r'], " "));
        let chain = percent(&format!("{pem}{}", ca.pem()));
        let chained = |chain: &[CertificateDer<'static>]| PassedOn::Chain(chain.to_vec());
        for (value, expected) in [
            (format!("Hash=ab;Cert=\"{coded}\""), chained(&leaf)),
            (format!("Cert={coded}"), chained(&leaf)),
            (format!("hash=ab;CERT=\"{spaced}\""), chained(&leaf)),
            (
                format!("Cert=\"{coded}\";Chain=\"{chain}\""),
                chained(&both),
            ),
            (
                format!("By=spiffe://a;Cert=\"{coded}\";Subject=\"CN=a,O=b\""),
                chained(&leaf),
            ),
            (format!("Hash=ab;Cert=\"{coded}\";"), chained(&leaf)),
            // What a hop has appended to what a caller sent, and what is said twice.
            (
                format!("Cert=\"{coded}\",Cert=\"{coded}\""),
                PassedOn::Unreadable,
            ),
            (format!("Hash=a,Cert=\"{coded}\""), PassedOn::Unreadable),
            (
                format!("Cert=\"{coded}\";Cert=\"{coded}\""),
                PassedOn::Unreadable,
            ),
            (
                format!("Subject=\"a\\\";Cert=\"{coded}\""),
                PassedOn::Unreadable,
            ),
            (
                format!("Subject=\"O=Fabrikam\\, Inc.,CN=a\\\";b\\\\\";Cert=\"{coded}\""),
                chained(&leaf),
            ),
            (format!("Cert=\"{coded}\\\""), PassedOn::Unreadable),
            (format!("Cert=\"\\{coded}\""), PassedOn::Unreadable),
            (format!("Cert=\"{chain}\""), PassedOn::Unreadable),
            ("Hash=ab".to_owned(), PassedOn::Unreadable),
            ("Cert=\"\"".to_owned(), PassedOn::Unreadable),
            ("Cert=\"%00\"".to_owned(), PassedOn::Unreadable),
            (String::new(), PassedOn::Unreadable),
        ] {
            let got = read(
                XFCC,
                CertificateHeader::ForwardedClientCert,
                std::slice::from_ref(&value),
            );
            assert_eq!(got, expected, "{value}");
        }
        let value = format!("Cert=\"{coded}\"");
        let twice = [value.clone(), value];
        let got = read(XFCC, CertificateHeader::ForwardedClientCert, &twice);
        assert_eq!(got, PassedOn::Unreadable);
        let none = read(ARR, CertificateHeader::ForwardedClientCert, &[coded]);
        assert_eq!(none, PassedOn::Nothing, "the other field says nothing");
    }

    #[test]
    fn app_services_field_is_read_as_der_or_pem() {
        let ca = Ca::new().expect("a CA");
        let pem = ca.certificate(&["client"]).expect("made").cert_pem;
        let leaf = certificates(pem.as_bytes()).expect("one");
        for (value, expected) in [
            (STANDARD.encode(&leaf[0]), PassedOn::Chain(leaf.clone())),
            (
                pem.trim().replace(['\n', '\r'], " "),
                PassedOn::Chain(leaf.clone()),
            ),
            ("no base64!".to_owned(), PassedOn::Unreadable),
            (
                String::new(),
                PassedOn::Chain(vec![CertificateDer::from(Vec::new())]),
            ),
        ] {
            let got = read(
                ARR,
                CertificateHeader::ArrClientCert,
                std::slice::from_ref(&value),
            );
            assert_eq!(got, expected, "{value}");
        }
    }
}
