//! `portcullis check`: every fault of configuration and policies, without running. Secrets are not
//! read: where policies are reviewed there are none.

use std::path::Path;
use std::process::ExitCode;

use super::{Format, out, talk};
use crate::certificates::{Certificates, Clients};
use crate::clock::{Clock as _, SystemClock};
use crate::files::{self, Diagnostics, GatewayDocument, Listen, Span};
use crate::net::tls;
use crate::policy::told::access_table;
use crate::policy::{self, Policy};
use crate::trial::{Suite, Tokens, Trial};
use crate::upstream::{Backends, Endpoints};

/// The table of who can call what that may stand beside the policies.
const ACCESS_TABLE: &str = "access.expected";

pub(super) fn check(path: &Path, format: Format) -> ExitCode {
    tls::install_provider();
    let mut diagnostics = Diagnostics::new();
    let routes = examine(path, &mut diagnostics);
    match format {
        Format::Json => out(&format!("{:#}\n", diagnostics.to_json())),
        Format::Sarif => out(&format!("{:#}\n", diagnostics.to_sarif())),
        Format::Human => {
            out(&diagnostics.render());
            if let Some(routes) = routes.filter(|_| !diagnostics.has_errors()) {
                talk(&format!("{}: good, {routes} routes\n", path.display()));
            }
        }
    }
    match diagnostics.has_errors() {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    }
}

/// How many routes there are, when they could be read.
fn examine(path: &Path, diagnostics: &mut Diagnostics) -> Option<usize> {
    if !is_gateway(path) {
        return policies(path, None, diagnostics);
    }
    let gateway = files::load_gateway(path, diagnostics)?;
    certificates(&gateway, diagnostics);
    gateway.review(diagnostics);
    if let Some(candidate) = &gateway.candidate {
        policies(&candidate.value, Some(&gateway), diagnostics);
    }
    policies(&gateway.policies.value, Some(&gateway), diagnostics)
}

/// Checks the policies of a file or folder, and what stands beside them in a folder; also whether they fit a gateway.
fn policies(
    path: &Path,
    gateway: Option<&GatewayDocument>,
    diagnostics: &mut Diagnostics,
) -> Option<usize> {
    let before = diagnostics.errors();
    let document = files::load_policies(path, diagnostics)?;
    let policy = policy::compile(&document, diagnostics);
    Backends::check(&document, &Endpoints::default(), diagnostics);
    // What smells is worth a word only where nothing is at fault.
    if let Some(policy) = policy.filter(|_| diagnostics.errors() == before) {
        let now = SystemClock.now().unix;
        policy::review(&policy, &document, now.as_secs(), diagnostics);
        if gateway.is_some_and(|gateway| !gateway.asks_for_certificates()) {
            policy::review_uncertified(&policy, diagnostics);
        }
        if path.is_dir() {
            let tokens = gateway.map(|gateway| Tokens::from(&gateway.entra));
            let tokens = tokens.unwrap_or_default();
            let suite = Suite::new(Trial::new(&policy, &tokens), &document, now);
            untested(path, &policy, suite, diagnostics);
            stale_table(path, &policy, diagnostics);
        }
    }
    Some(document.routes.len())
}

/// Routes that no test reaches, where there are tests at all.
fn untested(folder: &Path, policy: &Policy, mut suite: Suite<'_>, diagnostics: &mut Diagnostics) {
    let files = files::test_files(folder);
    for file in &files {
        for case in files::load_tests(file, diagnostics).cases {
            // Whether it passes is asked by `test`.
            suite.run(&case, diagnostics);
        }
    }
    if files.is_empty() && !policy.routes().is_empty() {
        diagnostics
            .warning(
                &Span::nowhere_in(folder),
                "there are no tests, so no test reaches any route",
            )
            .help("write some into a file `*.test.yaml` beside the policies");
        return;
    }
    for route in policy.routes().iter().filter(|route| !suite.reaches(route)) {
        diagnostics
            .warning(route.span(), "no test reaches this route")
            .help("write one into a `*.test.yaml` file beside the policies");
    }
}

/// What a checked-in table holds. To read a pipe would wait for its writer, and a link could lead to what
/// nobody may print.
fn table_file(path: &Path) -> Result<String, String> {
    const LONGEST: u64 = 64 << 20;
    let metadata = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no plain file".to_owned());
    }
    if metadata.len() > LONGEST {
        return Err("it is longer than 64 MiB".to_owned());
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The checked-in table of who can call what, where there is one.
fn stale_table(folder: &Path, policy: &Policy, diagnostics: &mut Diagnostics) {
    let path = folder.join(ACCESS_TABLE);
    if std::fs::symlink_metadata(&path).is_err() {
        return;
    }
    let written = table_file(&path);
    let written = match written {
        Ok(written) => written,
        Err(why) => {
            diagnostics
                .error(
                    &Span::nowhere_in(&path),
                    format!("this table cannot be read: {why}"),
                )
                .help("write it anew, or remove it if nobody reviews it");
            return;
        }
    };
    // Git may have given it the line ends of the machine.
    let written = written.replace("\r\n", "\n");
    let now = match access_table(policy) {
        Ok(now) => now,
        Err(error) => {
            diagnostics.error(&Span::nowhere_in(&path), error.to_string());
            return;
        }
    };
    if now == written {
        return;
    }
    let differs = |(was, is): &(&str, &str)| was != is;
    let same = written
        .lines()
        .zip(now.lines())
        .take_while(|both| !differs(both));
    let line = same.count();
    let last = written.lines().count().saturating_sub(1);
    diagnostics
        .error(
            &Span::line_in(&path, &written, line.min(last)),
            "this table of who can call what is not what the policies say",
        )
        .help(format!(
            "look at `portcullis diff`, then write it anew: portcullis who-can --all --policies {} > {}",
            folder.display(),
            path.display()
        ));
}

/// A folder holds policies, and a file does unless it says where to listen.
pub(super) fn is_gateway(path: &Path) -> bool {
    // To read a pipe would wait for its writer; what is no file says so when it is loaded.
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let text = match is_file {
        true => std::fs::read_to_string(path),
        false => Ok(String::new()),
    };
    let listens = |text: String| text.lines().any(|line| line.starts_with("listen:"));
    !path.is_dir() && (text.is_ok_and(listens) || path.ends_with("gateway.yaml"))
}

fn certificates(gateway: &GatewayDocument, diagnostics: &mut Diagnostics) {
    for tls in gateway.listen.iter().filter_map(Listen::tls) {
        Certificates::check(&tls.certificates, diagnostics);
    }
    let clients = gateway.listen.iter();
    for clients in clients.filter_map(|listen| listen.client_certificates.as_ref()) {
        let read = Clients::read(clients, diagnostics);
        let now = SystemClock.now().unix;
        for (file, why) in read.iter().flat_map(|read| read.faults(now)) {
            diagnostics.warning(&clients.ca.span, format!("{file}: {why}"));
        }
    }
    let admin = gateway.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    if let Some(tls) = admin {
        Certificates::check(&tls.certificates, diagnostics);
    }
    let cas = gateway.entra.ca.iter().chain(&gateway.key_vault.ca);
    for ca in cas.chain(admin.and_then(|tls| tls.client_ca.as_ref())) {
        let read = files::read_ca(&ca.value).map_err(|error| error.to_string());
        let roots = read.map(tls::Roots::Pem);
        let usable = roots.and_then(|roots| {
            tls::client_config(&roots, &[])
                .map(|_| ())
                .map_err(|error| error.to_string())
        });
        if let Err(why) = usable {
            diagnostics
                .error(&ca.span, format!("this CA file cannot be used: {why}"))
                .help("name a readable PEM file with CA certificates");
        }
    }
}
