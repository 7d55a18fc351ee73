// The Grafana dashboard on the Prometheus names.

const SOURCE = { type: "prometheus", uid: "${datasource}" };
const HERE = 'job=~"$job", instance=~"$instance"';
const ROUTE = `${HERE}, route=~"$route"`;
const SERVER = "http_server_request_duration_seconds";
const CLIENT = "http_client_request_duration_seconds";

const rate = (metric, labels = HERE) => `rate(${metric}{${labels}}[$__rate_interval])`;
const sumBy = (labels, inner) => `sum by (${labels}) (${inner})`;
const quantile = (q, metric, labels, by) => `histogram_quantile(${q}, sum by (le, ${by}) (${rate(`${metric}_bucket`, labels)}))`;
const inRange = (metric, labels = HERE) => `increase(${metric}{${labels}}[$__range])`;

const ROWS = [
  [
    "Traffic",
    [
      stat("Requests", "reqps", `sum(${rate(`${SERVER}_count`, ROUTE)})`),
      stat("Denied", "percentunit", `sum(${rate("portcullis_decisions_total", `${ROUTE}, decision="deny"`)}) / sum(${rate("portcullis_decisions_total", ROUTE)})`, [0.05, 0.2]),
      stat("5xx", "percentunit", `sum(${rate(`${SERVER}_count`, `${ROUTE}, http_response_status_code=~"5.."`)}) / sum(${rate(`${SERVER}_count`, ROUTE)})`, [0.01, 0.05]),
      stat("Checks not in order", "none", `count(portcullis_check{${HERE}} == 0) or vector(0)`, [1, 2]),
      lines("Requests by route", "reqps", [[sumBy("route", rate(`${SERVER}_count`, ROUTE)), "{{route}}"]]),
      lines("Answers by status", "reqps", [[sumBy("http_response_status_code", rate(`${SERVER}_count`, ROUTE)), "{{http_response_status_code}}"]]),
      lines("Requests and connections at once", "none", [
        [`sum(http_server_active_requests{${HERE}})`, "requests"],
        [`sum(portcullis_connections{${HERE}})`, "connections"],
        [`sum(portcullis_connections_upgraded{${HERE}})`, "upgraded"],
      ]),
      lines("Connections and streams that the gateway ended", "ops", [
        [sumBy("reason", rate("portcullis_connections_closed_total")), "{{reason}}"],
        [`${sumBy("code", rate("portcullis_streams_reset_total"))} > 0`, "stream: {{code}}"],
      ]),
    ],
  ],
  [
    "Latency",
    [
      lines("p50, p95 and p99", "s", [
        [quantile(0.5, SERVER, ROUTE, "job"), "p50"],
        [quantile(0.95, SERVER, ROUTE, "job"), "p95"],
        [quantile(0.99, SERVER, ROUTE, "job"), "p99"],
      ]),
      lines("p99 by route", "s", [[quantile(0.99, SERVER, ROUTE, "route"), "{{route}}"]]),
      lines("p99 that the gateway adds, by route", "s", [[quantile(0.99, "portcullis_overhead_duration_seconds", ROUTE, "route"), "{{route}}"]]),
      lines("How tokens were found good", "ops", [[sumBy("outcome", rate("portcullis_token_lookups_total")), "{{outcome}}"]]),
    ],
  ],
  [
    "Denials",
    [
      lines("Denials by reason", "reqps", [[sumBy("reason", rate("portcullis_decisions_total", `${ROUTE}, decision="deny"`)), "{{reason}}"]]),
      table("Denials by route and reason", "short", [sumBy("route, reason", inRange("portcullis_decisions_total", `${ROUTE}, decision="deny"`)) + " > 0"]),
      table("What report-only routes would refuse", "short", [sumBy("route, rule, reason", inRange("portcullis_report_only_total", `${ROUTE}, decision="deny"`)) + " > 0"]),
      table("What the candidate would decide otherwise", "short", [
        sumBy("route, app, rule, decision, reason", inRange("portcullis_candidate_disagreements_total", ROUTE)) + " > 0",
      ]),
    ],
  ],
  [
    "SAS",
    [
      lines("Calls with a signature or key in the URL", "reqps", [[sumBy("route, refused", rate("portcullis_sas_seen_total", ROUTE)), "{{route}} refused={{refused}}"]]),
      table("Who still calls so", "short", [sumBy("route, app, agent, key, refused", inRange("portcullis_sas_seen_total", ROUTE)) + " > 0"]),
      lines("Keys and claimed identities that were stripped", "reqps", [[sumBy("key", rate("portcullis_keys_stripped_total")), "{{key}}"]]),
      lines("Sealed URLs", "ops", [
        [sumBy("outcome", rate("portcullis_sealed_urls_total", ROUTE)), "{{outcome}}"],
        [sumBy("reason", rate("portcullis_sealed_urls_followed_total", ROUTE)), "followed: {{reason}}"],
      ]),
    ],
  ],
  [
    "Keys & credentials",
    [
      lines("Age of signing keys", "s", [[`max by (tenant, version) (portcullis_keys_age_seconds{${HERE}})`, "{{tenant}} {{version}}"]]),
      lines("Credentials hold for", "s", [[`min by (backend) (portcullis_credential_expires_in_seconds{${HERE}})`, "{{backend}}"]]),
      lines("Certificates hold for", "s", [[`min by (certificate) (portcullis_certificate_not_after_seconds{${HERE}}) - time()`, "{{certificate}}"]]),
      lines("Refreshes of keys that failed, fetches of credentials that failed", "ops", [
        [sumBy("tenant, version", rate("portcullis_keys_refreshes_total", `${HERE}, outcome="failed"`)), "keys {{tenant}} {{version}}"],
        [sumBy("backend", rate("portcullis_credential_failures_total")), "credential {{backend}}"],
      ]),
      table("Checks", "bool_yes_no", [`min by (check) (portcullis_check{${HERE}})`]),
    ],
  ],
  [
    "Backends",
    [
      lines("Calls by backend", "reqps", [[sumBy("backend", rate(`${CLIENT}_count`)), "{{backend}}"]]),
      lines("Calls that failed", "percentunit", [
        [
          `${sumBy("backend", rate(`${CLIENT}_count`, `${HERE}, http_response_status_code!~"[1-4].."`))} / ${sumBy("backend", rate(`${CLIENT}_count`))}`,
          "{{backend}}",
        ],
      ]),
      lines("p99 by backend", "s", [[quantile(0.99, CLIENT, HERE, "backend"), "{{backend}}"]]),
      lines("Endpoints that are well, breakers that are open", "none", [
        [`sum by (backend, endpoint) (portcullis_backend_available{${HERE}})`, "well: {{backend}} {{endpoint}}"],
        [`sum by (backend) (portcullis_breaker_open{${HERE}})`, "open: {{backend}}"],
      ]),
      lines("Retries, ejections, refusals by breakers", "ops", [
        [sumBy("backend, outcome", rate("portcullis_retries_total")), "retries {{outcome}}: {{backend}}"],
        [sumBy("backend", rate("portcullis_backend_ejections_total")), "ejections: {{backend}}"],
        [sumBy("backend", rate("portcullis_breaker_refused_total")), "refused: {{backend}}"],
      ]),
      lines("Cold starts: mean wait", "s", [
        [`${sumBy("backend", rate("portcullis_cold_start_seconds_total"))} / ${sumBy("backend", rate("portcullis_cold_starts_total"))}`, "{{backend}}"],
      ]),
    ],
  ],
  [
    "Limits",
    [
      lines("Requests that limits refused", "reqps", [[sumBy("route, limit, mode", rate("portcullis_limited_total", ROUTE)), "{{route}} {{limit}} {{mode}}"]]),
      lines("Requests at once, and their limits", "none", [
        [`sum by (of, name) (portcullis_concurrency_requests{${HERE}})`, "{{of}} {{name}}"],
        [`sum by (of, name) (portcullis_concurrency_waiting{${HERE}})`, "{{of}} {{name}}: waiting"],
        [`sum by (of, name) (portcullis_concurrency_limit{${HERE}})`, "{{of}} {{name}}: limit"],
      ]),
      lines("Store of limits", "none", [
        [`min(portcullis_limit_store_reachable{${HERE}})`, "reachable"],
        [`max(portcullis_limit_store_replicas{${HERE}})`, "replicas"],
        [`sum(portcullis_limit_store_meters{${HERE}})`, "meters"],
      ]),
      lines("Store of limits: leases, waits, failures", "ops", [
        [`sum(${rate("portcullis_limit_store_leases_total")})`, "leases"],
        [`sum(${rate("portcullis_limit_store_waits_total")})`, "waits"],
        [`sum(${rate("portcullis_limit_store_failures_total")})`, "failures"],
        [`sum(${rate("portcullis_limit_store_admitted_locally_total")})`, "admitted locally"],
      ]),
    ],
  ],
  [
    "Reloads",
    [
      lines("Reloads taken and refused", "short", [[sumBy("outcome", `increase(portcullis_reloads_total{${HERE}}[$__rate_interval])`), "{{outcome}}"]]),
      table("Policy in force", "none", [sumBy("instance, digest", `portcullis_policy_info{${HERE}}`)]),
      lines("Time since the policy was loaded", "s", [[`time() - max by (instance) (portcullis_policy_loaded_seconds{${HERE}})`, "{{instance}}"]]),
      lines("Lost records and decisions, dropped telemetry", "ops", [
        [`sum(${rate("portcullis_records_lost_total")})`, "records"],
        [`sum(${rate("portcullis_decisions_lost_total")})`, "decisions"],
        [sumBy("signal, reason", rate("portcullis_telemetry_dropped_total")), "{{signal}}: {{reason}}"],
      ]),
    ],
  ],
  [
    "Process",
    [
      lines("CPU", "percentunit", [[sumBy("instance", rate("process_cpu_time_seconds_total")), "{{instance}}"]]),
      lines("Memory", "bytes", [[sumBy("instance", `process_memory_usage_bytes{${HERE}}`), "{{instance}}"]]),
      lines("File descriptors", "none", [[sumBy("instance", `process_unix_file_descriptor_count{${HERE}}`), "{{instance}}"]]),
      lines("Uptime", "s", [[`max by (instance) (process_uptime_seconds{${HERE}})`, "{{instance}}"]]),
    ],
  ],
];

export function dashboard() {
  const panels = [];
  let y = 0;
  let next = 1;
  for (const [title, list] of ROWS) {
    panels.push({ type: "row", id: next++, title, collapsed: false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [] });
    y += 1;
    let x = 0;
    let tallest = 0;
    for (const { w, h, ...panel } of list) {
      if (x + w > 24) {
        y += tallest;
        x = 0;
        tallest = 0;
      }
      panels.push({ ...panel, id: next++, gridPos: { x, y, w, h } });
      x += w;
      tallest = Math.max(tallest, h);
    }
    y += tallest;
  }
  return {
    uid: "portcullis",
    title: "Portcullis",
    description: "Who calls, who is refused and why, and whether the gateway is well",
    tags: ["portcullis", "gateway"],
    schemaVersion: 42,
    version: 1,
    editable: true,
    graphTooltip: 1,
    timezone: "browser",
    time: { from: "now-6h", to: "now" },
    refresh: "1m",
    annotations: { list: [policyChanges()] },
    templating: { list: [datasource(), variable("job", "Job", "label_values(portcullis_policy_info, job)"), variable("instance", "Replica", 'label_values(portcullis_policy_info{job=~"$job"}, instance)'), variable("route", "Route", 'label_values(portcullis_decisions_total{job=~"$job"}, route)')] },
    links: [],
    panels,
  };
}

function lines(title, unit, series) {
  return {
    w: 12,
    h: 8,
    type: "timeseries",
    title,
    datasource: SOURCE,
    fieldConfig: { defaults: { unit, min: 0, color: { mode: "palette-classic" }, custom: { fillOpacity: 10, lineWidth: 1, showPoints: "never" } }, overrides: [] },
    options: { legend: { displayMode: "table", placement: "bottom", showLegend: true, calcs: ["mean", "max"] }, tooltip: { mode: "multi", sort: "desc" } },
    targets: series.map(([expr, legendFormat], at) => ({ refId: letter(at), datasource: SOURCE, expr, legendFormat, range: true, instant: false })),
  };
}

function stat(title, unit, expr, [warn, bad] = []) {
  const steps = [{ color: "green", value: null }];
  if (warn !== undefined) steps.push({ color: "orange", value: warn }, { color: "red", value: bad });
  return {
    w: 6,
    h: 4,
    type: "stat",
    title,
    datasource: SOURCE,
    fieldConfig: { defaults: { unit, color: { mode: "thresholds" }, thresholds: { mode: "absolute", steps } }, overrides: [] },
    options: {
      reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
      orientation: "auto",
      colorMode: "value",
      graphMode: "area",
      justifyMode: "auto",
      textMode: "auto",
      wideLayout: true,
      percentChangeColorMode: "standard",
      showPercentChange: false,
    },
    targets: [{ refId: "A", datasource: SOURCE, expr, range: true, instant: false }],
  };
}

function table(title, unit, exprs) {
  return {
    w: 12,
    h: 8,
    type: "table",
    title,
    datasource: SOURCE,
    fieldConfig: { defaults: { unit, custom: { align: "auto", filterable: true } }, overrides: [] },
    options: { showHeader: true, cellHeight: "sm", frameIndex: 0, sortBy: [{ displayName: "Value", desc: true }] },
    transformations: [{ id: "organize", options: { excludeByName: { Time: true }, indexByName: {}, renameByName: {} } }],
    targets: exprs.map((expr, at) => ({ refId: letter(at), datasource: SOURCE, expr, format: "table", range: false, instant: true })),
  };
}

function policyChanges() {
  return {
    name: "Policy taken",
    datasource: SOURCE,
    enable: true,
    iconColor: "blue",
    expr: `changes(portcullis_policy_loaded_seconds{${HERE}}[$__interval]) > 0`,
    titleFormat: "Policy taken by {{instance}}",
  };
}

function datasource() {
  return { type: "datasource", name: "datasource", label: "Data source", query: "prometheus", refresh: 1, hide: 0, options: [] };
}

function variable(name, label, query) {
  return { type: "query", name, label, datasource: SOURCE, query: { query, refId: name }, refresh: 2, sort: 1, multi: true, includeAll: true, allValue: ".*", current: { text: "All", value: "$__all" }, hide: 0, options: [] };
}

function letter(at) {
  return String.fromCharCode(65 + at);
}
