//! `portcullis check`: every fault of configuration and policies, without running. Secrets are not
//! read: where policies are reviewed there are none.

use std::path::Path;
use std::process::ExitCode;

use super::{Format, out, talk};
use crate::files::{self, Diagnostics, ListenTls, PolicyDocument};
use crate::net::tls;
use crate::server::Certificates;
use crate::upstream::{Backends, Endpoints};
use crate::{files::GatewayDocument, policy};

pub(super) fn check(path: &Path, format: Format) -> ExitCode {
    tls::install_provider();
    let mut diagnostics = Diagnostics::new();
    let routes = examine(path, &mut diagnostics);
    match format {
        Format::Json => out(&format!("{:#}\n", diagnostics.to_json())),
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
    if is_gateway(path) {
        let gateway = files::load_gateway(path, diagnostics)?;
        certificates(&gateway, diagnostics);
        let policies = files::load_policies(&gateway.policies.value, diagnostics)?;
        return Some(compile(&policies, diagnostics));
    }
    let policies = files::load_policies(path, diagnostics)?;
    Some(compile(&policies, diagnostics))
}

/// A folder holds policies, and a file does unless it says where to listen.
pub(super) fn is_gateway(path: &Path) -> bool {
    let text = std::fs::read_to_string(path);
    let listens = |text: String| text.lines().any(|line| line.starts_with("listen:"));
    !path.is_dir() && (text.is_ok_and(listens) || path.ends_with("gateway.yaml"))
}

fn certificates(gateway: &GatewayDocument, diagnostics: &mut Diagnostics) {
    if let ListenTls::Certificates(pairs) = &gateway.listen.tls {
        Certificates::read(pairs, diagnostics);
    }
    if let Some(ca) = &gateway.entra.ca {
        let read = std::fs::read(&ca.value).map_err(|error| error.to_string());
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

fn compile(policies: &PolicyDocument, diagnostics: &mut Diagnostics) -> usize {
    policy::compile(policies, diagnostics);
    Backends::check(policies, &Endpoints::default(), diagnostics);
    policies.routes.len()
}
