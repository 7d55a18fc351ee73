//! Who is measured: a program with a job, and how its configuration is made.

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;

use portcullis::demo::names::{AUDIENCE, CONTOSO, LOGIC_APP_RESOURCE, MARKETING_PORTAL};

use crate::backend::Expect;
use crate::tokens;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    Portcullis,
    Haproxy,
    Nginx,
    Envoy,
}

/// What it does with each request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    /// TLS, token, tenant, app and role checked, SAS stripped, credential swapped.
    Full,
    /// The full job, with a cache of verified tokens that has to be switched on.
    Cached,
    /// TLS and passing on.
    Plain,
    /// TCP passed on without being read.
    Splice,
    /// The full job with so many routes and apps in the policy.
    Routes(usize),
    /// The full job, told to somebody.
    Told(Told),
}

/// What a gateway tells while it is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Every signal: both logs, every trace, all metrics, events and refusals to a collector, the admin address.
    All,
    /// The same, and every decision to the collector, too.
    Twice,
    /// The same as every signal, of traces what is usual at such a rate: one in ten.
    Usual,
    /// Metrics and the latest requests at the admin address.
    Admin,
    /// The request log.
    RequestLog,
    /// Both logs.
    Logs,
    /// Every trace, and metrics.
    Traces,
    /// Every request, to Azure Monitor.
    AzureMonitor,
}

impl Told {
    /// What is written in gateway.yaml for it.
    pub(crate) fn settings(self, collector: SocketAddr) -> String {
        let admin = "admin: { address: '127.0.0.1:0' }\n";
        let otlp = |more: &str| format!("otlp: {{ endpoint: 'http://{collector}'{more} }}");
        let decisions = "decisionLog: { path: decisions.jsonl, whenFull: block, rotate: { size: 16MiB, keep: 2 } }";
        match self {
            Self::All => format!(
                "{admin}telemetry: {{ requestLog: json, {decisions}, {} }}\n",
                otlp("")
            ),
            Self::Twice => format!(
                "{admin}telemetry: {{ requestLog: json, {decisions}, {} }}\n",
                otlp(", decisions: all")
            ),
            Self::Usual => format!(
                "{admin}telemetry: {{ requestLog: json, {decisions}, traces: {{ ratio: 0.1 }}, {} }}\n",
                otlp("")
            ),
            Self::Admin => format!("{admin}telemetry: {{ requestLog: off }}\n"),
            Self::RequestLog => "telemetry: { requestLog: json }\n".to_owned(),
            Self::Logs => format!("telemetry: {{ requestLog: json, {decisions} }}\n"),
            Self::Traces => format!("telemetry: {{ requestLog: off, {} }}\n", otlp("")),
            Self::AzureMonitor => {
                "telemetry: { requestLog: off, azureMonitor: { connectionString: { file: connection } } }\n".to_owned()
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contender {
    pub(crate) program: Program,
    pub(crate) job: Job,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portcullis => "Portcullis",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
        })
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Cached => f.write_str("full, token cache on"),
            Self::Plain => f.write_str("plain"),
            Self::Splice => f.write_str("TCP splice, no TLS"),
            Self::Told(Told::All) => f.write_str("full, every signal told"),
            Self::Told(Told::Twice) => f.write_str("full, and each decision to the collector, too"),
            Self::Told(Told::Usual) => f.write_str("full, logs, metrics, one trace in ten"),
            Self::Told(Told::Admin) => f.write_str("full, admin address"),
            Self::Told(Told::RequestLog) => f.write_str("full, request log"),
            Self::Told(Told::Logs) => f.write_str("full, both logs"),
            Self::Told(Told::Traces) => f.write_str("full, every trace"),
            Self::Told(Told::AzureMonitor) => f.write_str("full, all to Azure Monitor"),
            Self::Routes(count) => write!(f, "full, {count} routes, apps and tokens"),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.job)
    }
}

impl Contender {
    /// Does it decide who is let in?
    pub(crate) fn guards(self) -> bool {
        match self.job {
            Job::Full | Job::Cached | Job::Routes(_) | Job::Told(_) => true,
            Job::Plain | Job::Splice => false,
        }
    }

    pub(crate) fn has_tls(self) -> bool {
        self.job != Job::Splice
    }

    /// What the backend must get of it.
    pub(crate) fn expect(self) -> Expect {
        match (self.guards(), self.program) {
            (true, _) => Expect::Swapped,
            (false, Program::Portcullis) => Expect::Stripped,
            (false, _) => Expect::Untouched,
        }
    }

    /// Portcullis's policy for the job.
    pub(crate) fn policy(self, backend: SocketAddr) -> String {
        match self.job {
            Job::Plain | Job::Splice => format!(
                "backends:\n  b: {{ http: 'http://{backend}', credential: none }}\nroutes:\n  r: {{ match: {{ methods: [POST], path: /invitations }}, backend: b, public: true }}\n"
            ),
            Job::Full | Job::Cached | Job::Told(_) => policy(backend, 1, 1),
            Job::Routes(count) => policy(backend, count, count),
        }
    }
}

/// The policy of the full job: the route that is asked for, and `routes` and `apps` in all.
pub(crate) fn policy(backend: SocketAddr, routes: usize, apps: usize) -> String {
    let mut text =
        format!("tenants: {{ contoso: {CONTOSO} }}\napps:\n  portal: {MARKETING_PORTAL}\n");
    let mut names = "portal".to_owned();
    for number in 1..apps {
        let _ = writeln!(text, "  app-{number}: {}", tokens::app(number));
        let _ = write!(names, ", app-{number}");
    }
    let role = tokens::ROLE;
    let _ = write!(
        text,
        "audiences: ['{AUDIENCE}']\nbackends:\n  b: {{ http: 'http://{backend}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }} }}\nroutes:\n  r: {{ match: {{ methods: [GET, POST], path: /invitations }}, backend: b, upgrades: [websocket], allow: [{{ tenants: [contoso], apps: [{names}], roles: [{role}] }}], rateLimit: {{ requests: 100000000, per: 1s, by: [tenant, app] }} }}\n"
    );
    for route in 1..routes {
        let _ = writeln!(
            text,
            "  r{route}: {{ match: {{ methods: [GET, POST], path: '/r{route}/{{id}}/{{*rest}}' }}, backend: b, allow: [{{ tenants: [contoso], apps: [portal], roles: [{role}] }}] }}"
        );
    }
    text
}
