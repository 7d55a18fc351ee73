//! The console against a real gateway, in a real browser.

use std::process::Command;

use super::started;

#[test]
fn every_view_of_the_console_reads_what_the_gateway_tells() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let admin = stage.gateway().admin_address().expect("an admin address");
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/run"))
        .env("PORTCULLIS_ADMIN", format!("http://{admin}/"))
        .env(
            "PORTCULLIS_CALL",
            format!("https://localhost:{}/one", stage.address.port()),
        )
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.contains("pass 10"), "{told}");
}
