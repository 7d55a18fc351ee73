//! WebSockets as libraries speak them: `websockets` for Python, on both sides of the gateway.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::clients::python;
use crate::support::Scene;

#[test]
fn python_speaks_through_the_gateway_with_python() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut server = Command::new(python())
        .arg(scripts.join("websocket_server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python");
    let mut port = String::new();
    let mut said = BufReader::new(server.stdout.take().expect("piped"));
    said.read_line(&mut port).expect("a port");
    let stage = Scene::new()
        .backend("chat", &format!("http: 'http://127.0.0.1:{}', credential: none", port.trim()))
        .route("chat", "match: { methods: [GET], path: '/chat/{room}' }, backend: chat, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [marketing-portal] }]")
        .start();
    let output = Command::new(python())
        .arg(scripts.join("websocket_client.py"))
        .arg(format!("wss://localhost:{}/chat/7", stage.address.port()))
        .arg(stage.folder.path().join("ca.crt"))
        .env("TOKEN", stage.portal_token())
        .output()
        .expect("Python");
    // It ends when nobody holds its input any more.
    drop(server.stdin.take());
    server.wait().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "all as it should be\n",
        "{said}"
    );
}
