//! What conditions mean.

use super::{World, compiled, outcome};
use crate::policy::condition::{Failure, Field, Outcome};

#[test]
fn conditions_hold_or_do_not_hold_as_cel_has_it() {
    for (text, holds) in [
        // Fields.
        (
            "token.tenant == '0f0e0d0c-0000-4000-8000-000000000001'",
            true,
        ),
        ("token.kind == 'appOnly' && token.version == '2.0'", true),
        ("token.upn == \"ann@example.com\"", true),
        ("token.upn == 'Ann@example.com'", false),
        ("token.claims['upn'] == r'ann@example.com'", true),
        ("token.claims.level == 3", true),
        (
            "request.method == 'GET' && request.host == 'api.example.com'",
            true,
        ),
        ("request.headers['X-Region'] == 'EU-west'", true),
        ("request.headers.Host2 == ''|| true", true),
        (
            "request.parameters['id'] == '42' && request.path.endsWith('42')",
            true,
        ),
        (
            "connection.protocol != 'HTTP/1.1' && connection.address != '192.0.2.99'",
            true,
        ),
        // Presence.
        ("has(token.upn)", true),
        ("has(token.email)", false),
        ("has(token.principal) || has(token.groups)", true),
        (
            "has(token.claims.address) && has(token.claims.address.city)",
            true,
        ),
        ("has(token.claims.address.street)", false),
        ("'nothing' in token.claims", true),
        ("'other' in token.claims", false),
        (
            "'x-region' in request.headers && !('x-other' in request.headers)",
            true,
        ),
        ("'id' in request.parameters", true),
        // Membership.
        (
            "'Reader' in token.roles && !('reader' in token.roles)",
            true,
        ),
        ("'g2' in token.groups", true),
        ("'mfa' in token.amr", true),
        ("token.upn in ['bob@example.com', 'ann@example.com']", true),
        ("token.upn in []", false),
        ("token.claims['level'] in [1, 2, 3.0]", true),
        (
            "'a' in token.claims['mixed'] && [2] in token.claims['mixed']",
            true,
        ),
        (
            "'city' in token.claims['address'] && !(1 in token.claims['address'])",
            true,
        ),
        // Equality.
        ("1 == 1.0 && 9007199254740993 != 9007199254740992.0", true),
        (
            "9223372036854775807 < 9223372036854775808.0 && -1.5 < -1",
            true,
        ),
        ("token.claims['huge'] > 1", true),
        ("token.claims['level'] == 'three'", false),
        (
            "token.claims['flag'] == true && token.claims['nothing'] == null",
            true,
        ),
        ("token.claims['address']['zip'] == 3000", true),
        ("token.claims['mixed'] == token.claims['mixed']", true),
        ("token.claims['mixed'][4] == token.claims['address']", false),
        (
            "token.amr == ['pwd', 'mfa'] && token.amr != ['mfa', 'pwd']",
            true,
        ),
        (
            "token.roles[1] == 'Writer' && token.claims['mixed'][3][0] == 2",
            true,
        ),
        // Order and numbers.
        ("1 + 2 * 3 - 8 / 3 % 2 == 7", true),
        ("-7 / 2 == -3 && -7 % 2 == -1 && -(3) == -3", true),
        ("0x10 == 16 && 1e3 == 1000", true),
        ("'a' < 'b' && 'a' <= 'a' && 'B' < 'a' && 'é' > 'z'", true),
        ("token.claims['ratio'] < 1", true),
        ("2 > 3 || 2 >= 3", false),
        // Strings.
        ("'a' + 'b' == 'ab' && 'a\\u00e9\\n' == 'aé' + '\\n'", true),
        (
            "request.path.startsWith('/orders/') && token.upn.contains('@example')",
            true,
        ),
        (
            "token.upn.matches('^[a-z]+@example[.]com$') && token.upn.matches('EXAMPLE')",
            false,
        ),
        (
            "token.upn.matches('(?i)EXAMPLE') && 'é1'.matches('^\\\\w\\\\d$')",
            true,
        ),
        (
            "request.headers['x-region'].lowerAscii() == 'eu-west' && 'É'.lowerAscii() == 'É'",
            true,
        ),
        (
            "size('aé') == 2 && 'abc'.size() == 3 && size(token.roles) == 2",
            true,
        ),
        ("size(token.claims['mixed']) == 5 && size([]) == 0", true),
        (
            "int('42') == 42 && int(-1.9) == -1 && int(request.time) == 1769862615",
            true,
        ),
        (
            "string(42) == '42' && string(true) == 'true' && string(1.5) == '1.5'",
            true,
        ),
        ("string(request.time) == '2026-01-31T12:30:15Z'", true),
        // Times.
        (
            "request.time > timestamp('2026-01-31T13:30:14+01:00')",
            true,
        ),
        ("request.time == timestamp('2026-01-31T12:30:15Z')", true),
        (
            "request.time.getHours() == 12 && request.time.getMinutes() == 30",
            true,
        ),
        (
            "request.time.getDayOfWeek() == 6 && request.time.getDayOfMonth() == 30",
            true,
        ),
        (
            "request.time.getMonth() == 0 && request.time.getFullYear() == 2026",
            true,
        ),
        // Macros.
        ("token.roles.exists(r, r == 'Writer')", true),
        ("token.roles.all(r, r.endsWith('er'))", true),
        ("token.roles.exists_one(r, r.endsWith('er'))", false),
        ("token.roles.exists_one(r, r.startsWith('W'))", true),
        (
            "token.scopes.all(s, false) && !token.scopes.exists(s, true)",
            true,
        ),
        ("token.roles.filter(r, r != 'Reader') == ['Writer']", true),
        (
            "token.roles.map(r, r.lowerAscii()) == ['reader', 'writer']",
            true,
        ),
        ("token.roles.map(r, r > 'S', r + '!') == ['Writer!']", true),
        ("[1, 2, 3].map(n, n * n).exists(n, n == 9)", true),
        (
            "token.roles.exists(r, token.groups.exists(g, r == 'Reader' && g == 'g2'))",
            true,
        ),
        ("token.claims['mixed'].exists(m, m == 'a')", true),
        (
            "['b', 'a'].exists(r, r in ['a']) && [[1]].exists(l, 1 in l)",
            true,
        ),
        // The rest.
        (
            "token.kind == 'appOnly' ? token.version == '2.0' : false",
            true,
        ),
        ("(false ? 1 : 2) == 2 && !!true && !(!true)", true),
        ("true // and nothing more", true),
    ] {
        assert_eq!(outcome(text), Outcome::Is(holds), "{text}");
    }
}

#[test]
fn a_failure_says_what_failed_and_no_value() {
    for (text, said) in [
        ("token.email == 'a'", "token.email is absent"),
        ("token.claims['no'] == 1", "token.claims['no'] is absent"),
        (
            "request.headers['X-No'] != ''",
            "request.headers['x-no'] is absent",
        ),
        (
            "!(request.parameters['no'] == '')",
            "request.parameters['no'] is absent",
        ),
        ("token.roles[2] == ''", "token.roles[2] is absent"),
        (
            "token.claims.address.street == ''",
            "token.claims['address']['street'] is absent",
        ),
        ("token.acct == 1", "token.acct is a string, not an int"),
        (
            "token.claims['level'] && true",
            "token.claims['level'] is an int, not a bool",
        ),
        (
            "token.claims['level'] < 'a'",
            "token.claims['level'] is an int and 'a' is a string",
        ),
        (
            "token.claims.upn.x == 1",
            "token.claims['upn'] is a string, not an object",
        ),
        (
            "token.claims['level'][0] == 1",
            "token.claims['level'] is an int, not a list",
        ),
        (
            "1 in token.claims['level']",
            "token.claims['level'] is an int, not a list",
        ),
        (
            "token.claims['flag'].startsWith('a')",
            "token.claims['flag'] is a bool, not a string",
        ),
        (
            "token.claims['address'].exists(a, true)",
            "token.claims['address'] is an object, not a list",
        ),
        ("int(token.upn) == 1", "token.upn is a string, not an int"),
        (
            "1 + token.claims['upn'] == 1",
            "token.claims['upn'] is a string, not an int",
        ),
        (
            "9223372036854775807 + 1 == 0",
            "a number is out of range or divided by zero",
        ),
        (
            "-9223372036854775808 / -1 == 0",
            "a number is out of range or divided by zero",
        ),
        (
            "-(-9223372036854775808) == 0",
            "a number is out of range or divided by zero",
        ),
        ("1 % 0 == 0", "a number is out of range or divided by zero"),
        (
            "int(1e30) == 0",
            "a number is out of range or divided by zero",
        ),
        (
            "[1, 2].exists_one(n, n / 0 == 1)",
            "a number is out of range or divided by zero",
        ),
        (
            "token.upn in [token.email, token.upn]",
            "token.email is absent",
        ),
    ] {
        match outcome(text) {
            Outcome::Failed(failure) => assert_eq!(failure.to_string(), said, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn groups_that_do_not_fit_into_a_token_fail_however_they_are_asked_for() {
    let world = World {
        overage: true,
        ..World::new()
    };
    for text in [
        "'g1' in token.groups",
        "has(token.groups)",
        "!('g9' in token.groups)",
    ] {
        let outcome = compiled(text).evaluate(&world);
        assert_eq!(outcome, Outcome::Failed(Failure::GroupOverage), "{text}");
    }
}

#[test]
fn one_side_that_decides_does_so_whatever_the_other_is() {
    let world = World {
        unknown: vec![Field::Host],
        ..World::new()
    };
    let (yes, no) = (Outcome::Is(true), Outcome::Is(false));
    let failed = Outcome::Failed(Failure::Absent("token.email".to_owned()));
    for (text, expected) in [
        ("false && E", &no),
        ("E && false", &no),
        ("true && E", &failed),
        ("E && true", &failed),
        ("true || E", &yes),
        ("E || true", &yes),
        ("false || E", &failed),
        ("U && false", &no),
        ("false && U", &no),
        ("U || true", &yes),
        ("U && true", &Outcome::Unknown),
        ("U || false", &Outcome::Unknown),
        ("!U", &Outcome::Unknown),
        ("!E", &failed),
        ("U && E", &Outcome::Unknown),
        ("E && U", &Outcome::Unknown),
        ("E || U", &Outcome::Unknown),
        ("(E && U) || true", &yes),
        ("E && U && false", &no),
        ("U ? true : false", &Outcome::Unknown),
        ("true ? true : U", &yes),
        ("E ? true : true", &failed),
        ("has(request.host)", &Outcome::Unknown),
        ("[1, 2].exists(n, n == 2 || E)", &yes),
        ("[1, 2].exists(n, n == 1 ? E : false)", &failed),
        ("[1, 2].all(n, n == 1 ? E : false)", &no),
        ("[1, 2].all(n, n == 1 ? U : true)", &Outcome::Unknown),
        ("[1, 2].exists(n, n == 1 ? U : E)", &Outcome::Unknown),
        ("size([1, 2].filter(n, U)) == 2", &Outcome::Unknown),
    ] {
        let text = text
            .replace('U', "(request.host == 'a')")
            .replace('E', "(token.email == 'a')");
        assert_eq!(&compiled(&text).evaluate(&world), expected, "{text}");
    }
}
