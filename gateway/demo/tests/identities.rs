//! The identity endpoint.

use http::header;
use serde_json::{Value, json};

use super::{Stage, field, told};
use crate::demo::identity::{ExpiresOn, IDENTITY_HEADER, SYSTEM};
use crate::demo::names::FUNCTION_RESOURCE;

const IMDS: (&str, &str) = ("metadata", "true");
const APP_SERVICE: (&str, &str) = ("x-identity-header", IDENTITY_HEADER);

fn url(endpoint: &str, more: &str) -> String {
    format!("{endpoint}?api-version=2019-08-01&resource={FUNCTION_RESOURCE}{more}")
}

fn imds(stage: &Stage) -> String {
    let address = stage.world.identity.imds();
    format!("http://{address}/metadata/identity/oauth2/token")
}

#[tokio::test]
async fn arcs_agent_gives_a_token_to_whoever_can_read_its_file() {
    let stage = Stage::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = stage.world.identity.arc_key(folder.path()).expect("a key");
    let url = url(&stage.world.identity.arc_endpoint(), "");
    assert_eq!(stage.get(&url, &[]).await.status(), 400);
    let challenged = stage.get(&url, &[IMDS]).await;
    assert_eq!(challenged.status(), 401);
    let challenge = field(&challenged, header::WWW_AUTHENTICATE.as_str());
    assert_eq!(challenge, format!("Basic realm={}", path.display()));
    let key = std::fs::read_to_string(&path).expect("a key");
    for (name, sent, expected) in [
        ("the key", format!("Basic {key}"), 200),
        ("another key", format!("Basic {key}x"), 401),
        ("another scheme", format!("Bearer {key}"), 401),
        ("nothing", "Basic ".to_owned(), 401),
    ] {
        let answer = stage.get(&url, &[IMDS, ("authorization", &sent)]).await;
        assert_eq!(answer.status(), expected, "{name}");
    }
    let basic = format!("Basic {key}");
    let answer = stage.get(&url, &[IMDS, ("authorization", &basic)]).await;
    let token = told(&answer)["access_token"].as_str().map(str::to_owned);
    let identity = stage
        .world
        .identity
        .issued()
        .identity(&token.expect("a token"));
    assert_eq!(identity.as_deref(), Some(SYSTEM));
}

#[tokio::test]
async fn a_resource_id_by_the_other_spelling_means_the_systems_identity() {
    let stage = Stage::new().await;
    let app_service = stage.world.identity.endpoint();
    for (name, endpoint, way, parameter, expected) in [
        (
            "App Service",
            &app_service,
            APP_SERVICE,
            "mi_res_id",
            "/one",
        ),
        (
            "App Service, misspelt",
            &app_service,
            APP_SERVICE,
            "msi_res_id",
            SYSTEM,
        ),
        ("IMDS", &imds(&stage), IMDS, "msi_res_id", "/one"),
        ("IMDS, misspelt", &imds(&stage), IMDS, "mi_res_id", SYSTEM),
    ] {
        let answer = stage
            .get(&url(endpoint, &format!("&{parameter}=/one")), &[way])
            .await;
        let body = told(&answer);
        let token = body["access_token"].as_str().expect("a token");
        let identity = stage.world.identity.issued().identity(token);
        assert_eq!(identity.as_deref(), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn faults_come_in_order_and_then_it_is_well() {
    let stage = Stage::new().await;
    stage.world.identity.set_faults(&[404, 410, 429, 500]);
    stage.world.identity.set_retry_after(Some("2"));
    let url = url(&imds(&stage), "");
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = stage.get(&url, &[IMDS]).await;
        let after = field(&answer, header::RETRY_AFTER.as_str()).to_owned();
        statuses.push((answer.status().as_u16(), after));
    }
    let expected = [(404, "2"), (410, "2"), (429, "2"), (500, "2"), (200, "")];
    assert_eq!(
        statuses,
        expected.map(|(status, after)| (status, after.to_owned()))
    );
    stage.world.identity.set_garbage(true);
    let garbage = stage.get(&url, &[IMDS]).await;
    assert_eq!(
        (garbage.status().as_u16(), told(&garbage)),
        (200, Value::Null)
    );
}

#[test]
fn the_end_of_a_token_is_written_in_every_form_that_has_been_seen() {
    // 31 December 2024, one second before midnight.
    let end = 1_735_689_599;
    for (form, expected) in [
        (ExpiresOn::Text, json!("1735689599")),
        (ExpiresOn::Number, json!(1_735_689_599)),
        (ExpiresOn::Iso, json!("2024-12-31T23:59:59Z")),
        (ExpiresOn::IsoWithSpace, json!("2024-12-31 23:59:59")),
        (ExpiresOn::American, json!("12/31/2024 23:59:59")),
        (ExpiresOn::Empty, json!("")),
    ] {
        assert_eq!(form.written(end).expect("a time"), expected, "{form:?}");
    }
}

#[tokio::test]
async fn an_empty_end_stands_beside_a_lifetime() {
    let stage = Stage::new().await;
    let identity = &stage.world.identity;
    identity.set_expires_on(ExpiresOn::Empty);
    identity.set_refresh_in(Some(60));
    identity.set_lifetime(120);
    let answer = stage
        .get(&url(&identity.endpoint(), ""), &[APP_SERVICE])
        .await;
    let body = told(&answer);
    assert_eq!(body["expires_on"], "");
    assert_eq!(body["expires_in"], "120");
    assert_eq!(body["refresh_in"], "60");
}
