//! Key Vault.

use std::time::Duration;

use http::header;
use serde_json::json;

use super::{Stage, field, told, verdict};
use crate::demo::names::CONTOSO;
use crate::demo::vault::{PEM, PFX, VAULT_RESOURCE};

const VERSION: &str = "api-version=2025-07-01";

#[tokio::test]
async fn a_vault_answers_whoever_has_a_token_for_it_to_the_letter() {
    let stage = Stage::new().await;
    stage.world.vault.set("name", "value");
    let url = format!("{}/secrets/name?{VERSION}", stage.world.vault.url());
    let with_slash = format!("{VAULT_RESOURCE}/");
    for (name, sent, expected) in [
        ("nothing", None, "401 Unauthorized"),
        (
            "no token of Azure's",
            Some("Bearer x".to_owned()),
            "401 Unauthorized",
        ),
        (
            "for another resource",
            Some(stage.bearer("https://graph.microsoft.com")),
            "401 Unauthorized",
        ),
        (
            "with a slash behind",
            Some(stage.bearer(&with_slash)),
            "401 Unauthorized",
        ),
        ("for the vault", Some(stage.bearer(VAULT_RESOURCE)), "200"),
    ] {
        let fields: Vec<(&str, &str)> = sent
            .iter()
            .map(|sent| ("authorization", sent.as_str()))
            .collect();
        let answer = stage.get(&url, &fields).await;
        assert_eq!(verdict(&answer), expected, "{name}");
        let challenge = match expected {
            "200" => String::new(),
            _ => format!(
                "Bearer authorization=\"https://login.microsoftonline.com/{CONTOSO}\", resource=\"https://vault.azure.net\""
            ),
        };
        assert_eq!(
            field(&answer, header::WWW_AUTHENTICATE.as_str()),
            challenge,
            "{name}"
        );
    }
    assert_eq!(
        *stage.world.vault.asked().borrow(),
        [("name".to_owned(), None)]
    );
}

#[tokio::test]
async fn a_secret_is_read_by_name_and_version_in_any_case() {
    let stage = Stage::new().await;
    let vault = &stage.world.vault;
    let first = vault.set("Db-Password", "first");
    let second = vault.set_with_type("db-password", "second", "text/plain");
    vault.set("off", "value");
    vault.disable("off", true);
    vault.set_with_type("pfx", "MII=", PFX);
    vault.set_with_type("ended", "MII=", PFX);
    vault.expire("ended", Some(stage.world.entra.now() + 10));
    vault.set("gone", "value");
    vault.delete("gone");
    stage.clock.advance(Duration::from_secs(10));
    let bearer = stage.bearer(VAULT_RESOURCE);
    let bearer = [("authorization", bearer.as_str())];
    let base = vault.url();
    for (path, expected) in [
        (format!("/secrets/db-password?{VERSION}"), "200"),
        (format!("/secrets/DB-PASSWORD/?{VERSION}"), "200"),
        (format!("/secrets/db-password/{first}?{VERSION}"), "200"),
        (format!("/secrets/db-password/{second}/?{VERSION}"), "200"),
        ("/secrets/db-password".to_owned(), "400 BadParameter"),
        (
            format!("/secrets/db_password?{VERSION}"),
            "400 BadParameter",
        ),
        (format!("/secrets/nobody?{VERSION}"), "404 SecretNotFound"),
        (format!("/secrets/gone?{VERSION}"), "404 SecretNotFound"),
        (
            format!("/secrets/db-password/{:032x}?{VERSION}", 1),
            "404 SecretNotFound",
        ),
        (format!("/secrets/off?{VERSION}"), "403 Forbidden"),
        (format!("/secrets/ended?{VERSION}"), "403 Forbidden"),
        (format!("/secrets/pfx?{VERSION}"), "200"),
        (
            format!("/secrets/pfx?{VERSION}&outContentType={PEM}"),
            "400 BadParameter",
        ),
    ] {
        let answer = stage.get(&format!("{base}{path}"), &bearer).await;
        assert_eq!(verdict(&answer), expected, "{path}");
    }
    let answer = stage
        .get(&format!("{base}/secrets/db-password?{VERSION}"), &bearer)
        .await;
    let now = stage.world.entra.now();
    assert_eq!(
        told(&answer),
        json!({
            "id": format!("{base}/secrets/Db-Password/{second}"),
            "value": "second",
            "contentType": "text/plain",
            "tags": {},
            "attributes": {
                "enabled": true,
                "created": now - 10,
                "updated": now - 10,
                "recoveryLevel": "Recoverable+Purgeable",
                "recoverableDays": 90,
            },
        })
    );
    vault.set_fault_with(Some(429), Some("7"));
    let busy = stage
        .get(&format!("{base}/secrets/pfx?{VERSION}"), &bearer)
        .await;
    assert_eq!(busy.status(), 429);
    assert_eq!(field(&busy, header::RETRY_AFTER.as_str()), "7");
}
