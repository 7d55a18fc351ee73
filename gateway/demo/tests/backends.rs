//! The Logic App and the Functions.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, header};
use serde_json::{Value, json};

use super::{Stage, field, told, verdict};
use crate::demo::backend::{
    ASYNC_TRIGGER, FUNCTION_KEY, MASTER_KEY, SAS_SIGNATURE, SYSTEM_KEY, TRIGGER, async_sas_query,
    sas_query,
};
use crate::demo::names::{FUNCTION_RESOURCE, LOGIC_APP_RESOURCE};

const ARR: (&str, &str) = ("x-arr-log-id", "3d7a");

#[tokio::test]
async fn a_logic_app_takes_one_scheme_and_says_which_is_wrong() {
    let stage = Stage::new().await;
    let logic_app = &stage.world.logic_app;
    let (sas, bare) = (sas_query(), "api-version=2016-10-01".to_owned());
    let wrong = sas.replace(SAS_SIGNATURE, "guessed");
    let no_permission = sas.replace("sp=", "xsp=");
    let upper = sas.replace("sig=", "SIG=");
    let good = stage.bearer(LOGIC_APP_RESOURCE);
    let other = stage.bearer(FUNCTION_RESOURCE);
    let basic = "Basic dTpw";
    for (name, sas_on, oauth_on, query, sent, expected) in [
        ("SAS", true, true, &sas, None, "200"),
        ("SAS in capitals", true, true, &upper, None, "200"),
        ("a bearer", true, true, &bare, Some(good.as_str()), "200"),
        (
            "both",
            true,
            true,
            &sas,
            Some(&good),
            "401 DirectApiRequestHasMoreThanOneAuthorization",
        ),
        (
            "SAS and Basic",
            true,
            true,
            &sas,
            Some(basic),
            "401 DirectApiRequestHasMoreThanOneAuthorization",
        ),
        (
            "both, SAS off",
            false,
            true,
            &sas,
            Some(&good),
            "401 DirectApiRequestHasMoreThanOneAuthorization",
        ),
        (
            "neither",
            true,
            true,
            &bare,
            None,
            "401 DirectApiAuthorizationRequired",
        ),
        (
            "Basic",
            true,
            true,
            &bare,
            Some(basic),
            "401 DirectApiInvalidAuthorizationScheme",
        ),
        (
            "another signature",
            true,
            true,
            &wrong,
            None,
            "401 AuthorizationFailed",
        ),
        (
            "no permission",
            true,
            true,
            &no_permission,
            None,
            "401 AuthorizationFailed",
        ),
        (
            "another resource",
            true,
            true,
            &bare,
            Some(&other),
            "403 MisMatchingOAuthClaims",
        ),
        (
            "SAS off",
            false,
            true,
            &sas,
            None,
            "401 DirectApiInvalidAuthorizationScheme",
        ),
        ("a bearer, SAS off", false, true, &bare, Some(&good), "200"),
        (
            "OAuth off",
            true,
            false,
            &bare,
            Some(&good),
            "401 OAuthAccessPolicyNotFound",
        ),
        ("SAS, OAuth off", true, false, &sas, None, "200"),
    ] {
        logic_app.set_sas(sas_on);
        logic_app.set_oauth(oauth_on);
        let fields: Vec<(&str, &str)> = sent.iter().map(|sent| ("authorization", *sent)).collect();
        let url = format!("{}{TRIGGER}?{query}", logic_app.url());
        let answer = stage.post(&url, &fields).await;
        assert_eq!(verdict(&answer), expected, "{name}");
    }
}

#[tokio::test]
async fn a_run_is_read_by_its_own_url_and_nothing_beside_it() {
    let stage = Stage::new().await;
    let logic_app = &stage.world.logic_app;
    logic_app.set_polls(2);
    let trigger = format!("{}{ASYNC_TRIGGER}?{}", logic_app.url(), async_sas_query());
    let begun = stage.post(&trigger, &[]).await;
    assert_eq!(begun.status(), 202);
    assert_eq!(field(&begun, header::RETRY_AFTER.as_str()), "1");
    let location = field(&begun, header::LOCATION.as_str()).to_owned();
    let (path, query) = location.split_once('?').expect("a query");
    let inputs = told(&begun);
    let inputs = inputs.pointer("/properties/trigger/inputsLink/uri");
    let inputs = inputs.and_then(Value::as_str).expect("a link").to_owned();
    let inputs_signature = inputs.rsplit_once("sig=").expect("a signature").1;
    let (unsigned, signature) = location.rsplit_once("sig=").expect("a signature");
    let signatures = logic_app.signatures();
    for signature in [signature, inputs_signature] {
        assert!(signatures.iter().any(|known| known == signature));
    }
    let bearer = stage.bearer(LOGIC_APP_RESOURCE);
    let bearer = ("authorization", bearer.as_str());
    let bare = format!("{path}?api-version=2016-06-01");
    let borrowed = format!("{unsigned}sig={inputs_signature}");
    let elsewhere = format!("{}0?{query}", path);
    let basic = ("authorization", "Basic dTpw");
    logic_app.set_sas(false);
    for (name, url, fields, expected) in [
        (
            "a bearer too",
            &location,
            vec![bearer],
            "401 DirectApiRequestHasMoreThanOneAuthorization",
        ),
        (
            "Basic too",
            &location,
            vec![basic],
            "401 DirectApiRequestHasMoreThanOneAuthorization",
        ),
        (
            "a bearer alone",
            &bare,
            vec![bearer],
            "401 InvalidUseOfOAuthToken",
        ),
        (
            "nothing",
            &bare,
            vec![],
            "401 DirectApiAuthorizationRequired",
        ),
        (
            "the signature of another link",
            &borrowed,
            vec![],
            "401 AuthorizationFailed",
        ),
        (
            "another operation",
            &elsewhere,
            vec![],
            "401 AuthorizationFailed",
        ),
        ("the first poll", &location, vec![], "202"),
        ("the second poll", &location, vec![], "202"),
        ("the third poll", &location, vec![], "200"),
        ("the inputs", &inputs, vec![], "200"),
    ] {
        let answer = stage.get(url, &fields).await;
        assert_eq!(verdict(&answer), expected, "{name}");
        if expected == "202" {
            assert_eq!(
                field(&answer, header::LOCATION.as_str()),
                location,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn the_host_takes_a_request_without_a_log_id_for_one_of_its_own() {
    let stage = Stage::new().await;
    let base = stage.world.function.url();
    let hooks = "/runtime/webhooks/durabletask/instances";
    let with_code = format!("{hooks}?code={SYSTEM_KEY}");
    let wrong_code = format!("{hooks}?code=guessed");
    let key = |key| ("x-functions-key", key);
    for (name, path, fields, expected) in [
        ("status, from outside", "/admin/host/status", vec![ARR], 401),
        ("status, from inside", "/admin/host/status", vec![], 200),
        (
            "status, with the master key",
            "/admin/host/status",
            vec![ARR, key(MASTER_KEY)],
            200,
        ),
        (
            "status, with a function key",
            "/admin/host/status",
            vec![ARR, key(FUNCTION_KEY)],
            401,
        ),
        ("status, in capitals", "/ADMIN/Host/STATUS", vec![], 200),
        (
            "status, with percent codes",
            "/%61dmin/host/status",
            vec![],
            200,
        ),
        ("keys, from inside", "/admin/host/keys", vec![], 401),
        (
            "keys, with the master key",
            "/admin/host/keys",
            vec![key(MASTER_KEY)],
            200,
        ),
        ("ping", "/admin/host/ping", vec![ARR], 200),
        ("webhooks, from outside", hooks, vec![ARR], 401),
        ("webhooks, from inside", hooks, vec![], 200),
        ("webhooks, with the code", &with_code, vec![ARR], 200),
        ("webhooks, with another code", &wrong_code, vec![ARR], 401),
        (
            "the header wins over the code",
            &with_code,
            vec![ARR, key("guessed")],
            401,
        ),
        (
            "the first header wins",
            hooks,
            vec![ARR, key("guessed"), key(SYSTEM_KEY)],
            401,
        ),
        (
            "the first header wins indeed",
            hooks,
            vec![ARR, key(SYSTEM_KEY), key("guessed")],
            200,
        ),
    ] {
        let answer = stage.get(&format!("{base}{path}"), &fields).await;
        assert_eq!(answer.status(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_function_with_a_key_takes_the_key_of_the_day() {
    let stage = Stage::new().await;
    let keyed = &stage.world.keyed_function;
    let url = format!("{}/api/guests/1", keyed.url());
    let key = |key| [("x-functions-key", key)];
    assert_eq!(stage.get(&url, &[]).await.status(), 401);
    let answer = stage.get(&url, &key(FUNCTION_KEY)).await;
    assert_eq!(answer.status(), 200);
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(!text.contains(FUNCTION_KEY), "{text}");
    keyed.set_function_key("rolled");
    assert_eq!(stage.get(&url, &key(FUNCTION_KEY)).await.status(), 401);
    assert_eq!(stage.get(&url, &key("rolled")).await.status(), 200);
}

#[tokio::test]
async fn an_orchestration_hands_out_keys_with_the_host_that_it_was_told() {
    let stage = Stage::new().await;
    let function = &stage.world.function;
    let bearer = stage.bearer(FUNCTION_RESOURCE);
    let bearer = ("authorization", bearer.as_str());
    let start = format!("{}/api/Orchestrators/Invite", function.url());
    let begun = stage.post(&start, &[bearer]).await;
    assert_eq!(begun.status(), 202);
    assert_eq!(field(&begun, header::RETRY_AFTER.as_str()), "10");
    let text = String::from_utf8_lossy(begun.body()).into_owned();
    assert!(
        !text.contains('&') && text.contains("\\u0026code="),
        "{text}"
    );
    let body = told(&begun);
    assert_eq!(body.as_object().expect("an object").len(), 9);
    let id = body["id"].as_str().expect("an ID");
    let instance = format!(
        "{}/runtime/webhooks/durabletask/instances/{id}",
        function.url()
    );
    let keys = format!("taskHub=DemoHub&connection=Storage&code={SYSTEM_KEY}");
    for (name, expected) in [
        ("statusQueryGetUri", format!("{instance}?{keys}")),
        (
            "sendEventPostUri",
            format!("{instance}/raiseEvent/{{eventName}}?{keys}"),
        ),
        (
            "terminatePostUri",
            format!("{instance}/terminate?reason={{text}}&{keys}"),
        ),
        (
            "rewindPostUri",
            format!("{instance}/rewind?reason={{text}}&{keys}"),
        ),
    ] {
        assert_eq!(body[name], json!(expected), "{name}");
    }
    let status = body["statusQueryGetUri"].as_str().expect("a URL");
    assert_eq!(field(&begun, header::LOCATION.as_str()), status);
    let event = body["sendEventPostUri"].as_str().expect("a URL");
    let event = event.replace("{eventName}", "Approved");
    let raised = stage.send(Method::POST, &event, &[ARR], "true").await;
    assert_eq!(raised.status(), 202);
    let raised = function.durable_events();
    assert_eq!(raised.len(), 1);
    assert_eq!(
        (raised[0].name.as_str(), raised[0].body.as_str()),
        ("Approved", "true")
    );
    let first = stage.get(status, &[ARR]).await;
    assert_eq!(first.status(), 202);
    assert_eq!(field(&first, header::LOCATION.as_str()), status);
    let second = stage.get(status, &[ARR]).await;
    assert_eq!(second.status(), 200);
    assert_eq!(told(&second)["runtimeStatus"], "Completed");
    assert_eq!(stage.post(&event, &[ARR]).await.status(), 410);
    let disguised = stage
        .post(&start, &[bearer, ("disguised-host", "evil.example")])
        .await;
    let location = field(&disguised, header::LOCATION.as_str());
    assert!(
        location.starts_with("https://evil.example/runtime/"),
        "{location}"
    );
}

#[tokio::test]
async fn the_host_believes_the_principal_that_it_is_told() {
    let stage = Stage::new().await;
    let url = format!("{}/api/whoami", stage.world.function.url());
    let bearer = stage.bearer(FUNCTION_RESOURCE);
    let principal = json!({
        "auth_typ": "aad",
        "name_typ": "name",
        "role_typ": "roles",
        "claims": [{ "typ": "name", "val": "Ada?>" }, { "typ": "roles", "val": "Reader" }],
    });
    let good = STANDARD.encode(principal.to_string());
    let url_safe = URL_SAFE_NO_PAD.encode(principal.to_string());
    assert_ne!(good, url_safe);
    let no_claims = STANDARD.encode(r#"{"auth_typ":"aad"}"#);
    let no_json = STANDARD.encode("hello");
    for (name, values, expected) in [
        (
            "as Easy Auth writes it",
            vec![good.as_str()],
            (200, json!(true)),
        ),
        ("the first counts", vec![&good, "x"], (200, json!(true))),
        (
            "the first counts, not the second",
            vec!["x", &good],
            (500, Value::Null),
        ),
        ("base64url", vec![&url_safe], (500, Value::Null)),
        ("no claims", vec![&no_claims], (500, Value::Null)),
        ("no JSON", vec![&no_json], (200, json!(false))),
        ("nothing", vec![], (200, json!(false))),
    ] {
        let mut fields = vec![("authorization", bearer.as_str())];
        fields.extend(values.iter().map(|value| ("x-ms-client-principal", *value)));
        let answer = stage.get(&url, &fields).await;
        let got = (
            answer.status().as_u16(),
            told(&answer)["authenticated"].clone(),
        );
        assert_eq!(got, expected, "{name}");
    }
    let fields = [
        ("authorization", bearer.as_str()),
        ("x-ms-client-principal", &good),
    ];
    let known = told(&stage.get(&url, &fields).await);
    assert_eq!(known["name"], "Ada?>");
    assert_eq!(known["roles"], json!(["Reader"]));
    assert_eq!(known["claims"], principal["claims"]);
}
