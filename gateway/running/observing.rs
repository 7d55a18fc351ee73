//! What gateway.yaml says of telemetry, put to work: what workers tell, the logs' threads, and export.

use std::io::Write;
use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Semaphore;

use super::{Options, StartError, machine, roots};
use crate::clock::Clock;
use crate::credentials::{Credentials, Derived};
use crate::files::{
    self, Diagnostics, GatewayDocument, LogForm, LogTarget, SentDecisions, Signal, TraceParent,
};
use crate::net::tls::{self, Roots};
use crate::telemetry::{
    AzureMonitorTo, ConnectionString, Export, Form, Health, Log, LogFile, LogSettings, Metrics,
    OtlpProtocol, OtlpTo, ROOM, RequestLog, Requests, Resource, Rotation, Sink, Sync, Target,
    Telling, Temporality, Which,
};
use crate::trace::{Parent, Sampling};
use crate::upstream::Presenting;

/// What workers tell of requests.
pub(crate) fn telling(gateway: &GatewayDocument) -> Telling {
    let telemetry = &gateway.telemetry;
    let otlp = telemetry.otlp.as_ref();
    let sends = |signal| otlp.is_some_and(|otlp| otlp.signals.contains(&signal));
    let azure_monitor = telemetry.azure_monitor.as_ref().map(|to| Form {
        role: service_name(telemetry),
        instance: instance(telemetry),
        decisions: decisions(to.decisions),
    });
    let traces = sends(Signal::Traces) || azure_monitor.is_some();
    let blocks = telemetry
        .decision_log
        .as_ref()
        .is_some_and(|log| log.blocks);
    Telling {
        request_log: match telemetry.request_log.form {
            LogForm::Json => RequestLog::Json,
            LogForm::Human => RequestLog::Human,
            LogForm::Off => RequestLog::Off,
        },
        decision_log: telemetry.decision_log.is_some(),
        room: blocks.then(|| Arc::new(Semaphore::new(ROOM))),
        spans: sends(Signal::Traces),
        logs: match otlp {
            Some(otlp) if sends(Signal::Logs) => decisions(otlp.decisions),
            Some(_) | None => Requests::None,
        },
        azure_monitor,
        recent: gateway.admin.is_some(),
        durations: gateway.admin.is_some()
            || sends(Signal::Metrics)
            || telemetry.azure_monitor.is_some(),
        sampling: match traces {
            false => Sampling::OFF,
            true => Sampling {
                ratio: telemetry.traces.ratio,
                parent: match telemetry.traces.parent {
                    TraceParent::Follow => Parent::Follow,
                    TraceParent::Continue => Parent::Continue,
                    TraceParent::Restart => Parent::Restart,
                },
            },
        },
        hashes_callers: telemetry.hashes_callers,
        scheme: match gateway.listen.iter().any(|listen| listen.tls().is_some()) {
            true => "https",
            false => "http",
        },
    }
}

fn decisions(written: SentDecisions) -> Requests {
    match written {
        SentDecisions::All => Requests::All,
        SentDecisions::Denied => Requests::Denied,
        SentDecisions::None => Requests::None,
    }
}

/// Begins to write the logs that are configured; the request log goes to `stdout` where no file is named.
pub(super) fn logs(
    gateway: &GatewayDocument,
    telling: &Telling,
    sinks: &[Arc<Sink>],
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    health: &Arc<Health>,
    stdout: Box<dyn Write + Send>,
) -> Result<Vec<Log>, StartError> {
    let telemetry = &gateway.telemetry;
    let mut logs = Vec::new();
    let mut start = |which, to: &LogTarget, key, stream, room| {
        let settings = LogSettings {
            which,
            target: target(to, key, stream)?,
            sync: to.sync_within.map_or(Sync::Never, Sync::Within),
            room,
            clock: Arc::clone(clock),
            health: Arc::clone(health),
        };
        let log = Log::start(settings, sinks.to_vec(), Arc::clone(metrics));
        logs.push(log.map_err(machine("starting a log"))?);
        Ok(())
    };
    if telemetry.request_log.form != LogForm::Off {
        let to = &telemetry.request_log.to;
        start(Which::Requests, to, "requestLog", stdout, None)?;
    }
    if let Some(log) = &telemetry.decision_log {
        let stdout = Box::new(std::io::stdout());
        let room = telling.room.clone();
        start(Which::Decisions, &log.to, "decisionLog", stdout, room)?;
    }
    Ok(logs)
}

fn target(to: &LogTarget, key: &str, stream: Box<dyn Write + Send>) -> Result<Target, StartError> {
    let Some(path) = &to.path else {
        return Ok(Target::Stream(stream));
    };
    let rotation = to.rotate.map(|(size, keep)| Rotation { size, keep });
    let file = LogFile::open(path.value.clone(), rotation);
    let what = format!("opening telemetry.{key}.path {}", path.value.display());
    file.map(Target::File).map_err(machine(what))
}

/// What is to be exported. `None` where it is nothing.
pub(crate) fn export(
    gateway: &GatewayDocument,
    options: &Options,
    credentials: &Arc<Credentials>,
    telling: &Telling,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Export>, StartError> {
    let telemetry = &gateway.telemetry;
    if telemetry.otlp.is_none() && telemetry.azure_monitor.is_none() {
        return Ok(None);
    }
    let presenting = Presenting {
        credentials,
        key_vault: &gateway.key_vault,
    };
    let otlp = match &telemetry.otlp {
        None => None,
        Some(to) => otlp(to, options, presenting, diagnostics)?,
    };
    let azure_monitor = match (&telemetry.azure_monitor, &telling.azure_monitor) {
        (Some(to), Some(form)) => azure_monitor(to, form, options, presenting, diagnostics)?,
        _ => None,
    };
    Ok(Some(Export {
        resource: Resource::new(&attributes(telemetry)),
        otlp,
        azure_monitor,
        metrics_interval: telemetry.metrics_interval,
    }))
}

fn otlp(
    to: &files::Otlp,
    options: &Options,
    presenting: Presenting<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<OtlpTo>, StartError> {
    let roots = roots(to.ca.as_ref(), "telemetry.otlp.ca")?;
    let tls = tls::client_config(&roots, &[]).map_err(machine("reading telemetry.otlp.ca"))?;
    let mut headers = Vec::new();
    for (name, source) in &to.headers {
        let Some(held) = presenting.text(source, diagnostics) else {
            return Ok(None);
        };
        let value = Derived::new(vec![held], |texts| {
            let text = texts.first().map(|text| text.expose().trim());
            let text = text.filter(|text| !text.is_empty()).ok_or("it is empty")?;
            let value = HeaderValue::from_str(text);
            let mut value = value.map_err(|_| "it is no value of a header field".to_owned())?;
            value.set_sensitive(true);
            Ok(value)
        });
        if let Some(why) = value.fault(&options.clock.now()) {
            diagnostics.error(
                &source.span,
                format!("this cannot be the value of `{name}`: {why}"),
            );
            return Ok(None);
        }
        headers.push((name.clone(), value));
    }
    Ok(Some(OtlpTo {
        endpoint: to.endpoint.value.clone(),
        protocol: match to.protocol {
            files::OtlpProtocol::Http => OtlpProtocol::Http,
            files::OtlpProtocol::Grpc => OtlpProtocol::Grpc,
        },
        headers,
        tls,
        plain: to.insecure,
        gzip: to.gzip,
        timeout: to.timeout,
        traces: to.signals.contains(&Signal::Traces),
        metrics: to.signals.contains(&Signal::Metrics),
        logs: to.signals.contains(&Signal::Logs),
        temporality: match to.delta {
            true => Temporality::Delta,
            false => Temporality::Cumulative,
        },
        resolver: Arc::clone(&options.resolver),
    }))
}

fn azure_monitor(
    to: &files::AzureMonitor,
    form: &Form,
    options: &Options,
    presenting: Presenting<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<AzureMonitorTo>, StartError> {
    let tls = tls::client_config(&Roots::Platform, &[]);
    let tls = tls.map_err(machine("reading the platform's certificates"))?;
    let Some(held) = presenting.text(&to.connection_string, diagnostics) else {
        return Ok(None);
    };
    let connection_string = Derived::new(vec![held], |texts| {
        let text = texts.first().ok_or("there is none")?;
        ConnectionString::read(text).map_err(|why| why.to_string())
    });
    if let Some(why) = connection_string.fault(&options.clock.now()) {
        diagnostics
            .error(
                &to.connection_string.span,
                format!("this is no connection string: {why}"),
            )
            .help(
                "copy the connection string from the overview of the Application Insights resource",
            );
        return Ok(None);
    }
    Ok(Some(AzureMonitorTo {
        connection_string,
        form: form.clone(),
        tls,
        resolver: Arc::clone(&options.resolver),
    }))
}

const SERVICE_NAME: &str = "service.name";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// What is said of the gateway: what the file says comes before what the environment says.
/// <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration>
fn attributes(telemetry: &files::Telemetry) -> Vec<(String, String)> {
    let mut attributes = vec![
        (SERVICE_NAME.to_owned(), service_name(telemetry)),
        (
            "service.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        (SERVICE_INSTANCE.to_owned(), instance(telemetry)),
    ];
    for (name, value) in said(telemetry) {
        if attributes.iter().all(|(known, _)| *known != name) {
            attributes.push((name, value));
        }
    }
    attributes
}

/// What operators say of the gateway.
fn said(telemetry: &files::Telemetry) -> impl Iterator<Item = (String, String)> {
    telemetry.resource.iter().cloned().chain(from_environment())
}

/// `name=value` pairs between commas, their values with percent codes.
fn from_environment() -> Vec<(String, String)> {
    let text = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| {
        let value = crate::fingerprint::decoded(value.trim().as_bytes());
        let value = String::from_utf8_lossy(&value).into_owned();
        (name.trim().to_owned(), value)
    });
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

fn service_name(telemetry: &files::Telemetry) -> String {
    let from_resource = || {
        let mut said = from_environment().into_iter();
        said.rfind(|(name, _)| name == SERVICE_NAME)
            .map(|(_, value)| value)
    };
    let variable = || std::env::var("OTEL_SERVICE_NAME").ok();
    telemetry
        .service_name
        .clone()
        .or_else(variable)
        .or_else(from_resource)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "portcullis".to_owned())
}

/// Which replica: what operators or the platform call it. On a machine of its own there may be two, as while one takes
/// over from the other, and they must not be taken for one.
fn instance(telemetry: &files::Telemetry) -> String {
    let said = said(telemetry).find(|(name, _)| name == SERVICE_INSTANCE);
    let platform = || {
        let variables = [
            "CONTAINER_APP_REPLICA_NAME",
            "WEBSITE_INSTANCE_ID",
            "HOSTNAME",
        ];
        let mut named = variables.iter().flat_map(std::env::var);
        named.find(|name| !name.is_empty())
    };
    let machine = || {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}:{}", host.trim(), std::process::id())
    };
    said.map(|(_, value)| value)
        .filter(|name| !name.is_empty())
        .or_else(platform)
        .unwrap_or_else(machine)
}
