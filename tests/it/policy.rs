//! The policy at the listener: who is let in where, and what the others are told.

use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, FABRIKAM, MARKETING_PORTAL, NIGHTLY_BATCH};
use portcullis::entra::Version;
use serde_json::{Value, json};

use crate::support::{Answer, RawBackend, Scene, Stage};

/// Whose token a request brings.
#[derive(Clone, Copy, Debug)]
struct Who {
    tenant: &'static str,
    app: &'static str,
    roles: &'static [&'static str],
    scopes: &'static str,
}

const PORTAL: Who = Who {
    tenant: CONTOSO,
    app: MARKETING_PORTAL,
    roles: &[],
    scopes: "",
};

const BATCH: Who = Who {
    app: NIGHTLY_BATCH,
    ..PORTAL
};

/// An app that no policy names.
const NAMELESS: Who = Who {
    app: "aaaaaaaa-0000-0000-0000-0000000000ff",
    ..PORTAL
};

impl Who {
    fn of(self, tenant: &'static str) -> Self {
        Self { tenant, ..self }
    }

    fn roles(self, roles: &'static [&'static str]) -> Self {
        Self { roles, ..self }
    }

    fn scopes(self, scopes: &'static str) -> Self {
        Self { scopes, ..self }
    }

    fn token(self, stage: &Stage) -> String {
        let now = stage.world.entra.now();
        let token = Token::app(Version::V2, self.tenant, self.app, AUDIENCE, now);
        let token = token.roles(self.roles);
        let token = match self.scopes {
            "" => token,
            scopes => token.user("ada@contoso.example", scopes),
        };
        stage.world.entra.sign(&token).expect("signed")
    }
}

/// Routes over one raw backend.
fn routes(routes: &[(&str, &str)]) -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene.raw("raw", &raw);
    let scene = routes.iter().fold(scene, |scene, (name, rest)| {
        scene.route(name, &format!("backend: raw, {rest}"))
    });
    (raw, scene.start())
}

fn get(stage: &Stage, target: &str, who: Who) -> Answer {
    stage.call("GET", target).bearer(&who.token(stage)).send()
}

/// The first line of the last request that was forwarded.
fn last_line(raw: &RawBackend) -> String {
    let request = raw.seen().requests.last().expect("a request").clone();
    request.lines().next().expect("a line").to_owned()
}

#[test]
fn who_is_let_in_where_and_by_which_rule() {
    let (raw, stage) = routes(&[
        ("nobody", "match: { methods: [GET], path: /nobody }"),
        (
            "tenant-alone",
            "match: { methods: [GET], path: /tenant }, allow: [{ tenants: [contoso] }]",
        ),
        (
            "pairs",
            "match: { methods: [GET], path: /pairs }, allow: [{ tenants: [contoso], apps: [marketing-portal] }, { tenants: [fabrikam], apps: [nightly-batch] }]",
        ),
        (
            "roles",
            "match: { methods: [GET], path: /roles }, allow: [{ tenants: [contoso], apps: [marketing-portal], roles: [Guests.Read, Guests.Write] }]",
        ),
        (
            "scopes",
            "match: { methods: [GET], path: /scopes }, allow: [{ tenants: [contoso], scopes: [Guests.Read, Guests.Write] }]",
        ),
        (
            "all-of-it",
            "match: { methods: [GET], path: /all }, allow: [{ tenants: [contoso], apps: [marketing-portal], roles: [Guests.Admin], scopes: [Guests.Read] }, { tenants: [contoso, fabrikam], apps: [nightly-batch] }]",
        ),
    ]);
    let rows: &[(&str, Who, &str, Option<u64>)] = &[
        // Deny by default.
        (
            "/nobody",
            PORTAL.roles(&["Guests.Admin"]),
            "403 tenant-not-allowed",
            None,
        ),
        // A rule without apps lets every app of the tenant in, named or not.
        ("/tenant", PORTAL, "200", Some(0)),
        ("/tenant", NAMELESS, "200", Some(0)),
        (
            "/tenant",
            PORTAL.of(FABRIKAM),
            "403 tenant-not-allowed",
            None,
        ),
        // Tenant and app of one rule, not of two.
        ("/pairs", PORTAL, "200", Some(0)),
        ("/pairs", BATCH.of(FABRIKAM), "200", Some(1)),
        ("/pairs", BATCH, "403 app-not-allowed", None),
        ("/pairs", PORTAL.of(FABRIKAM), "403 app-not-allowed", None),
        ("/pairs", NAMELESS, "403 app-not-allowed", None),
        // Any of the roles, and exactly.
        ("/roles", PORTAL.roles(&["Guests.Read"]), "200", Some(0)),
        (
            "/roles",
            PORTAL.roles(&["Other", "Guests.Write"]),
            "200",
            Some(0),
        ),
        ("/roles", PORTAL, "403 role-missing", None),
        (
            "/roles",
            PORTAL.roles(&["guests.read"]),
            "403 role-missing",
            None,
        ),
        (
            "/roles",
            PORTAL.roles(&["Guests.Read.All"]),
            "403 role-missing",
            None,
        ),
        (
            "/roles",
            PORTAL.scopes("Guests.Read"),
            "403 role-missing",
            None,
        ),
        (
            "/roles",
            BATCH.roles(&["Guests.Read"]),
            "403 app-not-allowed",
            None,
        ),
        // Any of the scopes, and exactly; a role of the same name is none.
        ("/scopes", PORTAL.scopes("Guests.Read"), "200", Some(0)),
        (
            "/scopes",
            NAMELESS.scopes("openid Guests.Write"),
            "200",
            Some(0),
        ),
        (
            "/scopes",
            PORTAL.roles(&["Guests.Read"]),
            "403 scope-missing",
            None,
        ),
        (
            "/scopes",
            PORTAL.scopes("Guests.Read.All"),
            "403 scope-missing",
            None,
        ),
        (
            "/scopes",
            PORTAL.scopes("guests.read"),
            "403 scope-missing",
            None,
        ),
        // Every condition of a rule, or another rule.
        (
            "/all",
            PORTAL.roles(&["Guests.Admin"]).scopes("Guests.Read"),
            "200",
            Some(0),
        ),
        (
            "/all",
            PORTAL.roles(&["Guests.Admin"]),
            "403 scope-missing",
            None,
        ),
        (
            "/all",
            PORTAL.scopes("Guests.Read"),
            "403 role-missing",
            None,
        ),
        ("/all", BATCH.of(FABRIKAM), "200", Some(1)),
        ("/all", PORTAL.of(FABRIKAM), "403 app-not-allowed", None),
    ];
    let mut allowed = 0;
    for (path, who, verdict, rule) in rows {
        let answer = get(&stage, path, *who);
        assert_eq!(answer.verdict(), *verdict, "{path} {who:?}");
        let record = stage.record_of(&answer);
        // A refusal names the rule that came closest, or none.
        let allowed_by = rule.map(|rule| format!("allow[{rule}]"));
        if let Some(allowed_by) = allowed_by {
            assert_eq!(record["rule"], allowed_by, "{path} {who:?}");
        }
        assert_eq!(record["tenant"], who.tenant, "{path} {who:?}");
        assert_eq!(record["app"], who.app, "{path} {who:?}");
        let decision = if rule.is_some() { "allow" } else { "deny" };
        assert_eq!(record["decision"], decision, "{path} {who:?}");
        allowed += usize::from(rule.is_some());
        // The answer names no tenant, app, role or rule; the log does.
        let text = answer.text();
        for name in [who.tenant, who.app, "contoso", "Guests", "roles", "rule"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }
    assert_eq!(raw.seen().requests.len(), allowed);
}

#[test]
fn a_missing_scope_or_role_is_told_by_the_challenge_and_in_the_log() {
    let (_raw, stage) = routes(&[
        (
            "scopes",
            "match: { methods: [GET], path: /scopes }, allow: [{ tenants: [contoso], scopes: [Guests.Read, Guests.Write] }]",
        ),
        (
            "roles",
            "match: { methods: [GET], path: /roles }, allow: [{ tenants: [contoso], roles: [Guests.Read, Guests.Write] }]",
        ),
        (
            "tenants",
            "match: { methods: [GET], path: /tenants }, allow: [{ tenants: [fabrikam] }]",
        ),
    ]);
    let scope = get(&stage, "/scopes", PORTAL.scopes("openid"));
    assert_eq!(
        scope.header("www-authenticate"),
        Some(
            r#"Bearer realm="portcullis", error="insufficient_scope", error_description="A scope is missing", scope="Guests.Read Guests.Write""#
        )
    );
    let record = stage.record_of(&scope);
    assert_eq!(
        record["expected"],
        "one of the scopes: Guests.Read Guests.Write"
    );
    assert_eq!(record["tokenKind"], "delegated");
    // A role cannot be asked for, so the challenge names none.
    let role = get(&stage, "/roles", PORTAL);
    assert_eq!(
        role.header("www-authenticate"),
        Some(
            r#"Bearer realm="portcullis", error="insufficient_scope", error_description="A role is missing""#
        )
    );
    let record = stage.record_of(&role);
    assert_eq!(
        record["expected"],
        "one of the roles: Guests.Read Guests.Write"
    );
    assert_eq!(record["tokenKind"], "appOnly");
    // No token would do: no challenge.
    let tenant = get(&stage, "/tenants", PORTAL);
    assert_eq!(tenant.verdict(), "403 tenant-not-allowed");
    assert_eq!(tenant.header("www-authenticate"), None);
    let record = stage.record_of(&tenant);
    assert_eq!(record["expected"], "a tenant of a rule");
    assert_eq!(record["got"], CONTOSO);
}

#[test]
fn a_public_route_asks_for_no_token_and_asserts_no_identity() {
    let (raw, stage) = routes(&[
        (
            "open",
            "match: { methods: [GET], path: '/open/{*rest}' }, public: true",
        ),
        (
            "not-open",
            "match: { methods: [GET], path: /closed }, public: false",
        ),
    ]);
    let bare = stage.call("GET", "/open/a");
    let with_token = stage.call("GET", "/open/a").portal();
    let with_rubbish = stage.call("GET", "/open/a").bearer("planted-rubbish");
    let forged = stage
        .call("GET", "/open/a")
        .header("x-ms-client-principal", "forged")
        .header("x-ms-client-principal-id", "forged");
    for (row, call) in [
        ("bare", bare),
        ("with a token", with_token),
        ("with rubbish", with_rubbish),
        ("with a forged identity", forged),
    ] {
        let answer = call.send();
        assert_eq!(answer.verdict(), "200", "{row}");
        let request = raw
            .seen()
            .requests
            .last()
            .expect("a request")
            .to_lowercase();
        for gone in [
            "authorization",
            "x-ms-client-principal",
            "forged",
            "planted",
        ] {
            assert!(!request.contains(gone), "{row}: {gone} in {request}");
        }
        let record = stage.record_of(&answer);
        assert_eq!(record["decision"], "allow", "{row}");
        assert_eq!(record["reason"], "public", "{row}");
        for absent in ["rule", "tenant", "app", "principal"] {
            assert_eq!(record[absent], Value::Null, "{row}: {absent}");
        }
    }
    // `public: false` is no rule: nobody is let in.
    assert_eq!(
        stage.call("GET", "/closed").send().verdict(),
        "401 token-missing"
    );
    assert_eq!(
        get(&stage, "/closed", PORTAL).verdict(),
        "403 tenant-not-allowed"
    );
}

#[test]
fn methods_paths_and_letter_case_are_told_to_authenticated_callers_alone() {
    let anyone = "allow: [{ tenants: [contoso] }]";
    let (raw, stage) = routes(&[
        (
            "read",
            &format!("match: {{ methods: [GET, HEAD], path: '/guests/{{id}}' }}, {anyone}"),
        ),
        (
            "write",
            &format!("match: {{ methods: [PUT], path: '/guests/{{id}}' }}, {anyone}"),
        ),
        (
            "admin",
            &format!("match: {{ methods: [GET], path: /guests/admin }}, {anyone}"),
        ),
    ]);
    for (method, target, verdict, allow) in [
        ("GET", "/guests/7", "200", None),
        ("PUT", "/guests/7", "200", None),
        (
            "POST",
            "/guests/7",
            "405 method-not-allowed",
            Some("GET, HEAD, PUT"),
        ),
        (
            "OPTIONS",
            "/guests/7",
            "405 method-not-allowed",
            Some("GET, HEAD, PUT"),
        ),
        (
            "PUT",
            "/guests/admin",
            "405 method-not-allowed",
            Some("GET"),
        ),
        ("GET", "/guests", "404 route-not-found", None),
        ("GET", "/guests/7/8", "404 route-not-found", None),
        ("GET", "/nothing", "404 route-not-found", None),
        // A backend that folds case would serve another route, by another rule.
        ("GET", "/guests/Admin", "400 ambiguous-path", None),
        ("GET", "/GUESTS/7", "400 ambiguous-path", None),
        ("GET", "/guests/Seven", "200", None),
    ] {
        let stranger = stage.call(method, target).send();
        assert_eq!(stranger.verdict(), "401 token-missing", "{method} {target}");
        assert_eq!(stranger.header("allow"), None, "{method} {target}");
        let rubbish = stage.call(method, target).bearer("a.b.c").send();
        assert_eq!(
            rubbish.verdict(),
            "401 token-malformed",
            "{method} {target}"
        );
        assert_eq!(rubbish.header("allow"), None, "{method} {target}");
        let known = stage.call(method, target).portal().send();
        assert_eq!(known.verdict(), verdict, "{method} {target}");
        assert_eq!(known.header("allow"), allow, "{method} {target}");
        assert_eq!(stage.record_of(&known)["path"], target);
    }
    assert_eq!(raw.seen().requests.len(), 3);
}

#[test]
fn the_most_specific_host_wins_whatever_its_spelling() {
    let route = |host: &str, rewrite: &str| {
        format!(
            "match: {{ {host} methods: [GET], path: /a }}, rewrite: {rewrite}, allow: [{{ tenants: [contoso] }}]"
        )
    };
    let (raw, stage) = routes(&[
        ("exact", &route("host: api.contoso.com,", "/exact")),
        ("suffix", &route("host: '*.contoso.com',", "/suffix")),
        ("longer", &route("host: '*.eu.contoso.com',", "/longer")),
        ("any", &route("", "/any")),
    ]);
    for (host, route) in [
        ("api.contoso.com", "exact"),
        ("API.Contoso.Com", "exact"),
        ("api.contoso.com:8443", "exact"),
        ("api.contoso.com.", "exact"),
        ("other.contoso.com", "suffix"),
        ("a.b.contoso.com", "suffix"),
        ("api.eu.contoso.com", "longer"),
        ("contoso.com", "any"),
        ("evilcontoso.com", "any"),
        ("api.contoso.com.evil.com", "any"),
        ("localhost", "any"),
        ("127.0.0.1", "any"),
    ] {
        let answer = stage.call("GET", "/a").header("host", host).portal().send();
        assert_eq!(answer.verdict(), "200", "{host}");
        assert_eq!(last_line(&raw), format!("GET /{route} HTTP/1.1"), "{host}");
        assert_eq!(stage.record_of(&answer)["route"], route, "{host}");
    }
}

#[test]
fn a_rewrite_is_what_the_backend_sees_and_the_log_keeps_what_the_caller_asked() {
    let anyone = "allow: [{ tenants: [contoso] }]";
    let (raw, stage) = routes(&[
        (
            "rest",
            &format!(
                "match: {{ methods: [GET], path: '/guests/{{*rest}}' }}, rewrite: '/api/v1/{{rest}}', {anyone}"
            ),
        ),
        (
            "turned",
            &format!(
                "match: {{ methods: [GET], path: '/of/{{id}}/{{kind}}' }}, rewrite: '/{{kind}}/{{id}}', {anyone}"
            ),
        ),
        (
            "fixed",
            &format!(
                "match: {{ methods: [GET], path: '/fixed/{{id}}' }}, rewrite: /same, {anyone}"
            ),
        ),
    ]);
    for (target, seen, path) in [
        (
            "/guests/7/notes?x=1",
            "/api/v1/7/notes?x=1",
            "/guests/7/notes",
        ),
        ("/guests/a%20b", "/api/v1/a%20b", "/guests/a%20b"),
        ("/guests/%61/../b", "/api/v1/b", "/guests/b"),
        ("/of/7/notes", "/notes/7", "/of/7/notes"),
        ("/fixed/7?sig=x&y=2", "/same?y=2", "/fixed/7"),
    ] {
        let answer = stage.call("GET", target).portal().send();
        assert_eq!(answer.verdict(), "200", "{target}");
        assert_eq!(last_line(&raw), format!("GET {seen} HTTP/1.1"), "{target}");
        assert_eq!(stage.record_of(&answer)["path"], path, "{target}");
    }
    let climbing = stage.call("GET", "/guests/..%2f..%2fadmin").portal().send();
    assert_eq!(climbing.verdict(), "400 ambiguous-path");
    let out = stage.call("GET", "/guests/../../admin").portal().send();
    assert_eq!(out.verdict(), "400 ambiguous-path");
    let beside = stage.call("GET", "/guests/../admin").portal().send();
    assert_eq!(beside.verdict(), "404 route-not-found");
    assert_eq!(stage.record_of(&beside)["path"], json!("/admin"));
}
