//! A collector as OpenTelemetry's own crates make it: the generated gRPC services behind tonic, and the same messages
//! over HTTP. What it takes is read by code that has nothing to do with the gateway's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1 as logs_service;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics_service;
use opentelemetry_proto::tonic::collector::trace::v1 as trace_service;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codec::CompressionEncoding;

/// What was taken.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) spans: Vec<Span>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) resources: Vec<Resource>,
    /// The fields of the last request.
    pub(crate) headers: HeaderMap,
    pub(crate) connections: usize,
    /// To what requests went: paths of HTTP, signals of gRPC.
    pub(crate) asked: Vec<String>,
    /// How it answers: as it should, or with this status.
    pub(crate) refuses: Option<u16>,
    /// How many items of each request it says that it did not want.
    pub(crate) rejects: i64,
    pub(crate) refused: usize,
}

#[derive(Clone)]
pub(crate) struct Collector {
    taken: Arc<Mutex<Taken>>,
    address: SocketAddr,
}

impl Collector {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("not poisoned")
    }

    /// One that is spoken to over HTTP.
    pub(crate) fn http(runtime: &Runtime) -> Self {
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let (listener, address) = bound(runtime);
        let state = Arc::clone(&taken);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().expect("not poisoned").connections += 1;
                let state = Arc::clone(&state);
                let service = service_fn(move |request| over_http(Arc::clone(&state), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { taken, address }
    }

    /// One that speaks gRPC.
    pub(crate) fn grpc(runtime: &Runtime) -> Self {
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let (listener, address) = bound(runtime);
        let (gzip, service) = (CompressionEncoding::Gzip, Service(Arc::clone(&taken)));
        let traces = trace_service::trace_service_server::TraceServiceServer::new(service.clone());
        let metrics =
            metrics_service::metrics_service_server::MetricsServiceServer::new(service.clone());
        let logs = logs_service::logs_service_server::LogsServiceServer::new(service);
        let router = tonic::transport::Server::builder()
            .add_service(traces.accept_compressed(gzip))
            .add_service(metrics.accept_compressed(gzip))
            .add_service(logs.accept_compressed(gzip));
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        runtime.spawn(router.serve_with_incoming(incoming));
        Self { taken, address }
    }
}

fn bound(runtime: &Runtime) -> (TcpListener, SocketAddr) {
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("bound");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

impl Taken {
    fn traces(&mut self, request: trace_service::ExportTraceServiceRequest) {
        for of in request.resource_spans {
            self.resources.extend(of.resource);
            let scopes = of.scope_spans.into_iter();
            self.spans.extend(scopes.flat_map(|scope| scope.spans));
        }
    }

    fn metrics(&mut self, request: metrics_service::ExportMetricsServiceRequest) {
        for of in request.resource_metrics {
            self.resources.extend(of.resource);
            let scopes = of.scope_metrics.into_iter();
            self.metrics.extend(scopes.flat_map(|scope| scope.metrics));
        }
    }

    fn logs(&mut self, request: logs_service::ExportLogsServiceRequest) {
        for of in request.resource_logs {
            self.resources.extend(of.resource);
            let scopes = of.scope_logs.into_iter();
            self.logs.extend(scopes.flat_map(|scope| scope.log_records));
        }
    }
}

async fn over_http(
    state: Arc<Mutex<Taken>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = match parts.headers.get("content-encoding") {
        Some(coding) => {
            assert_eq!(coding, "gzip");
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut GzDecoder::new(&*body), &mut plain).expect("gzip");
            Bytes::from(plain)
        }
        None => body,
    };
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    let mut taken = state.lock().expect("not poisoned");
    taken.headers = parts.headers;
    taken.asked.push(parts.uri.path().to_owned());
    if let Some(status) = taken.refuses {
        taken.refused += 1;
        let answer = Response::builder().status(status).body(Full::default());
        return Ok(answer.expect("an answer"));
    }
    match parts.uri.path() {
        "/v1/traces" => taken.traces(prost::Message::decode(body).expect("traces")),
        "/v1/metrics" => taken.metrics(prost::Message::decode(body).expect("metrics")),
        "/v1/logs" => taken.logs(prost::Message::decode(body).expect("logs")),
        other => panic!("nothing is at {other}"),
    }
    let answer = trace_service::ExportTraceServiceResponse {
        partial_success: (taken.rejects > 0).then(|| trace_service::ExportTracePartialSuccess {
            rejected_spans: taken.rejects,
            error_message: "too old".to_owned(),
        }),
    };
    Ok(Response::new(Full::from(answer.encode_to_vec())))
}

#[derive(Clone)]
struct Service(Arc<Mutex<Taken>>);

impl Service {
    fn took<T>(
        &self,
        request: tonic::Request<T>,
        take: impl FnOnce(&mut Taken, T),
    ) -> Result<(), tonic::Status> {
        let mut taken = self.0.lock().expect("not poisoned");
        taken.headers = request.metadata().clone().into_headers();
        taken.asked.push(std::any::type_name::<T>().to_owned());
        if let Some(code) = taken.refuses {
            taken.refused += 1;
            return Err(tonic::Status::new(
                i32::from(code).into(),
                "planted-message",
            ));
        }
        take(&mut taken, request.into_inner());
        Ok(())
    }
}

#[tonic::async_trait]
impl trace_service::trace_service_server::TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<trace_service::ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<trace_service::ExportTraceServiceResponse>, tonic::Status> {
        self.took(request, Taken::traces)?;
        let rejects = self.0.lock().expect("not poisoned").rejects;
        Ok(tonic::Response::new(
            trace_service::ExportTraceServiceResponse {
                partial_success: Some(trace_service::ExportTracePartialSuccess {
                    rejected_spans: rejects,
                    error_message: String::new(),
                }),
            },
        ))
    }
}

#[tonic::async_trait]
impl metrics_service::metrics_service_server::MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<metrics_service::ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<metrics_service::ExportMetricsServiceResponse>, tonic::Status> {
        self.took(request, Taken::metrics)?;
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl logs_service::logs_service_server::LogsService for Service {
    async fn export(
        &self,
        request: tonic::Request<logs_service::ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<logs_service::ExportLogsServiceResponse>, tonic::Status> {
        self.took(request, Taken::logs)?;
        Ok(tonic::Response::new(Default::default()))
    }
}

/// Attributes by their names, as text; no name stands twice.
pub(crate) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for KeyValue { key, value, .. } in attributes {
        let before = found.insert(key.clone(), text(value.as_ref()));
        assert_eq!(before, None, "{key} stands twice");
    }
    found
}

pub(crate) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
