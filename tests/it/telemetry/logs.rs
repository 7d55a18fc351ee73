//! The logs as files: rotated, synced, torn by a kill, and full.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;

use super::scene;
use crate::edge::{Process, ask as said, gateway, shake};
use crate::support::Stage;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"));
    lines.collect()
}

fn ask(stage: &Stage) {
    assert_eq!(
        stage.call("GET", "/guests/7").portal().send().verdict(),
        "200"
    );
}

#[test]
fn both_logs_go_to_files_that_are_put_aside_when_they_are_large() {
    let (_raw, scene) = scene(
        "requestLog: { path: requests.jsonl, rotate: { size: 64KiB, keep: 2 }, syncWithin: 1s }, decisionLog: { path: decisions.jsonl, rotate: { size: 64KiB, keep: 1 } }",
    );
    let stage = scene.start();
    let place = |name: &str| stage.folder.path().join(name);
    let size = |name: &str| fs::metadata(place(name)).map_or(0, |metadata| metadata.len());
    let mut asked = 0;
    while size("requests.jsonl.2") == 0 || size("decisions.jsonl.1") == 0 {
        ask(&stage);
        asked += 1;
        assert!(asked < 2000, "nothing is put aside");
    }
    ask(&stage);
    stage.until("the last line", |_| {
        size("requests.jsonl") > 0 && size("decisions.jsonl") > 0
    });
    for name in ["requests.jsonl.1", "requests.jsonl.2", "decisions.jsonl.1"] {
        assert!(size(name) >= 64 * 1024, "{name}");
        assert!(lines(&place(name)).len() > 50, "{name}");
    }
    assert!(!place("requests.jsonl.3").exists());
    assert!(!place("decisions.jsonl.2").exists());
}

/// A gateway in a process of its own, which can be killed.
struct Killed {
    child: std::process::Child,
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_kill_leaves_a_log_that_the_next_gateway_and_replay_can_go_on_with() {
    let (_raw, scene) = scene("requestLog: off, decisionLog: { path: decisions.jsonl }");
    let mut stage = scene.start();
    ask(&stage);
    let log = stage.folder.path().join("decisions.jsonl");
    stage.until("the decision", |_| lines(&log).len() == 1);
    // What a kill in the middle of a write leaves.
    stage.restart_after(|folder| {
        let path = folder.join("decisions.jsonl");
        let mut text = fs::read_to_string(&path).expect("a log");
        let half = text.len() / 2;
        text += &text.clone()[..half];
        fs::write(path, text).expect("written");
    });
    stage.until("keys and credentials", Stage::ready);
    ask(&stage);
    stage.until("another decision", |_| {
        fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 3)
    });
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["replay", "--policies"])
        .arg(stage.folder.path().join("policy.yaml"))
        .arg(&log)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains("2 "),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn killed_under_load_it_leaves_whole_lines_but_for_the_last() {
    let (_raw, scene) = scene("requestLog: off, decisionLog: { path: decisions.jsonl }");
    let stage = scene.start();
    // The same files, in a process of its own beside.
    let config = stage.folder.path().join("gateway.yaml");
    let text = fs::read_to_string(&config).expect("a file");
    let own = stage.folder.path().join("own.yaml");
    fs::write(&own, text.replace("decisions.jsonl", "own.jsonl")).expect("written");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--config"])
        .arg(&own)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut own = Killed { child };
    let stderr = own.child.stderr.take().expect("piped");
    let address = listening(stderr);
    let log = stage.folder.path().join("own.jsonl");
    stage.runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let mut stream = stage.tls_to(address, socket, b"http/1.1").await;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let request = b"GET /guests/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut answers = vec![0; 4096];
        for _ in 0..500 {
            stream.write_all(request).await.expect("written");
            let read = stream.read(&mut answers).await.expect("an answer");
            assert!(read > 0);
        }
    });
    stage.until("some lines", |_| {
        fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0)
    });
    own.child.kill().expect("killed");
    own.child.wait().expect("ended");
    let text = fs::read_to_string(&log).expect("a log");
    // The kernel ends what it was writing between two pages.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    fs::write(&log, whole).expect("written");
    assert!(!lines(&log).is_empty());
}

/// The address that a gateway says it listens on.
fn listening(stderr: impl std::io::Read) -> std::net::SocketAddr {
    use std::io::BufRead as _;
    let lines = std::io::BufReader::new(stderr).lines();
    for line in lines {
        let line = line.expect("text");
        if let Some((_, rest)) = line.split_once("listening on ") {
            let end = rest.find('"').expect("a quote");
            return rest[..end].parse().expect("an address");
        }
    }
    panic!("it ended");
}

#[test]
fn a_disk_that_is_full_costs_lines_or_requests_as_the_operator_says() {
    // /dev/full takes nothing, as a disk that is full.
    for (when_full, ready, lost) in [("drop", "200 OK", 1.0), ("block", "503", 0.0)] {
        let (_raw, scene) = scene(&format!(
            "requestLog: off, decisionLog: {{ path: /dev/full, whenFull: {when_full} }}"
        ));
        let stage = scene.start();
        ask(&stage);
        let readiness = || stage.admin("/readyz?verbose");
        stage.until("the fault", |_| {
            readiness().contains("telemetry.decisionLog")
        });
        stage.until("the fault", |_| {
            !readiness().contains("telemetry.decisionLog ok")
        });
        let told = readiness();
        assert!(
            told.starts_with(&format!("HTTP/1.1 {ready}")),
            "{when_full}: {told}"
        );
        let counted = super::metric(&stage, "portcullis_decisions_lost_total");
        assert_eq!(counted, Some(lost), "{when_full}");
        // As long as there are places, requests are served either way.
        ask(&stage);
    }
}

#[test]
fn what_a_reader_does_not_take_is_told_when_the_gateway_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("decisions");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    // Opened to write, too, it waits for nobody; and nothing is read of it.
    let mut options = std::fs::OpenOptions::new();
    let _reader = options.read(true).write(true).open(&pipe).expect("open");
    let (_raw, scene) = scene(&format!(
        "requestLog: off, decisionLog: {{ path: '{}' }}",
        pipe.display()
    ));
    let process = Process::start(gateway(&scene.write(folder.path())));
    // A pipe holds 64 KiB, and a line has some hundred bytes.
    let requests = 400;
    scene.runtime.block_on(async {
        let connected = shake(&scene, process.address, b"http/1.1").await;
        let mut stream = connected.expect("let in");
        let refused = "GET /guests/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for _ in 0..requests {
            assert!(said(&mut stream, refused).await.starts_with("HTTP/1.1 401"));
        }
    });
    process.ask_to_end();
    let lost = process.event("log-lost");
    let detail = lost["detail"].as_str().expect("a detail");
    let count = detail.strip_prefix("up to ").expect(detail);
    let (count, rest) = count.split_once(' ').expect(detail);
    assert_eq!(
        rest,
        "lines of the decision log were not written: nobody takes them"
    );
    let count: usize = count.parse().expect(detail);
    assert!(count > 0 && count <= requests, "{count}");
}

#[test]
fn callers_can_be_told_by_hashes_alone() {
    let (_raw, scene) = scene(
        "privacy: hash, fingerprintKey: { file: key }, requestLog: json, decisionLog: { path: decisions.jsonl }",
    );
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("key"),
        "0123456789abcdef0123456789abcdef",
    )
    .expect("written");
    let mut scene = scene;
    let somebody = "0b1ec7aa-0000-0000-0000-000000000001";
    let boss = "0b1ec7aa-0000-0000-0000-000000000009";
    scene.names = format!("principals: {{ somebody: {somebody}, boss: {boss} }}");
    let refusing = |rule: &str, path: &str| {
        format!(
            "match: {{ methods: [GET], path: {path} }}, backend: raw, allow: [{{ tenants: [contoso], {rule} }}]"
        )
    };
    let reads = "when: \"token.claims['oid'] != '' && request.headers['x-user'] != ''\"";
    let scene = scene
        .route("boss", &refusing("principals: [boss]", "/boss"))
        .route("office", &refusing("from: [10.0.0.0/8]", "/office"))
        .route("read", &refusing(reads, "/read"));
    let config = scene.write(folder.path());
    let mut stage = scene.start_at(&config);
    stage.folder = folder;
    let answer = stage.call("GET", "/guests/7").portal().send();
    assert_eq!(answer.verdict(), "200");
    let record = stage.record_of(&answer);
    // printf 'portcullis caller\0%s' 127.0.0.1 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    assert_eq!(record["client"], "h:c736ba04d12df367");
    assert_eq!(record["principal"], "h:ecacfaf8b639666c");
    let log = stage.folder.path().join("decisions.jsonl");
    stage.until("the decision", |_| lines(&log).len() == 1);
    let decision = &lines(&log)[0];
    assert_eq!(decision["client"], record["client"]);
    assert_eq!(decision["token"]["principal"], record["principal"]);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(
        !text.contains("127.0.0.1") && !text.contains(somebody),
        "{text}"
    );
    // Neither is it told why somebody was refused in words that name them.
    for (path, told) in [
        ("/boss", &record["principal"]),
        ("/office", &record["client"]),
    ] {
        let refused = stage.call("GET", path).portal().send();
        assert_eq!(refused.status, 403);
        assert_eq!(&stage.record_of(&refused)["got"], told, "{path}");
    }
    let read = stage
        .call("GET", "/read")
        .portal()
        .header("x-user", "planted-user")
        .send();
    assert_eq!(read.verdict(), "200");
    stage.until("the decisions", |_| lines(&log).len() == 4);
    let text = fs::read_to_string(&log).expect("a log");
    assert!(
        !text.contains(somebody) && !text.contains("planted-user"),
        "{text}"
    );
    assert!(!stage.admin("/decisions").contains(somebody));
    fs::write(&log, text.lines().next().expect("a line").to_owned() + "\n").expect("written");
    // A policy that asks who called from where cannot be decided by again, and says so.
    let replayed = |rule: &str| {
        let policy = fs::read_to_string(stage.folder.path().join("policy.yaml")).expect("a policy");
        let place = stage.folder.path().join("next.yaml");
        let changed = policy.replace(
            "apps: [marketing-portal] }]",
            &format!("apps: [marketing-portal]{rule} }}]"),
        );
        assert!(rule.is_empty() || changed != policy);
        fs::write(&place, changed).expect("written");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["replay", "--policies"])
            .arg(place)
            .arg(&log)
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let same = replayed("");
    assert!(same.contains("0 cannot be told"), "{same}");
    for rule in [", from: [10.0.0.0/8]", ", principals: [somebody]"] {
        let told = replayed(rule);
        assert!(told.contains("1 cannot be told"), "{rule}: {told}");
    }
}
