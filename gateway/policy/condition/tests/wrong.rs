//! What is refused when a condition is compiled, and what is underlined.

use super::faults;

/// Text, underlined part, message, nearest.
type Wrong = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const WRONG: [Wrong; 77] = [
    // Names.
    (
        "token.tenent == 'a'",
        "tenent",
        "`token` has no `tenent`",
        Some("tenant"),
    ),
    (
        "tokn.tenant == 'a'",
        "tokn",
        "there is no `tokn`",
        Some("token"),
    ),
    ("has(token.uqn)", "uqn", "`token` has no `uqn`", Some("upn")),
    (
        "request.header['a'] == 'b'",
        "header",
        "`request` has no `header`",
        Some("headers"),
    ),
    ("token == 1", "token", "this is no value by itself", None),
    (
        "size(token.claims) == 1",
        "token.claims",
        "this is no value by itself",
        None,
    ),
    (
        "has(token.claims)",
        "token.claims",
        "this is always there",
        None,
    ),
    (
        "token.roles.exists(role, rol == 'a')",
        "rol",
        "there is no `rol`",
        Some("role"),
    ),
    (
        "token.claims['groups'] == []",
        "'groups'",
        "the claim `groups` may be missing though the caller has groups",
        None,
    ),
    (
        "token.claims[token.upn] == 1",
        "token.upn",
        "the name must be a string as it stands",
        None,
    ),
    (
        "token.upn in token.claims",
        "token.upn",
        "the name must be a string as it stands",
        None,
    ),
    (
        "request.headers['a b'] == ''",
        "'a b'",
        "this is no name of a header",
        None,
    ),
    (
        "request.headers['Authorization'] == ''",
        "'Authorization'",
        "the header `authorization` holds credentials",
        None,
    ),
    (
        "request.headers.cookie == ''",
        "cookie",
        "the header `cookie` holds credentials",
        None,
    ),
    (
        "'proxy-authorization' in request.headers",
        "'proxy-authorization'",
        "the header `proxy-authorization` holds credentials",
        None,
    ),
    (
        "request.headers['X-Functions-Key'] == ''",
        "'X-Functions-Key'",
        "the header `x-functions-key` holds credentials",
        None,
    ),
    (
        "request.headers['x-api-key'] == ''",
        "'x-api-key'",
        "the header `x-api-key` holds credentials",
        None,
    ),
    (
        "request.headers['Ocp-Apim-Subscription-Key'] == ''",
        "'Ocp-Apim-Subscription-Key'",
        "the header `ocp-apim-subscription-key` holds credentials",
        None,
    ),
    (
        "request.headers['x-auth-token'] == ''",
        "'x-auth-token'",
        "the header `x-auth-token` holds credentials",
        None,
    ),
    (
        "request.headers['x-ms-client-principal-id'] == ''",
        "'x-ms-client-principal-id'",
        "the gateway does not take the header `x-ms-client-principal-id` from callers",
        None,
    ),
    (
        "request.headers['host'] == ''",
        "'host'",
        "the header `host` is read as a part of the URL",
        None,
    ),
    // Types.
    (
        "token.upn",
        "token.upn",
        "a condition is true or false, but this is a string",
        None,
    ),
    (
        "token.claims['flag']",
        "token.claims['flag']",
        "a condition is true or false, but this is a value of any type",
        None,
    ),
    (
        "token.upn && true",
        "token.upn",
        "a bool is needed here, but this is a string",
        None,
    ),
    (
        "!token.roles",
        "token.roles",
        "a bool is needed here, but this is a list of strings",
        None,
    ),
    (
        "token.exp == '1'",
        "token.exp == '1'",
        "an int cannot be compared with a string",
        None,
    ),
    (
        "null == token.upn",
        "null == token.upn",
        "null cannot be compared with a string",
        None,
    ),
    (
        "token.roles < token.roles",
        "token.roles",
        "a list of strings is neither less nor more than another",
        None,
    ),
    (
        "1 in token.roles",
        "1 in token.roles",
        "an int is never in a list of strings",
        None,
    ),
    (
        "'a' in token.upn",
        "token.upn",
        "a list is needed here, but this is a string",
        None,
    ),
    (
        "1 + 'a' == 2",
        "1 + 'a'",
        "there is no sum of an int and a string",
        None,
    ),
    (
        "1.5 * 2 == 3",
        "1.5 * 2",
        "there is no sum of a double and an int",
        None,
    ),
    (
        "-token.upn == 1",
        "token.upn",
        "a number is needed here, but this is a string",
        None,
    ),
    (
        "token.upn.size == 3",
        "size",
        "a string has no members",
        None,
    ),
    (
        "token.roles['a'] == ''",
        "'a'",
        "the index must be an int as it stands",
        None,
    ),
    ("token.roles[-1] == ''", "-1", "lists begin at 0", None),
    (
        "token.upn[0] == 'a'",
        "token.upn",
        "a string has nothing to pick from",
        None,
    ),
    (
        "(true ? 1 : 'a') == 1",
        "true ? 1 : 'a'",
        "this is an int or a string: both must be of one type",
        None,
    ),
    (
        "token.exp.startsWith('a')",
        "token.exp",
        "a string is needed here, but this is an int",
        None,
    ),
    (
        "token.upn.exists(c, true)",
        "token.upn",
        "a list is needed here, but this is a string",
        None,
    ),
    (
        "token.roles.exists(r, r)",
        "r",
        "a bool is needed here, but this is a string",
        None,
    ),
    ("size(1) == 1", "1", "an int has no size", None),
    ("int(true) == 1", "true", "a bool is no number", None),
    (
        "string(token.roles) == ''",
        "token.roles",
        "a list of strings is not a string",
        None,
    ),
    // What can never be.
    (
        "token.kind == 'apponly'",
        "'apponly'",
        "token.kind is never 'apponly'",
        Some("'appOnly'"),
    ),
    (
        "token.version in ['1.0', 'v2']",
        "'v2'",
        "token.version is never 'v2'",
        None,
    ),
    (
        "token.app != 'AAAAAAAA-0000-0000-0000-000000000001'",
        "'AAAAAAAA-0000-0000-0000-000000000001'",
        "token.app is never 'AAAAAAAA-0000-0000-0000-000000000001'",
        Some("'aaaaaaaa-0000-0000-0000-000000000001'"),
    ),
    (
        "token.tenant == 'contoso.onmicrosoft.com'",
        "'contoso.onmicrosoft.com'",
        "token.tenant is never 'contoso.onmicrosoft.com'",
        None,
    ),
    (
        "'aaaaaaaa00000000000000000000000A' in token.groups",
        "'aaaaaaaa00000000000000000000000A'",
        "token.groups is never 'aaaaaaaa00000000000000000000000A'",
        Some("'aaaaaaaa-0000-0000-0000-00000000000a'"),
    ),
    (
        "request.method in ['GET', 'post']",
        "'post'",
        "request.method is never 'post'",
        Some("'POST'"),
    ),
    (
        "'API.contoso.com' != request.host",
        "'API.contoso.com'",
        "request.host is never 'API.contoso.com'",
        Some("'api.contoso.com'"),
    ),
    (
        "request.host == 'https://api.contoso.com'",
        "'https://api.contoso.com'",
        "request.host is never 'https://api.contoso.com'",
        None,
    ),
    (
        "request.path == 'guests'",
        "'guests'",
        "request.path is never 'guests'",
        None,
    ),
    (
        "connection.address == '10.0.0.0/8'",
        "'10.0.0.0/8'",
        "connection.address is never '10.0.0.0/8'",
        None,
    ),
    (
        "connection.address == '::ffff:192.0.2.1'",
        "'::ffff:192.0.2.1'",
        "connection.address is never '::ffff:192.0.2.1'",
        Some("'192.0.2.1'"),
    ),
    // Functions and macros.
    (
        "token.upn.startWith('a')",
        "startWith",
        "conditions have no function `startWith`",
        Some("startsWith"),
    ),
    (
        "token.upn.startsWith()",
        "token.upn.startsWith()",
        "`startsWith` takes one string",
        None,
    ),
    (
        "siz(token.upn) == 1",
        "siz",
        "conditions have no function `siz`",
        Some("size"),
    ),
    (
        "duration('1h') == 1",
        "duration",
        "conditions have no function `duration`",
        None,
    ),
    (
        "request.time.getHours('Europe/Bern') == 1",
        "request.time.getHours('Europe/Bern')",
        "`getHours` takes nothing: times are in UTC",
        None,
    ),
    (
        "timestamp('yesterday') < request.time",
        "'yesterday'",
        "this is no date and time of RFC 3339 in whole seconds",
        None,
    ),
    (
        "has(token)",
        "token",
        "`has` asks for a field by its name",
        None,
    ),
    (
        "token.upn.matches('(')",
        "'('",
        "this is no pattern: unclosed group",
        None,
    ),
    (
        "token.upn.matches('(a{1000}){1000}')",
        "'(a{1000}){1000}'",
        "this is no pattern: Compiled regex exceeds size limit of 262144 bytes.",
        None,
    ),
    (
        "token.upn.matches(token.upn)",
        "token.upn",
        "a pattern must be a string as it stands",
        None,
    ),
    (
        "token.roles.exists(token, true)",
        "token",
        "the name `token` is taken",
        None,
    ),
    (
        "token.roles.exists('r', true)",
        "'r'",
        "a macro's variable is a plain name",
        None,
    ),
    (
        "token.roles.exists(a, token.roles.exists(a, true))",
        "a",
        "the name `a` is taken",
        None,
    ),
    (
        "[1].all(a, [2].all(b, [3].all(c, true)))",
        "all",
        "macros stand in each other at most 2 deep",
        None,
    ),
    (
        "token.roles.exists(true)",
        "token.roles.exists(true)",
        "a macro takes a name and a part",
        None,
    ),
    // What CEL has and conditions have not.
    ("1u == 1", "1u", "conditions have no unsigned numbers", None),
    (
        "b'a' == token.upn",
        "b'a'",
        "conditions have no bytes",
        None,
    ),
    ("{'a': 1} == 1", "{'a': 1}", "conditions have no maps", None),
    // What is no CEL.
    ("", "", "a condition cannot be empty", None),
    ("1 ==", "==", "something is missing after this", None),
    (
        "token.upn and true",
        "and",
        "this is not expected here",
        None,
    ),
    (
        "99999999999999999999 == 1",
        "99999999999999999999",
        "this number is out of range",
        None,
    ),
];

#[test]
fn what_is_wrong_is_underlined_and_said() {
    for (text, underlined, message, near) in WRONG {
        let faults = faults(text);
        let [fault] = &faults[..] else {
            panic!("{text}: {faults:?}")
        };
        assert_eq!(fault.message, message, "{text}");
        assert_eq!(&text[fault.range.clone()], underlined, "{text}");
        assert_eq!(fault.near.as_deref(), near, "{text}");
    }
}

#[test]
fn text_that_the_parser_must_not_see_is_refused_before() {
    for (text, underlined, message) in [
        ("'é' == 'abc", "'abc", "this string does not end"),
        ("'a\n' == ''", "'a", "this string does not end"),
        (
            "'\\q' == ''",
            "'",
            "this string has an escape that CEL does not know",
        ),
        (
            "'\\400' == ''",
            "'",
            "this string has an escape that CEL does not know",
        ),
        ("(true", "(", "this bracket is never closed"),
        ("true)", ")", "this bracket closes nothing"),
        ("(true]", "]", "this closes a bracket of another kind"),
        ("a = 1", "=", "this character has no meaning in a condition"),
        ("a & b", "&", "this character has no meaning in a condition"),
        (
            "é == 1",
            "é",
            "this character has no meaning in a condition",
        ),
        (
            "token.`upn` == ''",
            "`",
            "this character has no meaning in a condition",
        ),
        ("1x == 1", "1x", "this is no number"),
        (
            "\u{0}",
            "\u{0}",
            "this character has no meaning in a condition",
        ),
    ] {
        let faults = faults(text);
        let [fault] = &faults[..] else {
            panic!("{text}: {faults:?}")
        };
        assert_eq!(fault.message, message, "{text}");
        assert_eq!(&text[fault.range.clone()], underlined, "{text}");
    }
}

#[test]
fn every_fault_is_said_at_once_in_the_order_of_the_text() {
    let text =
        "token.tenent == 'a' && size(token.uqn) == 1 && token.exp.contains('a') && token.upn == 1";
    let messages: Vec<String> = faults(text)
        .into_iter()
        .map(|fault| fault.message)
        .collect();
    assert_eq!(
        messages,
        [
            "`token` has no `tenent`",
            "`token` has no `uqn`",
            "a string is needed here, but this is an int",
            "a string cannot be compared with an int",
        ]
    );
}
