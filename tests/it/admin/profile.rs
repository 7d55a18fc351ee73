//! The profile of a gateway that runs by itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::{SECRET, file, scene};

/// A gateway in a process of its own. It ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on now.
fn free() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn ask(port: u16, path: &str, secret: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn an_operator_gets_a_flame_graph_and_two_do_not_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let port = free();
    let (_raw, scene) = scene(&format!(
        "{{ address: '127.0.0.1:{port}', bearer: {{ file: '{bearer}' }}, profile: true }}"
    ));
    let config = scene.write(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["run", "--config"]).arg(config);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().expect("it runs"));
    let events = BufReader::new(process.0.stderr.take().expect("piped"));
    let mut events = events.lines().map_while(Result::ok);
    assert!(events.any(|line| line.contains("\"started\"")), "it starts");

    assert!(ask(port, "/profile", "wrong").starts_with("HTTP/1.1 401"));
    let refused = ask(port, "/profile?seconds=61", SECRET);
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    let one = move || std::thread::spawn(move || ask(port, "/profile?seconds=3", SECRET));
    let both = [one(), one()];
    while !both.iter().all(std::thread::JoinHandle::is_finished) {
        // What is to be seen in the graph.
        assert!(ask(port, "/keys", SECRET).starts_with("HTTP/1.1 200"));
    }
    let mut answers = both.map(|answer| answer.join().expect("an answer"));
    answers.sort();
    let [graph, second] = answers;
    assert!(second.starts_with("HTTP/1.1 409"), "{second}");
    assert!(graph.starts_with("HTTP/1.1 200"), "{graph}");
    assert!(graph.contains("content-type: image/svg+xml"));
    assert!(graph.contains("</svg>"), "{graph}");
    assert!(graph.contains("portcullis::"), "functions by their names");
    assert!(!graph.contains("planted"));
    assert!(ask(port, "/livez", SECRET).ends_with("ok\n"), "it goes on");
}
