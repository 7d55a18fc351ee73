//! Every header field name that the gateway treats in a way of its own, and how.
//!
//! Some backends fold names before they read them: CGI and WSGI make one name of `x-ms-token-a` and
//! `X_MS_TOKEN_A`, others of every character that is no letter or digit. So a name counts as any
//! that it folds to.

use http::HeaderName;

use super::keys::KeyHeaders;

/// What becomes of a caller's header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is passed on.
    Pass,
    /// `authorization`: taken out and kept apart.
    Authorization,
    /// `host`: taken out and kept apart.
    Host,
    /// `content-length`: checked and passed on.
    ContentLength,
    /// `transfer-encoding`: checked and dropped; the next hop frames anew.
    TransferEncoding,
    /// `te`: noted and dropped.
    Te,
    /// `connection`: obeyed and dropped.
    Connection,
    /// `upgrade`: taken out and kept apart, or refused.
    Upgrade,
    /// Dropped without being read: for this hop alone, or another spelling of a name above.
    Hop,
    /// For this hop alone, and forbidden in HTTP/2 (RFC 9113 section 8.2.2).
    ConnectionSpecific,
    /// Only the gateway or the platform may say this, so it is dropped from what callers send.
    Asserted(KeyHeaders),
}

/// Whether a caller's field of this name may be passed on to a backend, as a header field or as a
/// trailer field. Framing, routing, credentials and what the gateway asserts may not.
pub fn caller_may_send(name: &HeaderName) -> bool {
    fate(name) == Fate::Pass
}

/// The fate of a header field. First letters decide before anything is compared, and nothing is
/// allocated: this runs for every field of every request.
pub(super) fn fate(name: &HeaderName) -> Fate {
    let name = name.as_str().as_bytes();
    let bucket = match name {
        [b'x', _, third, ..] => x_bucket(*third),
        [first, ..] => bucket(*first),
        [] => &Bucket::NONE,
    };
    if !bucket.has(name.len()) {
        return Fate::Pass;
    }
    bucket
        .entries
        .iter()
        .find(|entry| entry.names(name))
        .map_or(Fate::Pass, |entry| entry.fate_of(name))
}

/// `x-arr-log-id`, in any spelling. It must reach a Functions host on App Service: without it, the
/// host takes the call for one of the platform's own and opens its admin endpoints (azure-functions-host,
/// `HttpRequestExtensions.IsAppServiceInternalRequest`). So no caller may have it removed.
pub fn must_arrive(name: &HeaderName) -> bool {
    folds_to(name.as_str().as_bytes(), "x-arr-log-id")
}

/// Whether the gateway writes a field of this name, in any spelling, whatever the caller sent.
pub fn gateway_writes(name: &HeaderName) -> bool {
    let is_id = folds_to(name.as_str().as_bytes(), "x-request-id");
    !caller_may_send(name) || must_arrive(name) || is_id
}

/// Whether `name` is `text` to a reader who ignores letter case and takes every character that is
/// no letter or digit for `-`. `text` is in lower case.
pub(super) fn folds_to(name: &[u8], text: &str) -> bool {
    name.len() == text.len() && begins_with(name, text)
}

/// Whether some backend reads both names as one.
pub fn folds_alike(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
    let folded = |byte: &u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

fn begins_with(name: &[u8], text: &str) -> bool {
    name.len() >= text.len()
        && name
            .iter()
            .zip(text.bytes())
            .all(|(byte, wanted)| match wanted {
                b'-' => !byte.is_ascii_alphanumeric(),
                _ => byte.to_ascii_lowercase() == wanted,
            })
}

/// The entries whose names begin alike.
struct Bucket {
    /// A bit for each length that a name of them has; the last stands for all that are as long or longer.
    lengths: u64,
    entries: &'static [Entry],
}

impl Bucket {
    const NONE: Self = Self::of(&[]);

    const fn of(entries: &'static [Entry]) -> Self {
        let (mut lengths, mut rest) = (0, entries);
        while let [entry, more @ ..] = rest {
            let at = Self::bit(entry.text.len());
            // Names of a family may be longer.
            lengths |= if entry.family {
                u64::MAX << at
            } else {
                1 << at
            };
            rest = more;
        }
        Self { lengths, entries }
    }

    const fn bit(length: usize) -> usize {
        if length < 63 { length } else { 63 }
    }

    fn has(&self, length: usize) -> bool {
        (self.lengths >> Self::bit(length)) & 1 == 1
    }
}

struct Entry {
    text: &'static str,
    /// Whether longer names that begin like this are meant too.
    family: bool,
    fate: Fate,
}

impl Entry {
    fn names(&self, name: &[u8]) -> bool {
        if self.family {
            begins_with(name, self.text)
        } else {
            folds_to(name, self.text)
        }
    }

    /// A folded spelling means nothing to us, and to a backend perhaps everything: it goes.
    fn fate_of(&self, name: &[u8]) -> Fate {
        match self.fate {
            Fate::Asserted(keys) => Fate::Asserted(keys),
            fate if name == self.text.as_bytes() => fate,
            _ => Fate::Hop,
        }
    }
}

const fn one(text: &'static str, fate: Fate) -> Entry {
    Entry {
        text,
        family: false,
        fate,
    }
}

const fn asserted(text: &'static str) -> Entry {
    one(text, Fate::Asserted(KeyHeaders::NONE))
}

const fn key(text: &'static str, key: KeyHeaders) -> Entry {
    one(text, Fate::Asserted(key))
}

const fn family(text: &'static str, key: KeyHeaders) -> Entry {
    Entry {
        text,
        family: true,
        fate: Fate::Asserted(key),
    }
}

fn bucket(first: u8) -> &'static Bucket {
    const A: &Bucket = &Bucket::of(&[one("authorization", Fate::Authorization)]);
    // Baggage crosses no trust boundary: it carries what another party's code believes.
    const B: &Bucket = &Bucket::of(&[asserted("baggage")]);
    const C: &Bucket = &Bucket::of(&[
        one("connection", Fate::Connection),
        one("content-length", Fate::ContentLength),
        asserted("client-ip"),
        asserted("cf-connecting-ip"),
        // Certificates of callers are told by who ends TLS, and here that is nobody's to say (RFC 9440 section 2.4).
        asserted("client-cert"),
        asserted("client-cert-chain"),
    ]);
    // The Functions host lets it overwrite Host (`AppServiceHeaderFixupMiddleware`).
    const D: &Bucket = &Bucket::of(&[asserted("disguised-host")]);
    // The connection answers `100-continue` itself.
    const E: &Bucket = &Bucket::of(&[one("expect", Fate::Hop)]);
    const F: &Bucket = &Bucket::of(&[asserted("forwarded"), asserted("front-end-https")]);
    const H: &Bucket = &Bucket::of(&[one("host", Fate::Host), one("http2-settings", Fate::Hop)]);
    const K: &Bucket = &Bucket::of(&[one("keep-alive", Fate::ConnectionSpecific)]);
    // IIS's own word to the .NET process behind it, a paired token and client certificates among it.
    const M: &Bucket = &Bucket::of(&[family("ms-aspnetcore-", KeyHeaders::NONE)]);
    const P: &Bucket = &Bucket::of(&[
        // CGI programs read it as the proxy of their own calls (httpoxy).
        asserted("proxy"),
        one("proxy-connection", Fate::ConnectionSpecific),
        one("proxy-authenticate", Fate::Hop),
        one("proxy-authorization", Fate::Hop),
    ]);
    // nginx's ingress for Kubernetes.
    const S: &Bucket = &Bucket::of(&[family("ssl-client-", KeyHeaders::NONE)]);
    const T: &Bucket = &Bucket::of(&[
        one("te", Fate::Te),
        one("transfer-encoding", Fate::TransferEncoding),
        asserted("true-client-ip"),
    ]);
    const U: &Bucket = &Bucket::of(&[one("upgrade", Fate::Upgrade)]);
    const W: &Bucket = &Bucket::of(&[asserted("was-default-hostname")]);
    match first {
        b'a' => A,
        b'b' => B,
        b'c' => C,
        b'd' => D,
        b'e' => E,
        b'f' => F,
        b'h' => H,
        b'k' => K,
        b'm' => M,
        b'p' => P,
        b's' => S,
        b't' => T,
        b'u' => U,
        b'w' => W,
        _ => &Bucket::NONE,
    }
}

/// The names in `x-`, by the letter behind it.
fn x_bucket(third: u8) -> &'static Bucket {
    const A: &Bucket = &Bucket::of(&[
        asserted("x-arr-clientcert"),
        asserted("x-arr-ssl"),
        asserted("x-appservice-proto"),
        asserted("x-azure-clientip"),
        asserted("x-azure-socketip"),
        asserted("x-azure-fdid"),
    ]);
    const C: &Bucket = &Bucket::of(&[
        asserted("x-client-ip"),
        asserted("x-client-port"),
        asserted("x-cluster-client-ip"),
        family("x-client-cert", KeyHeaders::NONE),
    ]);
    const F: &Bucket = &Bucket::of(&[
        family("x-forwarded", KeyHeaders::NONE),
        key("x-functions-key", KeyHeaders::X_FUNCTIONS_KEY),
        key("x-functions-clientid", KeyHeaders::X_FUNCTIONS_CLIENTID),
    ]);
    // They change the method that was matched into another.
    const H: &Bucket = &Bucket::of(&[
        asserted("x-http-method"),
        asserted("x-http-method-override"),
        asserted("x-host"),
    ]);
    const I: &Bucket = &Bucket::of(&[asserted("x-identity-header")]);
    const M: &Bucket = &Bucket::of(&[
        family("x-ms-client-principal", KeyHeaders::X_MS_CLIENT_PRINCIPAL),
        family("x-ms-token-", KeyHeaders::X_MS_TOKEN),
        key("x-ms-site-token", KeyHeaders::X_MS_SITE_TOKEN),
        key(
            "x-ms-site-restricted-token",
            KeyHeaders::X_MS_SITE_RESTRICTED_TOKEN,
        ),
        key("x-ms-platform-internal", KeyHeaders::X_MS_PLATFORM_INTERNAL),
        asserted("x-ms-via-extensions-route"),
        asserted("x-ms-client-authorization-source"),
        asserted("x-ms-original-url"),
        asserted("x-method-override"),
    ]);
    const O: &Bucket = &Bucket::of(&[family("x-original-", KeyHeaders::NONE)]);
    const R: &Bucket = &Bucket::of(&[asserted("x-real-ip"), asserted("x-rewrite-url")]);
    const S: &Bucket = &Bucket::of(&[
        asserted("x-site-deployment-id"),
        family("x-ssl-", KeyHeaders::NONE),
    ]);
    const U: &Bucket = &Bucket::of(&[asserted("x-url-scheme")]);
    const W: &Bucket = &Bucket::of(&[asserted("x-waws-unencoded-url")]);
    const Z: &Bucket = &Bucket::of(&[key("x-zumo-auth", KeyHeaders::X_ZUMO_AUTH)]);
    match third {
        b'a' => A,
        b'c' => C,
        b'f' => F,
        b'h' => H,
        b'i' => I,
        b'm' => M,
        b'o' => O,
        b'r' => R,
        b's' => S,
        b'u' => U,
        b'w' => W,
        b'z' => Z,
        _ => &Bucket::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().expect("a field name")
    }

    /// The list, written out a second time: a name that falls out of a bucket above shows here.
    const DROPPED: &[&str] = &[
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "x-ms-client-principal-name",
        "x-ms-client-principal-idp",
        "x-ms-token-aad-id-token",
        "x-ms-token-aad-access-token",
        "x-zumo-auth",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-tlsversion",
        "x-forwarded-client-cert",
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "client-ip",
        "x-client-ip",
        "x-client-port",
        "x-original-url",
        "x-original-host",
        "x-original-for",
        "x-rewrite-url",
        "x-waws-unencoded-url",
        "x-arr-clientcert",
        "x-arr-ssl",
        "x-appservice-proto",
        "disguised-host",
        "was-default-hostname",
        "x-site-deployment-id",
        "x-functions-key",
        "x-functions-clientid",
        "x-ms-site-token",
        "x-ms-site-restricted-token",
        "x-ms-platform-internal",
        "x-ms-via-extensions-route",
        "x-ms-client-authorization-source",
        "x-identity-header",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-azure-fdid",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "proxy",
        "baggage",
    ];

    #[test]
    fn what_the_gateway_asserts_is_dropped_in_every_spelling_that_folds_to_it() {
        for text in DROPPED {
            let spellings = [
                (*text).to_owned(),
                text.to_ascii_uppercase(),
                text.replace('-', "_"),
                text.replace('-', "."),
                text.replacen('-', "_", 1),
                text.replace('-', "+").to_ascii_uppercase(),
            ];
            for spelling in spellings {
                let fate = fate(&name(&spelling));
                assert!(matches!(fate, Fate::Asserted(_)), "{spelling}: {fate:?}");
                assert!(!caller_may_send(&name(&spelling)), "{spelling}");
            }
        }
    }

    #[test]
    fn a_field_that_rules_the_message_may_not_be_sent_as_a_trailer() {
        for text in [
            "authorization",
            "host",
            "content-length",
            "content_length",
            "transfer-encoding",
            "transfer_encoding",
            "te",
            "connection",
            "keep-alive",
            "keep_alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy_authorization",
            "proxy-authenticate",
            "upgrade",
            "http2-settings",
            "expect",
        ] {
            assert!(!caller_may_send(&name(text)), "{text}");
        }
    }

    #[test]
    fn what_belongs_to_the_caller_is_passed_on() {
        for text in [
            "x-arr-log-id",
            "X_ARR_LOG_ID",
            "traceparent",
            "tracestate",
            "trailer",
            "cookie",
            "accept",
            "content-type",
            "metadata",
            "x-ms-client-request-id",
            "x-ms-version",
            "x-original",
            "x-forwardly",
            "x-functions-keys",
            "x-http-methods",
            "x",
            "x-",
            "proxys",
            "hosts",
            "user-agent",
            "via",
        ] {
            assert!(caller_may_send(&name(text)), "{text}");
        }
    }

    #[test]
    fn a_folded_spelling_of_a_framing_field_is_not_the_field() {
        assert_eq!(fate(&name("content-length")), Fate::ContentLength);
        assert_eq!(fate(&name("content_length")), Fate::Hop);
        assert_eq!(fate(&name("transfer.encoding")), Fate::Hop);
    }

    #[test]
    fn the_log_id_of_the_front_end_is_known_in_every_spelling() {
        for text in ["x-arr-log-id", "X-ARR-LOG-ID", "x_arr_log_id"] {
            assert!(must_arrive(&name(text)), "{text}");
        }
        assert!(!must_arrive(&name("x-arr-log")));
    }
}
