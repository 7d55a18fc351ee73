//! Telemetry: whether what is sent would be taken, and whether logs can be written where they are to go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::Uri;

use super::{Area, Finding, Surroundings, plain, takes_files};
use crate::files::{GatewayDocument, LogForm, LogTarget, Otlp, OtlpProtocol};
use crate::running::StartError;
use crate::telemetry::{Export, Fault, LogFile, Step, ask_collector, reach_azure_monitor};

/// What would be exported, as it was read.
pub(super) type Read = Result<Option<Export>, StartError>;

/// Tells of the collector and of Azure Monitor, once what they are to be shown is fetched.
pub(super) async fn sent(surroundings: &Surroundings<'_>, read: &Read) -> Vec<Finding> {
    match read {
        Ok(None) => Vec::new(),
        Ok(Some(export)) => {
            let (mut findings, azure_monitor) = tokio::join!(
                collector(surroundings, export),
                azure_monitor(surroundings, export)
            );
            findings.extend(azure_monitor);
            findings
        }
        Err(why) => vec![Finding::bad(
            Area::Telemetry,
            "what export starts with",
            format!("{}; nothing that is sent was checked", plain(why)),
            "mend this first, and run the doctor again",
        )],
    }
}

/// Where it is, and no more: a path may be somebody's secret.
fn site(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", url.scheme_str().unwrap_or_default())
}

async fn collector(surroundings: &Surroundings<'_>, export: &Export) -> Vec<Finding> {
    let Some(written) = &surroundings.gateway.telemetry.otlp else {
        return Vec::new();
    };
    let name = format!("telemetry.otlp {}", site(&written.endpoint.value));
    let Some(to) = &export.otlp else {
        return vec![Finding::bad(
            Area::Telemetry,
            name,
            "a header field cannot be read: the diagnostics say why",
            "set the variable, or let the gateway's user read the file, that `telemetry.otlp.headers` names",
        )];
    };
    // What goes alike for several signals is told once.
    let mut told: Vec<(Vec<&str>, Result<(), Fault>)> = Vec::new();
    for (signal, answer) in ask_collector(to, &surroundings.lasting.clock).await {
        match told.iter_mut().find(|(_, known)| *known == answer) {
            Some((signals, _)) => signals.push(signal),
            None => told.push((vec![signal], answer)),
        }
    }
    let told = told.into_iter().map(|(signals, answer)| {
        let name = format!("{name} ({})", signals.join(", "));
        answered(name, answer, written)
    });
    told.collect()
}

fn answered(name: String, answer: Result<(), Fault>, written: &Otlp) -> Finding {
    let is_secure = written.endpoint.value.scheme_str() == Some("https");
    match answer {
        Ok(()) if is_secure => Finding::good(
            Area::Telemetry,
            name,
            "takes what it is sent, and its certificate verifies",
        ),
        Ok(()) => Finding::good(Area::Telemetry, name, "takes what it is sent"),
        Err(Fault {
            step: step @ (Step::Wait | Step::Take),
            why,
        }) => Finding::warning(Area::Telemetry, name, why, advice(step, written)),
        Err(Fault { step, why }) => Finding::bad(Area::Telemetry, name, why, advice(step, written)),
    }
}

fn advice(step: Step, written: &Otlp) -> &'static str {
    match (step, written.protocol) {
        (Step::Url, _) => {
            "mend `telemetry.otlp.endpoint`: a collector's URL without a signal's path"
        }
        (Step::HaveHeaders, _) => {
            "put the bare value there, one line of ASCII; what stands in Key Vault has a line of its own"
        }
        (Step::Resolve, _) => {
            "see that the host in `telemetry.otlp.endpoint` is spelt right and that this network's DNS knows it"
        }
        (Step::Address, _) => {
            "name the collector's own host in `telemetry.otlp.endpoint`; plain http is for this machine, unless `insecure: true` stands there"
        }
        (Step::Connect, OtlpProtocol::Grpc) => {
            "see that the collector runs and listens there (gRPC on 4317, as a rule; in a container not on `localhost` alone), and that this network may reach it"
        }
        (Step::Connect, OtlpProtocol::Http) => {
            "see that the collector runs and listens there (HTTP on 4318, as a rule; in a container not on `localhost` alone), and that this network may reach it"
        }
        (Step::Verify, OtlpProtocol::Grpc) => {
            "see that its certificate is signed by a CA of the platform's or of `telemetry.otlp.ca`, and holds the name in `endpoint`; that it speaks HTTP/2 there (NoApplicationProtocol: name its port for gRPC); and if it does not speak TLS, write `http://`"
        }
        (Step::Verify, _) if written.ca.is_some() => {
            "see that `telemetry.otlp.ca` is the CA that signed its certificate, and `endpoint` a name that it holds; if it does not speak TLS there, write `http://`"
        }
        (Step::Verify, _) => {
            "if a CA of your own signed its certificate, name that in `telemetry.otlp.ca`, and call it by a name that the certificate holds; if it does not speak TLS there, write `http://`"
        }
        (Step::SignIn, _) => {
            "see that `telemetry.otlp.headers` holds the key that it asks for, under the name that it asks for, and that the key may write this signal"
        }
        (Step::Find, OtlpProtocol::Grpc) => {
            "it does not take this signal: switch its receiver on, or leave the signal out of `telemetry.otlp.signals`"
        }
        (Step::Find, OtlpProtocol::Http) => {
            "it takes nothing below `endpoint` at this signal's path: mend the path that stands there, or leave the signal out of `telemetry.otlp.signals`"
        }
        (Step::Speak, OtlpProtocol::Grpc) => {
            "it does not speak gRPC there: name its port for that (4317, as a rule), write `protocol: http/protobuf`, or `https://` where it speaks TLS"
        }
        (Step::Speak, OtlpProtocol::Http) => {
            "it does not speak OTLP over HTTP there: name its port for that (4318, as a rule), write `protocol: grpc`, or `https://` where it speaks TLS"
        }
        (Step::Wait, _) => {
            "it takes nothing now: see its own log, its memory limit and where it sends to; the gateway tries again for a minute"
        }
        (Step::Take, _) => {
            "it may want no request without an item: see whether telemetry arrives there, and if not, the collector's own log"
        }
        (Step::Answer, _) => "see the collector's own log",
    }
}

async fn azure_monitor(surroundings: &Surroundings<'_>, export: &Export) -> Option<Finding> {
    const NAME: &str = "telemetry.azureMonitor";
    const COPY: &str =
        "copy the connection string from the overview of the Application Insights resource";
    surroundings.gateway.telemetry.azure_monitor.as_ref()?;
    let Some(to) = &export.azure_monitor else {
        return Some(Finding::bad(
            Area::Telemetry,
            NAME,
            "there is no connection string: the diagnostics say why",
            format!("set the variable, or let the gateway's user read the file; {COPY}"),
        ));
    };
    let now = surroundings.lasting.clock.now();
    let string = &to.connection_string;
    let string = match (string.fault(&now), string.current(&now)) {
        (Some(why), _) => {
            let found = format!("this is no connection string: {why}");
            return Some(Finding::bad(Area::Telemetry, NAME, found, COPY));
        }
        (None, None) => {
            let advice = "see the line of Key Vault first";
            let found = "the connection string was not read";
            return Some(Finding::bad(Area::Telemetry, NAME, found, advice));
        }
        (None, Some(string)) => string,
    };
    let endpoint = string.endpoint();
    let name = format!("{NAME} {}", site(endpoint));
    Some(match reach_azure_monitor(to, endpoint).await {
        Ok(()) if endpoint.scheme_str() == Some("https") => Finding::good(
            Area::Telemetry,
            name,
            "answers, and its certificate verifies; nothing was sent, so whether it takes the key is not known",
        ),
        Ok(()) => Finding::good(
            Area::Telemetry,
            name,
            "answers; plain http, on this machine, and nothing was sent",
        ),
        Err(Fault { step, why }) => Finding::bad(Area::Telemetry, name, why, monitor_advice(step)),
    })
}

fn monitor_advice(step: Step) -> &'static str {
    match step {
        Step::Resolve => {
            "see that `IngestionEndpoint` is as the portal shows it and that this network's DNS knows it (with a private link scope: link its zones, `privatelink.monitor.azure.com` and its kin, to this virtual network)"
        }
        Step::Verify => {
            "nobody but Azure is believed there: if a proxy breaks TLS, let this host past it, or put its CA among those that the machine believes"
        }
        Step::Address => "Azure Monitor has no such address: see who changed its DNS",
        _ => "see that this network may reach that host and port (firewall, private link scope)",
    }
}

/// Tells of the logs that go to files.
pub(super) fn logs(gateway: &GatewayDocument) -> Vec<Finding> {
    let telemetry = &gateway.telemetry;
    let requests = &telemetry.request_log;
    let requests = (requests.form != LogForm::Off).then_some(("requestLog", &requests.to));
    let decisions = telemetry.decision_log.as_ref();
    let decisions = decisions.map(|log| ("decisionLog", &log.to));
    let logs = requests.into_iter().chain(decisions);
    logs.filter_map(|(key, to)| log(key, to)).collect()
}

/// `None` where it goes to the standard output.
fn log(key: &str, to: &LogTarget) -> Option<Finding> {
    let path = &to.path.as_ref()?.value;
    let name = format!("telemetry.{key} {}", path.display());
    let made = made_at(path);
    let folder = made.parent().unwrap_or(Path::new(""));
    Some(match LogFile::is_there(path, to.rotate.is_some()) {
        // In words of the log's own, as no other error is.
        Err(error) if error.kind() == io::ErrorKind::Other => Finding::bad(
            Area::Telemetry,
            name,
            error.to_string(),
            "begin to read a pipe before the gateway starts, for without a reader it does not start; `rotate` is for files alone",
        ),
        Err(error) => unwritable(name, &error),
        Ok(is_there) => match (is_there, to.rotate.is_some(), takes_files(folder)) {
            (true, false, _) => Finding::good(Area::Telemetry, name, "can be appended to"),
            (true, true, Ok(())) => {
                let found = "can be appended to, and put aside";
                Finding::good(Area::Telemetry, name, found)
            }
            (true, true, Err(error)) => Finding::bad(
                Area::Telemetry,
                name,
                format!("can be appended to, but not put aside: {error}"),
                format!(
                    "let the user that the gateway runs as write in {}, or leave `rotate` out",
                    folder.display()
                ),
            ),
            (false, _, Ok(())) => Finding::good(Area::Telemetry, name, "can be made"),
            (false, _, Err(error)) => unwritable(name, &error),
        },
    })
}

/// Where a file would be made: of a link that leads nowhere, at its end.
fn made_at(path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(to) if !path.exists() => path.parent().unwrap_or(Path::new("")).join(to),
        Ok(_) | Err(_) => path.to_owned(),
    }
}

fn unwritable(name: String, error: &io::Error) -> Finding {
    let advice = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "make the folder, and let the user that the gateway runs as write there; the gateway makes the file, and no folder"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let the user that the gateway runs as write the file and, where there is none or it is rotated, the folder"
        }
        _ => "name a file in a folder that the user that the gateway runs as may write",
    };
    let found = format!("cannot be written: {error}");
    Finding::bad(Area::Telemetry, name, found, advice)
}
