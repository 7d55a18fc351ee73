// A server of the admin address' endpoints whose answers a test sets, and a small world for it to tell of.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";

const PAGE = new URL("../../gateway/admin/console/", import.meta.url);
const FILES = { "/": ["index.html", "text/html; charset=utf-8"], "/console.js": ["console.js", "text/javascript; charset=utf-8"], "/console.css": ["console.css", "text/css; charset=utf-8"] };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** When all of the world happens. */
export const NOW = "2027-01-14T12:00:00Z";
export const at = (seconds) => new Date(Date.parse(NOW) + seconds * 1000).toISOString();

const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, Infinity];

/** A histogram in Prometheus' text: `counts` by bound, not cumulative. */
export function histogram(name, labels, counts) {
  const written = Object.entries(labels).map(([key, value]) => `${key}="${escaped(value)}"`);
  let upTo = 0;
  const lines = BOUNDS.map((bound) => {
    upTo += counts[bound] ?? 0;
    return `${name}_bucket{${[...written, `le="${bound === Infinity ? "+Inf" : bound}"`].join(",")}} ${upTo}`;
  });
  return [...lines, `${name}_sum{${written}} ${upTo / 10}`, `${name}_count{${written}} ${upTo}`].join("\n");
}

export function metric(name, labels, value) {
  const written = Object.entries(labels).map(([key, each]) => `${key}="${escaped(each)}"`);
  return `${name}${written.length ? `{${written}}` : ""} ${value}`;
}

const escaped = (text) => String(text).replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

const id = (n) => `0190b0a4-7c3e-4d5f-8a6b-${String(n).padStart(12, "0")}`;
const CONTOSO = "11111111-1111-1111-1111-111111111111";
const PORTAL = "aaaaaaaa-0000-0000-0000-000000000001";
const BATCH = "aaaaaaaa-0000-0000-0000-000000000002";

/** One decision; `n` is its number and how many seconds it is old. */
export function decision(n, more = {}) {
  return {
    time: at(-n), id: id(n), trace: "4bf92f3577b34da6a3ce929d0e0e4736", client: "203.0.113.7", method: "POST", host: "api.contoso.com", path: "/invitations",
    protocol: "HTTP/2", route: "invite-guest", decision: "deny", reason: "app-not-allowed", rule: "allow[0]", tenant: CONTOSO, tenantName: "contoso", app: BATCH,
    appName: "nightly-batch", principal: "cccccccc-0000-0000-0000-000000000009", tokenKind: "appOnly", tokenVersion: "v2", expected: "marketing-portal", got: "nightly-batch",
    status: 403, sentBytes: 268, complete: true, durationMs: 0.42, ...more,
  };
}

const stranger = { tenant: undefined, tenantName: undefined, app: undefined, appName: undefined, principal: undefined, tokenKind: undefined, tokenVersion: undefined, rule: undefined, expected: undefined, got: undefined };

const callers = (more) => ({
  token: "required", tenants: { only: [{ id: CONTOSO, name: "contoso" }] }, apps: { only: [{ id: PORTAL, name: "marketing-portal" }] }, principals: { allBut: [] },
  tokenKinds: ["appOnly"], authStrengths: ["secret", "certificate"], audiences: { only: ["api://contoso-gateway"] }, roles: { anyOf: [], allOf: [], noneOf: [] },
  scopes: { anyOf: [], allOf: [], noneOf: [] }, groups: { anyOf: [], allOf: [], noneOf: [] }, groupOverage: null, from: { allBut: [] }, times: [{ from: null, until: null }], when: [],
  words: { tenants: "contoso", apps: "marketing-portal", tokens: "appOnly", needs: "nothing more", from: "anywhere", when: "always" }, ...more,
});

/** Counters of a gateway that has served `seconds` of the same traffic: 8 requests a second on three routes. */
export function traffic(seconds, more = "") {
  const server = (route, status, error, counts) => histogram("http_server_request_duration_seconds",
    { http_request_method: "GET", url_scheme: "https", http_route: `/${route}`, http_response_status_code: status, error_type: error, network_protocol_version: "2", route },
    Object.fromEntries(Object.entries(counts).map(([bound, n]) => [bound, n * seconds])));
  return [
    "# HELP http_server_request_duration_seconds How long requests took.",
    "# TYPE http_server_request_duration_seconds histogram",
    server("read-guests", "200", "", { 0.025: 2, 0.05: 2 }),
    server("invite-guest", "202", "", { 0.25: 1 }),
    server("invite-guest", "502", "backend-broken", { 0.5: 1 }),
    server("none", "401", "token-missing", { 0.005: 2 }),
    histogram("portcullis_overhead_duration_seconds", { route: "read-guests" }, { 0.005: 8 * seconds }),
    histogram("http_client_request_duration_seconds", { backend: "guest-api", http_request_method: "GET", http_response_status_code: "200" }, { 0.025: 2 * seconds, 0.05: 2 * seconds }),
    metric("http_server_active_requests", { http_request_method: "GET", url_scheme: "https" }, 3),
    metric("portcullis_decisions_total", { route: "read-guests", decision: "allow", reason: "rule" }, 4 * seconds),
    metric("portcullis_decisions_total", { route: "invite-guest", decision: "allow", reason: "rule" }, seconds),
    metric("portcullis_decisions_total", { route: "invite-guest", decision: "deny", reason: "backend-broken" }, seconds),
    metric("portcullis_decisions_total", { route: "none", decision: "deny", reason: "token-missing" }, 2 * seconds),
    metric("portcullis_decisions_total", { route: "invite-guest", decision: "deny", reason: "app-not-allowed" }, 3),
    metric("portcullis_sas_seen_total", { route: "invite-guest", app: "marketing-portal", agent: "axios", key: "sig", refused: "false" }, 1204),
    metric("portcullis_sas_seen_total", { route: "none", app: "none", agent: "python-requests", key: "code", refused: "true" }, 17),
    metric("portcullis_keys_stripped_total", { key: "x-functions-key" }, 9),
    metric("portcullis_limited_total", { route: "invite-guest", limit: "per-app", mode: "enforce" }, 12),
    metric("portcullis_report_only_total", { route: "guest-report", decision: "deny", reason: "role-missing", rule: "allow[0]" }, 41),
    metric("portcullis_candidate_disagreements_total", { route: "read-guests", app: "nightly-batch", rule: "allow[1]", decision: "deny", reason: "scope-missing" }, 6),
    metric("portcullis_candidate_undecided_total", {}, 2),
    metric("portcullis_policy_info", { digest: "sha256:5f2b7c0a9d1e4f36" }, 1),
    metric("portcullis_policy_loaded_seconds", {}, Date.parse(at(-7200)) / 1000),
    metric("portcullis_build_info", { version: "0.7.0" }, 1),
    metric("portcullis_telemetry_dropped_total", { signal: "traces", reason: "queue-full" }, 5),
    metric("portcullis_connections", {}, 21),
    metric("portcullis_token_cache_entries", {}, 318),
    metric("process_uptime_seconds", {}, 93784),
    metric("process_memory_usage_bytes", {}, 41943040),
    metric("process_unix_file_descriptor_count", {}, 57),
    more, "",
  ].join("\n");
}

/** A gateway that is well but for one tenant's keys, with some of everything. */
export function world() {
  return {
    token: null,
    isAway: false,
    /** A status and sentence for a path, instead of its answer. */
    faults: {},
    isReady: true,
    ready: "[+] serving ok\n[+] keys ok\n[+] credentials ok\n[+] keys/contoso/v2 ok\n[!] keys/fabrikam/v1 degraded: connection refused\n[+] credential/guest-api ok\nok\n",
    metrics: traffic(1000),
    decisions: [
      decision(4),
      decision(9, { ...stranger, route: undefined, method: "GET", path: "/.env", reason: "token-missing", status: 401, client: "198.51.100.23", durationMs: 0.11 }),
      decision(12, { method: "GET", path: "/guests/42", route: "read-guests", decision: "allow", reason: "rule", status: 200, appName: "marketing-portal", app: PORTAL, expected: undefined, got: undefined, backend: "guest-api", durationMs: 31.7, upstreamMs: 30.9 }),
      decision(65, { reason: "backend-broken", status: 502, appName: "marketing-portal", app: PORTAL, rule: "allow[0]", backend: "invite-flow", durationMs: 412.5, keysStripped: ["sig"], expected: undefined, got: undefined }),
      decision(80, { client: "203.0.113.8" }),
    ],
    kept: 5,
    explanation: () => ({
      title: "The application is not allowed",
      detail: "Rules of invite-guest name the tenant contoso, but not the app nightly-batch.",
      advice: "Security team: add the app to allow[0] of invite-guest, if it is to be let in.",
      steps: ["POST /invitations is taken by the route invite-guest", "the token is good: tenant contoso, app nightly-batch", "allow[0]: tenants holds, apps does not: marketing-portal"],
    }),
    json: {
      "/policies": {
        inForce: { digest: "sha256:5f2b7c0a9d1e4f36", since: at(-7200), files: [{ file: "contoso.yaml", sha256: "9f86d081884c7d659a2feaa0c55ad015" }], routes: 3 },
        candidate: { digest: "sha256:77aa", files: [{ file: "next.yaml", sha256: "60303ae22b998861" }], routes: 4 },
        reloads: { taken: 2, refused: 1 },
        lastRefused: { time: at(-600), diagnostics: [{ severity: "error", message: "no app is named `marketing-portl`", file: "contoso.yaml", line: 16, column: 38, endLine: 16, endColumn: 53, label: "did you mean `marketing-portal`?", help: ["write it as under `apps`"], related: [] }] },
        lastDiff: { time: at(-7200), from: "sha256:aa00bb11cc22dd33", to: "sha256:5f2b7c0a9d1e4f36", exact: true, changes: { access: [], otherwise: [] }, text: "POST /invitations (invite-guest)\n  lost by\n    TENANTS | APPS          | TOKENS  | NEEDS\n    contoso | nightly-batch | appOnly | role Guests.Invite\n" },
      },
      "/keys": {
        issuers: [
          { tenant: CONTOSO, tenantName: "contoso", version: "v2", keyIds: ["k1", "k2"], fetched: at(-1440), ageSeconds: 1440, failure: null },
          { tenant: "22222222-2222-2222-2222-222222222222", tenantName: "fabrikam", version: "v1", keyIds: [], fetched: null, ageSeconds: null, failure: "connection refused" },
        ],
      },
      "/credentials": {
        credentials: [
          { backend: "guest-api", kind: "token", resource: "api://guest-api", from: "managed identity, system-assigned", ready: true, fetched: at(-600), expires: at(82800), expiresInSeconds: 82800, lastError: null, lastErrorFinal: false },
          { backend: "invite-flow", kind: "token", resource: "https://management.azure.com/", from: "managed identity, system-assigned", ready: true, fetched: at(-86000), expires: at(200), expiresInSeconds: 200, lastError: "IMDS answered 429", lastErrorFinal: false },
          { backend: "legacy", kind: "secret", from: "key vault contoso, legacy-key", ready: false, fetched: null, expires: null, expiresInSeconds: null, lastError: "the identity may not read the secret", lastErrorFinal: true },
          { backend: "old-api", kind: "secret", from: "the environment, OLD_KEY", ready: true, fetched: null, expires: null, expiresInSeconds: null, lastError: null, lastErrorFinal: false },
        ],
      },
      "/backends": {
        backends: [
          { name: "guest-api", kind: "function", urls: ["https://guests-1.example", "https://guests-2.example"], fault: null, endpoints: [{ name: "guests-1.example", isWell: true, underWay: 4, ejections: 0 }, { name: "guests-2.example", isWell: false, underWay: 0, ejections: 3 }], breaker: { isClosed: true, opened: 1, closed: 1, refused: 14 }, retries: { made: 22, refused: 3 }, coldStarts: { served: 5, failed: 1, waitedSeconds: 31.5, waiting: 0 } },
          { name: "invite-flow", kind: "logicApp", urls: ["https://prod-12.logic.example"], fault: "the breaker is open", endpoints: [], breaker: { isClosed: false, opened: 2, closed: 1, refused: 80 }, retries: null, coldStarts: null },
        ],
      },
      "/limits": {
        requestsUnderWay: 37,
        concurrency: [
          { of: "route", name: "read-guests", by: "", underWay: 3, waiting: 0, limit: 50 },
          { of: "backend", name: "invite-flow", by: "contoso marketing-portal", underWay: 20, waiting: 4, limit: 20 },
        ],
        store: { reachable: true, replicas: 3, meters: 120, leases: 9500, waits: 12, failures: 1, admittedLocally: 0, why: "" },
      },
      "/access": {
        digest: "sha256:5f2b7c0a9d1e4f36",
        routes: [
          { route: "invite-guest", hosts: [], methods: ["POST"], path: "/invitations", backend: "invite-flow", mode: "enforce", public: false, exact: true,
            callers: [callers({ words: { tenants: "contoso", apps: "marketing-portal", tokens: "appOnly", needs: "role Guests.Invite", from: "anywhere", when: "always" } })],
            text: ["TENANTS | APPS             | TOKENS  | NEEDS              | FROM     | WHEN", "contoso | marketing-portal | appOnly | role Guests.Invite | anywhere | always"] },
          { route: "guest-report", hosts: [], methods: ["GET"], path: "/reports/guests", backend: "guest-api", mode: "reportOnly", public: false, exact: true,
            callers: [callers({ token: "optional", tenants: { allBut: [] }, apps: { allBut: [] }, words: { tenants: "any", apps: "any", tokens: "none needed", needs: "nothing more", from: "anywhere", when: "always" } })],
            text: ["any | any | none needed | nothing more | anywhere | always"] },
          { route: "read-guests", hosts: ["api.contoso.com"], methods: ["GET", "HEAD"], path: "/guests/{*rest}", backend: "guest-api", mode: "enforce", public: false, exact: true,
            callers: [callers(), callers({ apps: { only: [{ id: BATCH, name: "nightly-batch" }] }, words: { tenants: "fabrikam", apps: "nightly-batch", tokens: "appOnly", needs: "role Guests.Read.All", from: "fabrikam-datacentre", when: "always" } })],
            text: ["contoso | marketing-portal | appOnly | nothing more | anywhere | always"] },
        ],
      },
    },
  };
}

/** A gateway that has just started and has seen nobody. */
export function emptyWorld() {
  return {
    ...world(),
    ready: "[+] serving ok\n[+] keys ok\n[+] credentials ok\nok\n",
    metrics: [metric("portcullis_policy_info", { digest: "sha256:00" }, 1), metric("portcullis_policy_loaded_seconds", {}, Date.parse(NOW) / 1000), metric("process_uptime_seconds", {}, 4), ""].join("\n"),
    decisions: [],
    kept: 0,
    json: {
      "/policies": { inForce: { digest: "sha256:00", since: NOW, files: [], routes: 0 }, candidate: null, reloads: { taken: 0, refused: 0 }, lastRefused: null, lastDiff: null },
      "/keys": { issuers: [] },
      "/credentials": { credentials: [] },
      "/backends": { backends: [] },
      "/limits": { requestsUnderWay: 0, concurrency: [], store: null },
      "/access": { digest: "sha256:00", routes: [] },
    },
  };
}

/** A policy of many routes and apps. */
export function manyRoutes(routes, apps) {
  const [first] = world().json["/access"].routes;
  return {
    digest: "sha256:5f2b7c0a9d1e4f36",
    routes: Array.from({ length: routes }, (_, n) => {
      const app = `app-${String(n % apps).padStart(3, "0")}`;
      return { ...first, route: `route-${String(n).padStart(3, "0")}`, path: `/things/${n}`, callers: [{ ...first.callers[0], apps: { only: [{ id: app, name: app }] } }], text: [`contoso | ${app}`] };
    }),
  };
}

/** Serves `state`, which may be changed at any time, on a port of its own. */
export async function serve(state) {
  const mock = { state, asked: [], under: new Map(), most: new Map(), followers: new Set() };
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://mock");
    mock.asked.push({ method: request.method, path: request.url, headers: request.headers });
    if (state.isAway) return request.socket.destroy();
    const kind = url.searchParams.has("follow") ? "follow" : url.pathname;
    mock.under.set(kind, (mock.under.get(kind) ?? 0) + 1);
    mock.most.set(kind, Math.max(mock.most.get(kind) ?? 0, mock.under.get(kind)));
    response.on("close", () => mock.under.set(kind, mock.under.get(kind) - 1));
    answer(mock, url, request, response).catch(() => response.destroy());
  });
  await new Promise((on) => server.listen(0, "127.0.0.1", on));
  // A test that fails may leave it behind.
  server.unref();
  mock.url = `http://127.0.0.1:${server.address().port}/`;
  mock.push = (decision) => {
    state.decisions.unshift(decision);
    for (const { query, response } of mock.followers) {
      if (isLike(decision, query)) response.write(`event: decision\ndata: ${JSON.stringify(decision)}\n\n`);
    }
  };
  mock.cut = () => {
    for (const { response } of mock.followers) response.destroy();
  };
  mock.close = () => {
    server.closeAllConnections();
    return new Promise((on) => server.close(on));
  };
  return mock;
}

const isLike = (each, query) => ["decision", "reason", "route"].every((name) => !query.get(name) || each[name] === query.get(name)) && (!query.get("app") || [each.app, each.appName].includes(query.get("app")));

async function answer(mock, url, request, response) {
  const { state } = mock;
  response.setHeader("content-security-policy", CSP);
  response.setHeader("x-content-type-options", "nosniff");
  response.setHeader("cache-control", "no-store");
  const send = (status, kind, body) => {
    response.writeHead(status, { "content-type": kind });
    response.end(body);
  };
  const json = (status, body) => send(status, "application/json", JSON.stringify(body));
  const file = FILES[url.pathname];
  if (file) return send(200, file[1], await readFile(new URL(file[0], PAGE)));
  if (url.pathname === "/livez") return send(200, "text/plain", "ok\n");
  if (state.hold) await state.hold(url.pathname);
  if (state.token && request.headers.authorization !== `Bearer ${state.token}`) {
    response.setHeader("www-authenticate", 'Bearer realm="portcullis-admin"');
    return json(401, { error: "a bearer token is wanted here" });
  }
  const fault = state.faults[url.pathname] ?? state.faults["*"];
  if (fault) return json(fault[0], { error: fault[1] });
  if (url.pathname === "/readyz") return send(state.isReady ? 200 : 503, "text/plain; charset=utf-8", state.ready);
  if (url.pathname === "/metrics") return send(200, "text/plain; version=0.0.4", state.metrics);
  if (url.pathname in state.json) return json(200, state.json[url.pathname]);
  if (url.pathname === "/decisions" && url.searchParams.has("follow")) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(":\n\n");
    const follower = { query: url.searchParams, response };
    mock.followers.add(follower);
    response.on("close", () => mock.followers.delete(follower));
    return;
  }
  if (url.pathname === "/decisions") {
    const found = state.decisions.filter((each) => isLike(each, url.searchParams));
    return json(200, { decisions: found.slice(0, Number(url.searchParams.get("limit") ?? 100)), kept: state.kept });
  }
  const [, asked] = /^\/decisions\/(.+)$/.exec(url.pathname) ?? [];
  const known = asked && state.decisions.find((each) => each.id === decodeURIComponent(asked));
  if (known) return json(200, { ...known, explanation: state.explanation(known) });
  return json(404, { error: asked ? "no decision with this ID is kept" : "there is nothing here" });
}
