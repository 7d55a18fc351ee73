//! The commands that answer questions about policies, as they are typed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

const NAMES: &str = "\
tenants: { contoso: 11111111-1111-1111-1111-111111111111, fabrikam: 22222222-2222-2222-2222-222222222222 }
apps: { portal: aaaaaaaa-0000-0000-0000-000000000001, batch: aaaaaaaa-0000-0000-0000-000000000002 }
audiences: [api://gateway]
backends: { b: { http: 'http://127.0.0.1:9', credential: none } }
routes:
";

/// The route that most tests begin with: nothing in it smells.
const READ: &str = "  read: { match: { methods: [GET], path: '/guests/{id}' }, backend: b, allow: [{ tenants: [contoso], apps: [portal, batch], tokenKinds: [appOnly] }] }\n";

const NO_TESTS: &str = "there are no tests, so no test reaches any route";

mod check;
mod diff;
mod explain;
mod fmt;
pub(crate) mod sas_report;
mod test;
mod who_can;

struct Place(tempfile::TempDir);

impl Place {
    fn new(policy: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        place.write("policies/policy.yaml", &format!("{NAMES}{policy}"));
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// Makes it a repository, and what is there a commit on main.
    fn commit(&self) {
        let commit = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x.example",
            "commit",
            "-q",
            "-m",
            "one",
        ];
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "."], &commit] {
            let output = command(self.0.path(), "git", arguments);
            assert!(output.status.success(), "{arguments:?} {output:?}");
        }
    }

    fn run(&self, line: &str) -> Output {
        command(
            self.0.path(),
            PORTCULLIS,
            &line.split(' ').collect::<Vec<_>>(),
        )
    }

    /// What a command says, and its exit code.
    fn ask(&self, line: &str) -> (String, Option<i32>) {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    }

    /// The messages of `check`, but for that which most policies here deserve.
    fn warnings(&self) -> Vec<String> {
        let (said, _) = self.ask("check policies --format json");
        let told: Value = serde_json::from_str(&said).expect("JSON");
        let told = told.as_array().expect("a list").iter();
        told.map(|one| one["message"].as_str().expect("a message").to_owned())
            .filter(|message| message != NO_TESTS)
            .collect()
    }
}

fn command(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(name)
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("it runs")
}

fn rule(rule: &str) -> String {
    format!("{READ}  other: {{ match: {{ methods: [POST], path: /other }}, backend: b, {rule} }}\n")
}
