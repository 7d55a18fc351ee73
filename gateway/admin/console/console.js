// The console: one page that shows from the admin address how the gateway is doing, whom it refused and why.
//
// All that is shown comes from callers, policies or metrics, so nothing of it is ever read as HTML: the page is made of
// elements and text nodes alone (`patch`). Each view is a function from what is known to such a tree.

// ---------------------------------------------------------------------------------------------- how often, how many

/** Milliseconds between two polls, and while nobody looks. */
const POLL = 2000;
const POLL_HIDDEN = 30000;
/** A request that takes longer is given up. */
const PATIENCE = 10000;
/** Seconds that figures are taken over, and that sparklines show. */
const WINDOW = 30;
const SPAN = 300;
/** Denials that are grouped by app, and decisions that the live list holds. */
const MOST_DENIALS = 200;
const MOST_LIVE = 200;
/** Rows and columns of the access matrix that are shown at once. */
const MOST_ROUTES = 100;
const MOST_CALLERS = 40;

// ------------------------------------------------------------------------------------------------------------ words

const ABSENT = "–";

export function count(n) {
  return Number.isFinite(n) ? Math.round(n).toLocaleString("en-US") : ABSENT;
}

export function rate(n) {
  if (!Number.isFinite(n)) return ABSENT;
  if (n === 0) return "0";
  if (n < 0.01) return "<0.01";
  if (n < 10) return n.toFixed(2).replace(/\.?0+$/, "");
  return n < 100 ? n.toFixed(1).replace(/\.0$/, "") : count(n);
}

export function share(n) {
  if (!Number.isFinite(n)) return ABSENT;
  if (n === 0) return "0%";
  const percent = n * 100;
  if (percent < 0.1) return "<0.1%";
  return `${percent < 10 ? percent.toFixed(1).replace(/\.0$/, "") : percent.toFixed(0)}%`;
}

/** A latency in seconds. */
export function latency(s) {
  if (!Number.isFinite(s)) return ABSENT;
  const ms = s * 1000;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${ms.toFixed(0)} ms`;
  return s < 10 ? `${s.toFixed(2)} s` : `${s.toFixed(0)} s`;
}

/** A quantile: beyond the last bound of the histogram nothing more is known. */
export function latencyOf(quantile) {
  if (!quantile) return ABSENT;
  return (quantile.beyond ? "> " : "") + latency(quantile.seconds);
}

/** A length of time, in its two largest units. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return ABSENT;
  const s = Math.max(0, Math.round(seconds));
  const two = (a, unitA, b, unitB) => (b ? `${a} ${unitA} ${b} ${unitB}` : `${a} ${unitA}`);
  if (s < 90) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

export function bytes(n) {
  if (!Number.isFinite(n)) return ABSENT;
  if (n < 1024) return `${count(n)} B`;
  if (n < 1024 ** 2) return `${(n / 1024).toFixed(1)} KiB`;
  return n < 1024 ** 3 ? `${(n / 1024 ** 2).toFixed(1)} MiB` : `${(n / 1024 ** 3).toFixed(2)} GiB`;
}

/** The time of day, with the day if that is another one. In UTC, as the logs. */
export function moment(time, now = Date.now()) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time);
  const iso = at.toISOString();
  const day = iso.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? "" : `${iso.slice(0, 10)} `;
  return day + iso.slice(11, 19);
}

const since = (time) => (Date.now() - new Date(time).getTime()) / 1000;
const ago = (time) => `${span(since(time))} ago`;

/** Text as it is, but for characters that are not seen or turn others around: those are written out. */
export function visible(text) {
  return String(text).replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The request ID in whatever was pasted: the ID, a problem document, a line of the log. */
export function idIn(text) {
  const uuid = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  for (const form of [`urn:uuid:(${uuid})`, `"id"\\s*:\\s*"(${uuid})"`, `(${uuid})`]) {
    const found = new RegExp(form).exec(text);
    if (found) return found[1].toLowerCase();
  }
  return text.trim();
}

// ---------------------------------------------------------------------------------------------------------- metrics

let labelsSeen = new Map();

/** Prometheus' text form 0.0.4, as a map from name to `[{ labels, value }]`, of the names that begin with any of `wanted`. */
export function parseMetrics(text, wanted = [""]) {
  const families = new Map();
  const seen = new Map();
  let at = 0;
  while (at < text.length) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    const line = text.slice(at, end);
    at = end + 1;
    if (!line || line.startsWith("#") || !wanted.some((prefix) => line.startsWith(prefix))) continue;
    const brace = line.indexOf("{");
    const space = line.indexOf(" ");
    const hasLabels = brace >= 0 && (space < 0 || brace < space);
    const close = hasLabels ? line.lastIndexOf("}") : space - 1;
    if (close < 0) continue;
    const name = line.slice(0, hasLabels ? brace : space);
    const value = numberOf(line.slice(close + 1).trim().split(" ")[0]);
    if (value === null) continue;
    const written = hasLabels ? line.slice(brace + 1, close) : "";
    const labels = seen.get(written) ?? labelsSeen.get(written) ?? parseLabels(written);
    seen.set(written, labels);
    const family = families.get(name);
    if (family) family.push({ labels, value });
    else families.set(name, [{ labels, value }]);
  }
  // The next text has the same labels, mostly.
  labelsSeen = seen;
  return families;
}

function numberOf(text) {
  if (text === "+Inf") return Infinity;
  if (text === "-Inf") return -Infinity;
  const value = Number.parseFloat(text);
  return Number.isNaN(value) ? null : value;
}

function parseLabels(written) {
  const labels = {};
  const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
  for (const [, name, value] of written.matchAll(label)) {
    labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
  }
  return labels;
}

/** What a histogram's cumulative buckets (bound to count) say of a quantile, as Prometheus' `histogram_quantile` interpolates. */
export function quantile(q, buckets) {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return null;
  const rank = q * total;
  let [lower, below] = [0, 0];
  for (const [bound, upTo] of sorted) {
    if (upTo >= rank && upTo > below) {
      if (bound === Infinity) return { seconds: lower, beyond: true };
      return { seconds: lower + (bound - lower) * ((rank - below) / (upTo - below)), beyond: false };
    }
    [lower, below] = [bound, Math.max(below, upTo)];
  }
  return { seconds: lower, beyond: true };
}

/** What has been counted by some time, all in all and by route. */
export function counted(metrics, at) {
  const empty = () => ({ requests: 0, errors: 0, decisions: 0, refused: 0, buckets: new Map(), overhead: new Map() });
  const [total, routes, reasons, backends] = [empty(), new Map(), new Map(), new Map()];
  const of = (map, name, make) => {
    if (!map.has(name)) map.set(name, make());
    return map.get(name);
  };
  const each = (name, act) => {
    for (const { labels, value } of metrics.get(name) ?? []) {
      const route = of(routes, labels.route ?? "none", empty);
      act(total, labels, value);
      act(route, labels, value);
    }
  };
  const fill = (buckets, labels, value) => {
    const bound = numberOf(labels.le ?? "");
    if (bound !== null) buckets.set(bound, (buckets.get(bound) ?? 0) + value);
  };
  each("http_server_request_duration_seconds_count", (to, labels, value) => {
    to.requests += value;
    if (/^5/.test(labels.http_response_status_code ?? "")) to.errors += value;
  });
  each("http_server_request_duration_seconds_bucket", (to, labels, value) => fill(to.buckets, labels, value));
  each("portcullis_overhead_duration_seconds_bucket", (to, labels, value) => fill(to.overhead, labels, value));
  each("portcullis_decisions_total", (to, labels, value) => {
    to.decisions += value;
    if (labels.decision === "deny") to.refused += value;
  });
  for (const { labels, value } of metrics.get("portcullis_decisions_total") ?? []) {
    if (labels.decision !== "deny") continue;
    const reason = of(reasons, labels.reason ?? "", () => ({ refused: 0, routes: new Map() }));
    reason.refused += value;
    reason.routes.set(labels.route, (reason.routes.get(labels.route) ?? 0) + value);
  }
  for (const { labels, value } of metrics.get("http_client_request_duration_seconds_bucket") ?? []) {
    fill(of(backends, labels.backend ?? "", () => new Map()), labels, value);
  }
  return { at, total, routes, reasons, backends };
}

const bucketsSince = (older, newer) => new Map([...newer].map(([le, n]) => [le, n - (older?.get(le) ?? 0)]));

/** What happened between two counts, `seconds` apart. What is new in the newer one began at nothing. */
export function between(older, newer, seconds) {
  const [requests, decisions] = [newer.requests - (older?.requests ?? 0), newer.decisions - (older?.decisions ?? 0)];
  const [errors, refused] = [newer.errors - (older?.errors ?? 0), newer.refused - (older?.refused ?? 0)];
  const buckets = bucketsSince(older?.buckets, newer.buckets);
  const overhead = bucketsSince(older?.overhead, newer.overhead);
  return {
    requests,
    rate: requests / seconds,
    refused: decisions > 0 ? refused / decisions : NaN,
    refusedRate: refused / seconds,
    errors: requests > 0 ? errors / requests : NaN,
    quantiles: [0.5, 0.95, 0.99].map((q) => quantile(q, buckets)),
    overhead: [0.5, 0.95, 0.99].map((q) => quantile(q, overhead)),
  };
}

// ------------------------------------------------------------------------------------------------------- other texts

/** The lines of `/readyz?verbose`, those that fail first. */
export function parseChecks(text) {
  const levels = { "-": "bad", "!": "warn", "+": "good" };
  const checks = [];
  for (const line of text.split("\n")) {
    const found = /^\[([+!-])\] (.+?)(?: ok| (?:failed|degraded): (.*))$/.exec(line);
    if (found) checks.push({ level: levels[found[1]], name: found[2], why: found[3] ?? "" });
  }
  return checks.sort(byLevel);
}

const LEVELS = { bad: 0, warn: 1, good: 2 };
const byLevel = (a, b) => LEVELS[a.level] - LEVELS[b.level];

/** The whole events at the beginning of a stream's text (Server-Sent Events), and the rest. */
export function parseEvents(text) {
  const parts = text.split(/\r?\n\r?\n/);
  const rest = parts.pop();
  const events = [];
  for (const part of parts) {
    let [event, data] = ["message", []];
    for (const line of part.split(/\r?\n/)) {
      if (line.startsWith("event:")) event = line.slice(6).trim();
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
    if (data.length) events.push({ event, data: data.join("\n") });
  }
  return { events, rest };
}

// --------------------------------------------------------------------------------------------------------- elements

/** An element to be: `on…` are handlers, all else attributes. What is null, false or empty is left out. */
function h(tag, props, ...kids) {
  const shown = kids.flat(Infinity).filter((kid) => kid !== null && kid !== undefined && kid !== false && kid !== "");
  return { tag, props: props ?? {}, key: props?.key, kids: shown.map((kid) => (typeof kid === "object" ? kid : { text: visible(kid) })) };
}

/**
 * Makes the children of `parent` what `kids` say, with the elements that are there already: what has the focus, is
 * selected or scrolled stays so.
 */
function patch(parent, kids) {
  const before = parent.kids ?? [];
  const keyed = new Map();
  const free = [];
  for (const kid of before) {
    if (kid.key === undefined) free.push(kid);
    else keyed.set(kid.key, kid);
  }
  const kept = new Set();
  for (const kid of kids) {
    const at = kid.key === undefined ? free.findIndex((old) => old.tag === kid.tag) : -1;
    const old = at >= 0 ? free.splice(at, 1)[0] : keyed.get(kid.key);
    if (old && old.tag === kid.tag && !kept.has(old)) {
      kept.add(old);
      kid.node = old.node;
      if (old !== kid) update(old, kid);
    } else {
      kid.node = make(kid, parent);
    }
  }
  for (const old of before) if (!kept.has(old)) old.node.remove();
  let place = parent.firstChild;
  for (const kid of kids) {
    // What is moved is selected no more, so others make room for it.
    while (place && place !== kid.node && kid.node.parentNode === parent && isHeld(kid.node) && !isHeld(place)) {
      const next = place.nextSibling;
      move(parent, place, null);
      place = next;
    }
    if (kid.node === place) place = place.nextSibling;
    else move(parent, kid.node, place);
  }
  parent.kids = kids;
}

/** Whether somebody has the focus in it or has selected some of it. */
function isHeld(node) {
  const selection = getSelection();
  return node.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(node, true));
}

function move(parent, node, place) {
  // It keeps the focus, where browsers know it.
  if (node.parentNode === parent && parent.moveBefore) parent.moveBefore(node, place);
  else parent.insertBefore(node, place);
}

function make(kid, parent) {
  if (kid.tag === undefined) return document.createTextNode(kid.text);
  const isSvg = kid.tag === "svg" || parent.namespaceURI === "http://www.w3.org/2000/svg";
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", kid.tag) : document.createElement(kid.tag);
  for (const [name, value] of Object.entries(kid.props)) set(node, name, value);
  patch(node, kid.kids);
  // A selection names an option that must be there.
  if (kid.tag === "select" && kid.props.value !== undefined) node.value = kid.props.value;
  return node;
}

function update(old, kid) {
  if (kid.tag === undefined) {
    if (old.text !== kid.text) kid.node.data = kid.text;
    return;
  }
  for (const name of Object.keys(old.props)) if (!(name in kid.props)) set(kid.node, name, null);
  for (const [name, value] of Object.entries(kid.props)) if (old.props[name] !== value) set(kid.node, name, value);
  patch(kid.node, kid.kids);
}

function set(node, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) node[name] = value;
  else if (name === "value") node.value = value ?? "";
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

/** Made anew only if something that it is made of has changed. */
function memo(name, from, fresh) {
  const last = memos.get(name);
  if (last && last.from.length === from.length && last.from.every((value, at) => value === from[at])) return last.made;
  const made = fresh();
  memos.set(name, { from, made });
  return made;
}
const memos = new Map();

// ------------------------------------------------------------------------------------------------------ what is known

const READY = "/readyz?verbose";
const METRICS = "/metrics";
const DENIALS = `/decisions?decision=deny&limit=${MOST_DENIALS}`;
const WANTED = ["portcullis_", "process_", "http_server_", "http_client_"];

/** What was read from each path: `{ value, at, failure, pending }`. */
const sources = new Map();

const state = {
  view: "overview",
  /** The request that is looked up. */
  id: null,
  /** The bearer token. In memory alone: it is gone with the page. */
  token: null,
  /** The sentence of a 401, which asks for one, and that of a 403. */
  tokenWanted: null,
  forbidden: null,
  /** Since when the gateway does not answer. */
  away: null,
  /** What is unfolded, and how tables are sorted. */
  open: new Set(),
  sort: {},
  /** The decision in the drawer. */
  drawer: null,
  access: { search: "", caller: "", shown: MOST_ROUTES },
  live: { decision: "", route: "", app: "", isPaused: false, rows: [], held: [], passed: 0, says: "" },
};

/** The newest metrics, and what was counted over the last minutes. */
let metrics = null;
let samples = [];
let points = [];

const valueOf = (path) => sources.get(path)?.value;
const metric = (name) => metrics?.get(name) ?? [];
const single = (name) => metric(name)[0]?.value ?? NaN;
const byReason = (reason) => `/decisions?decision=deny&reason=${encodeURIComponent(reason)}&limit=5`;
const decisionPath = (id) => `/decisions/${encodeURIComponent(id)}`;

/** The paths that the view is made of. */
function needed() {
  const view = VIEWS.find((view) => view.id === state.view);
  return new Set([READY, METRICS, ...view.needs(), ...(state.drawer?.id ? [decisionPath(state.drawer.id)] : [])]);
}

function isDue(path) {
  const source = sources.get(path);
  if (source?.pending) return false;
  // What was decided stays so, and a large policy is read again when there is another one.
  if (path.startsWith("/decisions/")) return !source?.value && source?.failure?.status !== 404;
  if (path === "/access") return !source?.value || (digest() !== undefined && source.value.digest !== digest());
  return true;
}

const digest = () => metric("portcullis_policy_info")[0]?.labels.digest;

async function load(path) {
  if (!isDue(path)) return;
  const source = sources.get(path) ?? {};
  sources.set(path, source);
  source.pending = true;
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), PATIENCE);
  try {
    const response = await fetch(path, { headers: credentials(), cache: "no-store", redirect: "error", signal: stop.signal });
    const text = await response.text();
    answered(path, source, response, text);
    if (path === READY) state.away = null;
  } catch (fault) {
    source.failure = { status: 0, sentence: fault.name === "AbortError" ? `no answer within ${PATIENCE / 1000} s` : "no connection" };
    if (path === READY) state.away ??= Date.now();
  }
  clearTimeout(late);
  source.pending = false;
  show();
}

function credentials() {
  return state.token ? { authorization: `Bearer ${state.token}` } : {};
}

function answered(path, source, response, text) {
  const isReading = response.ok || (path === READY && response.status === 503);
  if (!isReading) {
    source.failure = { status: response.status, sentence: sentenceOf(text) || `status ${response.status}` };
    if (response.status === 401) state.tokenWanted = source.failure.sentence;
    if (response.status === 403) state.forbidden = source.failure.sentence;
    return;
  }
  try {
    if (path === METRICS) observe(text);
    source.value = path === READY ? parseChecks(text) : path === METRICS ? true : JSON.parse(text);
    if (path === READY) source.ready = response.ok;
  } catch {
    source.failure = { status: response.status, sentence: "the answer cannot be read" };
    return;
  }
  source.at = Date.now();
  source.failure = null;
  // Whoever may read the metrics may read all else that is shown.
  if (path !== READY) [state.tokenWanted, state.forbidden] = [null, null];
}

function sentenceOf(text) {
  try {
    return String(JSON.parse(text).error ?? "");
  } catch {
    return text.trim().slice(0, 300);
  }
}

/** Takes new metrics, and what they say of the time since the last ones. */
function observe(text) {
  metrics = parseMetrics(text, WANTED);
  const now = performance.now() / 1000;
  const newest = counted(metrics, now);
  const last = samples.at(-1);
  // Counters that fall belong to another process.
  if (last && newest.total.requests < last.total.requests) [samples, points] = [[], []];
  if (samples.length) points.push({ at: now, ...between(samples.at(-1).total, newest.total, now - samples.at(-1).at) });
  samples.push(newest);
  while (samples.length > 2 && samples[0].at < now - WINDOW - 1) samples.shift();
  while (points.length && points[0].at < now - SPAN) points.shift();
}

/** The two samples that figures are taken between, and how far they lie apart. */
function recent() {
  if (samples.length < 2) return null;
  const [older, newer] = [samples[0], samples.at(-1)];
  return { older, newer, seconds: newer.at - older.at };
}

// ------------------------------------------------------------------------------------------------------------- pieces

const SYMBOLS = { good: "✓", warn: "!", bad: "✕", none: "·" };

/** A state by its sign and word; the colour says the same again. */
function mark(level, ...words) {
  return h("span", { class: `mark ${level}` }, h("span", { class: "sign", "aria-hidden": "true" }, SYMBOLS[level]), h("span", null, words));
}

const time = (at) => h("time", { datetime: at }, moment(at));
const code = (text) => h("code", null, text);
const muted = (...text) => h("span", { class: "muted" }, text);
const hidden = (...text) => h("span", { class: "hidden" }, text);
const heading = (text) => h("h1", { id: "title", tabindex: "-1" }, text);

/** A control and its label. */
function field(id, title, ...control) {
  return h("div", { class: "field" }, h("label", { for: id }, title), control);
}

function section(title, key, ...kids) {
  return h("section", { key, "aria-labelledby": `h-${key}` }, h("h2", { id: `h-${key}` }, title), kids);
}

function bar(part) {
  const width = Number.isFinite(part) ? Math.max(0, Math.min(1, part)) * 100 : 0;
  return h("svg", { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("rect", { class: "track", width: "100", height: "6" }), h("rect", { class: "part", width: width.toFixed(2), height: "6" }));
}

/** The last minutes of a figure; gaps where there was nothing to tell. */
function sparkline(what, read, say) {
  const now = points.at(-1)?.at ?? 0;
  const values = points.map((point) => [point.at - now + SPAN, read(point)]);
  const known = values.map(([, value]) => value).filter(Number.isFinite);
  const most = Math.max(...known, 0) || 1;
  let [line, area, from] = ["", "", null];
  let last = null;
  const close = () => {
    if (from !== null) area += `L${last} 30L${from} 30Z`;
    from = null;
  };
  for (const [x, value] of values) {
    if (!Number.isFinite(value)) {
      close();
      continue;
    }
    const at = ((x / SPAN) * 100).toFixed(2);
    const y = (28 - (value / most) * 22).toFixed(2);
    line += `${from === null ? "M" : "L"}${at} ${y}`;
    area += `${from === null ? "M" : "L"}${at} ${y}`;
    from ??= at;
    last = at;
  }
  close();
  const told = known.length
    ? `${what} over the last ${span(Math.min(SPAN, now - points[0].at + POLL / 1000))}: from ${say(Math.min(...known))} to ${say(Math.max(...known))}`
    : `${what}: nothing yet`;
  return h("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": told },
    h("path", { class: "area", d: area || null }), h("path", { class: "line", d: line || null }));
}

/**
 * A table in a region of its own that scrolls. Columns: `{ title, num, sort }`; rows: `{ key, cells, more, of }`, of
 * which the first cell heads the row and `more` is what is unfolded below it.
 */
function table(name, caption, columns, rows, { seen = false } = {}) {
  const sort = state.sort[name];
  const by = sort && columns[sort.column]?.sort;
  const sorted = by ? [...rows].sort((a, b) => compare(by(a.of), by(b.of)) * (sort.isDown ? -1 : 1)) : rows;
  const head = columns.map((column, at) => {
    const active = sort?.column === at;
    const order = active ? (sort.isDown ? "descending" : "ascending") : null;
    const title = column.sort
      ? h("button", { class: "sort", type: "button", onclick: () => sortBy(name, at, column.num) }, column.title,
          h("span", { class: "arrow", "aria-hidden": "true" }, active ? (sort.isDown ? "▾" : "▴") : "▿"))
      : column.title;
    return h("th", { scope: "col", class: [column.num && "num", column.class].filter(Boolean).join(" ") || null, "aria-sort": order }, title);
  });
  const body = sorted.flatMap(({ key, cells, more, level }) => [
    h("tr", { key, class: level ? `row-${level}` : null }, cells.map((cell, at) => {
      const kind = [columns[at]?.num && "num", columns[at]?.class].filter(Boolean).join(" ") || null;
      return at === 0 ? h("th", { scope: "row", class: kind }, cell) : h("td", { class: kind }, cell);
    })),
    more ? h("tr", { key: `${key}\n`, class: "more" }, h("td", { colspan: String(columns.length) }, more)) : null,
  ]);
  return h("div", { key: name, class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", { class: seen ? null : "hidden" }, caption), h("thead", null, h("tr", null, head)),
      h("tbody", null, body.filter(Boolean))));
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return (Number.isNaN(a) ? -1 : a) - (Number.isNaN(b) ? -1 : b);
  return String(a).localeCompare(String(b), "en");
}

function sortBy(name, column, startsDown) {
  const sort = state.sort[name];
  state.sort[name] = { column, isDown: sort?.column === column ? !sort.isDown : Boolean(startsDown) };
  show();
}

/** A button that unfolds what belongs to its row. */
function unfold(key, ...title) {
  const isOpen = state.open.has(key);
  return h("button", { class: "unfold", type: "button", "aria-expanded": String(isOpen), onclick: () => {
    if (!state.open.delete(key)) state.open.add(key);
    poll();
    show();
  } }, h("span", { class: "arrow", "aria-hidden": "true" }, isOpen ? "▾" : "▸"), h("span", null, title));
}

/** What stands in place of something that is not there: still asked for, at fault, or nothing to tell. */
function unless(path, kids, what) {
  const source = sources.get(path);
  const failure = source?.failure;
  if (source?.value === undefined) {
    if (!failure) return h("p", { class: "empty" }, `Asking for ${what} …`);
    if (failure.status === 401) return h("p", { class: "empty" }, "To be seen with the bearer token: enter it above.");
    if (failure.status === 403) return h("p", { class: "empty" }, "Not to be seen here: above stands what to write.");
    return h("p", { class: "note bad" }, mark("bad", `The gateway did not tell ${what}: ${failure.sentence}.`), " ", adviceOn(failure));
  }
  const old = failure && state.away === null
    ? h("p", { key: "old", class: "note warn" }, mark("warn", `This is ${span(since(source.at))} old: ${failure.sentence}.`), " ", adviceOn(failure))
    : null;
  return [old, kids()];
}

function adviceOn({ status }) {
  if (status === 404) return "This gateway is older than this page, or something between them answers in its place.";
  if (status === 0) return "It is asked again every few seconds.";
  return "Look at its standard error for events; it is asked again every few seconds.";
}

// --------------------------------------------------------------------------------------------------- view: overview

function overview() {
  const checks = valueOf(READY) ?? [];
  const wrong = checks.filter((check) => check.level !== "good");
  const well = checks.length - wrong.length;
  return [
    heading("Overview"),
    section("Readiness", "readiness", unless(READY, () => [
      wrong.length === 0
        ? h("p", { key: "well" }, mark("good", `All ${checks.length} checks pass.`))
        : h("ul", { key: "wrong", class: "checks" }, wrong.map(check)),
      well > 0 ? h("details", { key: "passing" }, h("summary", null, `${well} passing ${well === 1 ? "check" : "checks"}`),
        h("ul", { class: "checks plain" }, checks.filter((each) => each.level === "good").map(check))) : null,
    ], "its checks")),
    section("Now", "now", unless(METRICS, figures, "its metrics")),
    sources.get(METRICS)?.value === undefined ? null : section("Routes", "routes", routes()),
    sources.get(METRICS)?.value === undefined ? null : section("Process", "process", running()),
  ];
}

function check({ level, name, why }) {
  const word = { bad: "failed", warn: "degraded", good: "ok" }[level];
  return h("li", { key: name }, mark(level, word), " ", h("b", null, name), why ? h("span", { class: "why" }, ` – ${why}`) : null);
}

function figures() {
  const within = recent();
  const now = within && between(within.older.total, within.newer.total, within.seconds);
  const measuring = "measuring …";
  const gateways = (at) => (now?.overhead[at] ? `gateway: ${latencyOf(now.overhead[at])}` : now ? "" : measuring);
  const underWay = metric("http_server_active_requests").reduce((sum, { value }) => sum + value, 0);
  const tiles = [
    ["Requests", now && rate(now.rate), "/s", `${count(underWay)} under way`, (point) => point.rate, (n) => `${rate(n)} a second`],
    ["Refused", now && share(now.refused), "", now ? `${rate(now.refusedRate)}/s denied` : measuring, (point) => point.refused, share],
    ["Errors", now && share(now.errors), "", "5xx, of all answers", (point) => point.errors, share, now?.errors > 0.01 && "bad"],
    ["p50 latency", now && latencyOf(now.quantiles[0]), "", gateways(0), (point) => point.quantiles[0]?.seconds, latency],
    ["p95 latency", now && latencyOf(now.quantiles[1]), "", gateways(1), (point) => point.quantiles[1]?.seconds, latency],
    ["p99 latency", now && latencyOf(now.quantiles[2]), "", gateways(2), (point) => point.quantiles[2]?.seconds, latency],
  ];
  return [
    h("p", { key: "over", class: "aside" }, within ? `Over the last ${span(within.seconds)}; the lines show the last ${span(SPAN)}.` : "The first figures come with the second poll."),
    h("dl", { key: "tiles", class: "tiles" }, tiles.map(([title, value, unit, more, read, say, level]) =>
      h("div", { key: title, class: `tile ${level || ""}` },
        h("dt", null, title, level ? mark(level, "high") : null),
        h("dd", { class: "figure" }, value ?? ABSENT, value && value !== ABSENT && unit ? h("span", { class: "unit" }, unit) : null),
        h("dd", { class: "aside" }, more || "\u00a0"),
        h("dd", { class: "line" }, sparkline(title, read, say))))),
  ];
}

function routes() {
  const newest = samples.at(-1);
  if (!newest?.routes.size) {
    return h("p", { class: "empty" }, "No request has come yet. Send one to the callers' address, such as ", code("curl -k https://localhost:8443/"), "; even a refused one shows here.");
  }
  const within = recent();
  const rows = [...newest.routes].map(([name, total]) => {
    const now = within && between(within.older.routes.get(name), total, within.seconds);
    return { name, total, now };
  }).sort((a, b) => b.total.requests - a.total.requests || compare(a.name, b.name));
  const columns = [
    { title: "Route", sort: (row) => row.name },
    { title: "Requests/s", num: true, sort: (row) => row.now?.rate ?? NaN },
    { title: "Refused", num: true, sort: (row) => row.now?.refused ?? NaN },
    { title: "Errors", num: true, sort: (row) => row.now?.errors ?? NaN },
    { title: "p50", num: true, sort: (row) => row.now?.quantiles[0]?.seconds ?? NaN },
    { title: "p95", num: true, sort: (row) => row.now?.quantiles[1]?.seconds ?? NaN },
    { title: "p99", num: true, sort: (row) => row.now?.quantiles[2]?.seconds ?? NaN },
    { title: "Requests since start", num: true, sort: (row) => row.total.requests },
  ];
  return table("routes", "Requests by route, most used first", columns, rows.map((row) => ({
    key: row.name,
    of: row,
    cells: [
      row.name === "none" ? muted("none (no route matched)") : row.name,
      rate(row.now?.rate ?? NaN),
      share(row.now?.refused ?? NaN),
      share(row.now?.errors ?? NaN),
      ...[0, 1, 2].map((at) => latencyOf(row.now?.quantiles[at])),
      count(row.total.requests),
    ],
  })));
}

function running() {
  const lost = lostThings();
  const facts = [
    ["Up for", span(single("process_uptime_seconds"))],
    ["Memory", bytes(single("process_memory_usage_bytes"))],
    ["File descriptors", count(single("process_unix_file_descriptor_count"))],
    ["Connections", count(single("portcullis_connections"))],
    ["Remembered tokens", count(single("portcullis_token_cache_entries"))],
  ];
  return [
    h("dl", { key: "facts", class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    lost.length > 0 ? h("ul", { key: "lost", class: "checks" }, lost.map(([what, n, advice]) =>
      h("li", { key: what }, mark("warn", "lost"), " ", h("b", null, `${count(n)} ${what}`), h("span", { class: "why" }, ` – ${advice}`)))) : null,
  ];
}

/** What should have been written down and was not. */
function lostThings() {
  const lost = [
    ["lines of the request log", single("portcullis_records_lost_total"), "Standard output is read too slowly."],
    ["lines of the decision log", single("portcullis_decisions_lost_total"), "The disk of telemetry.decisionLog is full or too slow."],
  ];
  for (const { labels, value } of metric("portcullis_telemetry_dropped_total")) {
    lost.push([`items of telemetry (${labels.signal ?? "?"}, ${labels.reason ?? "?"})`, value, "Whoever should take them does not, or too slowly; see standard error."]);
  }
  return lost.filter(([, n]) => n > 0);
}

// ---------------------------------------------------------------------------------------------------- view: refusals

function refused() {
  return [
    heading("Refusals"),
    lookUp(),
    section("By reason", "reasons", unless(METRICS, reasons, "its metrics")),
    section("By app", "apps", unless(DENIALS, apps, "the last refusals")),
  ];
}

function lookUp() {
  const ask = (event) => {
    event.preventDefault();
    const id = idIn(new FormData(event.target).get("id"));
    if (!id) return;
    // Whoever asks again wants a new answer.
    sources.delete(decisionPath(id));
    if (location.hash === `#refused/${encodeURIComponent(id)}`) turn();
    else location.hash = `#refused/${encodeURIComponent(id)}`;
  };
  return section("Why was this refused?", "why",
    h("form", { key: "form", class: "row", onsubmit: ask },
      field("id", "Request ID", h("input", { id: "id", name: "id", type: "text", required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false", size: "38", value: state.id ?? "", "aria-describedby": "id-help" })),
      h("button", { type: "submit", class: "main" }, "Explain")),
    h("p", { key: "help", id: "id-help", class: "aside" }, "The ", code("x-request-id"), " or ", code("instance"), " of the answer, or paste the whole answer or log line."),
    state.id === null ? null : h("div", { key: "answer", class: "answer", id: "answer", role: "status" }, lookedUp(state.id)));
}

function lookedUp(id) {
  const source = sources.get(decisionPath(id));
  if (source?.value) return decision(source.value, source, "h3");
  if (!source?.failure) return h("p", { class: "empty" }, `Asking for ${id} …`);
  if (source.failure.status !== 404) return unless(decisionPath(id), () => null, "this decision");
  return [
    h("p", { class: "strong" }, mark("warn", "This gateway does not know ", code(id), " (any more).")),
    h("ul", null,
      h("li", null, "It keeps the newest decisions alone, in memory. Older ones are in the decision log, if ", code("telemetry.decisionLog"), " is written: ",
        code(`portcullis explain --policies policies --decision ${id} --log decisions.jsonl`), ". See policies/README.md, “Commands”."),
      h("li", null, "Where there are several replicas, another one may have answered: ask each at its own admin address."),
      h("li", null, "The ID may be of something else: it is the ", code("x-request-id"), " of an answer of this gateway.")),
    h("p", { class: "aside" }, `The gateway says: ${source.failure.sentence}`),
  ];
}

function reasons() {
  const newest = samples.at(-1);
  const within = recent();
  const all = [...(newest?.reasons ?? [])].map(([name, { refused, routes }]) => ({
    name,
    refused,
    recent: within ? refused - (within.older.reasons.get(name)?.refused ?? 0) : NaN,
    route: [...routes].sort(([, a], [, b]) => b - a)[0]?.[0],
    routes: routes.size,
  })).filter(({ refused }) => refused > 0).sort((a, b) => b.refused - a.refused || compare(a.name, b.name));
  if (!all.length) return h("p", { class: "empty" }, "Nobody has been refused since the gateway started.");
  const total = all.reduce((sum, { refused }) => sum + refused, 0);
  const columns = [
    { title: "Reason", sort: (row) => row.name },
    { title: "Since start", num: true, sort: (row) => row.refused },
    { title: "Share", class: "bars" },
    { title: `Last ${within ? span(within.seconds) : `${WINDOW} s`}`, num: true, sort: (row) => row.recent },
    { title: "Mostly on", sort: (row) => row.route },
  ];
  return table("reasons", "Refusals by reason; a reason unfolds its newest examples", columns, all.map((row) => {
    const key = `reason ${row.name}`;
    return {
      key,
      of: row,
      cells: [unfold(key, code(row.name)), count(row.refused), [bar(row.refused / total), " ", h("span", { class: "num" }, share(row.refused / total))], count(row.recent),
        [row.route === "none" ? muted("no route") : row.route, row.routes > 1 ? muted(` and ${row.routes - 1} more`) : ""]],
      more: state.open.has(key) ? unless(byReason(row.name), () => examples(valueOf(byReason(row.name)).decisions ?? [],
        "None of them is kept any more. Older ones are in the decision log; README.md, “The decision log”, says how to have one."), "examples") : null,
    };
  }));
}

function apps() {
  const { decisions = [], kept } = valueOf(DENIALS);
  if (!decisions.length) return h("p", { class: "empty" }, "No refusal is kept. Send a request without a token to see one here.");
  const groups = new Map();
  for (const each of decisions) {
    const name = each.appName ?? each.app ?? "";
    if (!groups.has(name)) groups.set(name, { name, app: each.app, tenants: new Set(), decisions: [], reasons: new Map() });
    const group = groups.get(name);
    group.decisions.push(each);
    if (each.tenantName ?? each.tenant) group.tenants.add(each.tenantName ?? each.tenant);
    group.reasons.set(each.reason, (group.reasons.get(each.reason) ?? 0) + 1);
  }
  const columns = [
    { title: "App", sort: (row) => row.name },
    { title: "Tenant", sort: (row) => [...row.tenants].join() },
    { title: "Refusals", num: true, sort: (row) => row.decisions.length },
    { title: "Reasons" },
    { title: "Newest", num: true, sort: (row) => new Date(row.decisions[0].time).getTime() },
  ];
  const rows = [...groups.values()].sort((a, b) => b.decisions.length - a.decisions.length || compare(a.name, b.name));
  return [
    h("p", { key: "of", class: "aside" }, `Among the newest ${count(decisions.length)} refusals that are kept${kept === undefined ? "" : ` (${count(kept)} decisions are kept in all)`}.`),
    table("apps", "Refusals by app; an app unfolds its newest examples", columns, rows.map((row) => {
      const key = `app ${row.name}`;
      const reasons = [...row.reasons].sort(([, a], [, b]) => b - a);
      return {
        key,
        of: row,
        cells: [unfold(key, row.name ? h("b", null, row.name) : muted("nobody known (no valid token)")),
          row.tenants.size ? [...row.tenants].join(", ") : muted(ABSENT), count(row.decisions.length),
          reasons.map(([reason, n], at) => [at ? ", " : "", code(reason), n > 1 ? ` × ${n}` : ""]), ago(row.decisions[0].time)],
        more: state.open.has(key) ? examples(row.decisions.slice(0, 5), "") : null,
      };
    })),
  ];
}

function examples(decisions, otherwise) {
  if (!decisions.length) return h("p", { class: "empty" }, otherwise);
  return h("ul", { class: "examples" }, decisions.map((each) => h("li", { key: each.id },
    h("button", { type: "button", class: "link", onclick: () => openDrawer(each) }, time(each.time), " ", h("b", null, each.method), " ", `${each.host ?? ""}${each.path ?? ""}`),
    h("span", { class: "aside" }, [each.status, code(each.reason), each.route ?? "no route", each.appName ?? each.app, each.client].filter(Boolean).map((part, at) => [at ? " · " : "", part])))));
}

// ------------------------------------------------------------------------------------------------- a whole decision

const FIELDS = {
  time: "Arrived (UTC)", id: "Request ID", trace: "Trace", client: "Caller's address", method: "Method", host: "Host", path: "Path", protocol: "Protocol",
  route: "Route", decision: "Decision", reason: "Reason", rule: "Rule", expected: "Expected", got: "Got", limit: "Limit", reportOnly: "Report only", candidate: "Candidate",
  reportOnlyLimit: "Limit that only reports", tenant: "Tenant", tenantName: "Tenant's name", app: "App", appName: "App's name", principal: "Principal",
  tokenKind: "Token's kind", tokenVersion: "Token's version", keysStripped: "Keys stripped", followed: "Followed", sealed: "URLs sealed", withheld: "URLs withheld",
  backend: "Backend", attempts: "Attempts", status: "Status", sentBytes: "Bytes sent", complete: "Sent whole", durationMs: "Duration (ms)", upstreamMs: "Backend (ms)",
};

/** All that is known of a decision, with its explanation if that has been read. */
function decision(value, source, title, id = null) {
  const below = title === "h2" ? "h3" : "h4";
  const { explanation, ...rest } = value;
  const known = typeof rest.decision === "object" && rest.decision !== null ? rest.decision : rest;
  const names = [...new Set([...Object.keys(FIELDS), ...Object.keys(known)])].filter((name) => name in known);
  const isDenied = known.decision === "deny";
  return h("article", { key: `decision ${known.id}`, class: "decision" },
    h(title, { id, tabindex: id ? "-1" : null }, mark(isDenied ? "bad" : "good", isDenied ? "Refused" : "Let in"), " ", known.status ? `${known.status} ` : "", code(known.reason ?? "")),
    h("p", { class: "request" }, h("b", null, known.method), " ", `${known.host ?? ""}${known.path ?? ""}`),
    explained(explanation, source, below),
    h(below, { class: "minor" }, "All that is known"),
    h("dl", { class: "fields" }, names.map((name) => h("div", { key: name }, h("dt", null, FIELDS[name] ?? name), h("dd", null, wordsOf(known[name]))))),
    known.id ? h("p", { class: "aside" }, h("a", { href: `#refused/${encodeURIComponent(known.id)}` }, "A link to this decision")) : null,
    h("details", null, h("summary", null, "As JSON"), h("pre", { tabindex: "0" }, JSON.stringify(known, null, 2))));
}

function explained(explanation, source, below) {
  if (!explanation) {
    const failure = source?.failure;
    if (failure) return h("p", { class: "empty" }, `It cannot be explained now: ${failure.sentence}.`);
    return h("p", { class: "empty" }, source?.value ? "The gateway has no explanation for it." : "Asking for the explanation …");
  }
  const { title, detail, advice, steps = [] } = explanation;
  return h("div", { class: "explanation" },
    title ? h("p", { class: "strong" }, title) : null,
    detail ? h("p", null, detail) : null,
    advice ? h("p", { class: "advice" }, h("b", null, "What to do: "), advice) : null,
    steps.length ? [h(below, { class: "minor" }, "Step by step"), h("ol", null, steps.map((step) => h("li", null, step)))] : null);
}

function wordsOf(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (value === null) return ABSENT;
  if (Array.isArray(value)) return value.map(wordsOf).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${wordsOf(each)}`).join("; ");
  return String(value);
}

function openDrawer(decision) {
  state.drawer = decision;
  poll();
  show();
  const drawer = document.getElementById("drawer");
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
}

function drawer() {
  const known = state.drawer;
  if (!known) return [];
  const source = sources.get(decisionPath(known.id));
  const close = () => document.getElementById("drawer").close();
  return [
    h("form", { key: "close", class: "close", onsubmit: (event) => { event.preventDefault(); close(); } }, h("button", { type: "submit" }, "Close")),
    decision(source?.value ?? known, source, "h2", "drawer-title"),
  ];
}

// -------------------------------------------------------------------------------------------------------- view: live

function live() {
  const { live } = state;
  const names = (values) => [...new Set(values)].filter(Boolean).sort();
  const knownApps = names([...live.rows.map((row) => row.appName ?? row.app), ...(valueOf("/access")?.routes ?? []).flatMap(appsOf)]);
  const filter = (name) => (event) => {
    if (live[name] === event.target.value.trim()) return;
    live[name] = event.target.value.trim();
    [live.rows, live.held, live.passed] = [[], [], 0];
    follow();
    show();
  };
  return [
    heading("Live decisions"),
    h("form", { key: "filters", class: "row", onsubmit: (event) => event.preventDefault() },
      field("live-decision", "Decision", h("select", { id: "live-decision", value: live.decision, onchange: filter("decision") },
        h("option", { value: "" }, "All"), h("option", { value: "deny" }, "Refused"), h("option", { value: "allow" }, "Let in"))),
      field("live-route", "Route", h("input", { id: "live-route", type: "text", value: live.route, list: "live-routes", autocomplete: "off", spellcheck: "false", onchange: filter("route"), size: "16" }),
        h("datalist", { id: "live-routes" }, names([...(samples.at(-1)?.routes.keys() ?? [])]).map((name) => h("option", { key: name, value: name })))),
      field("live-app", "App", h("input", { id: "live-app", type: "text", value: live.app, list: "live-apps", autocomplete: "off", spellcheck: "false", onchange: filter("app"), size: "16", placeholder: "name or ID" }),
        h("datalist", { id: "live-apps" }, knownApps.map((name) => h("option", { key: name, value: name })))),
      h("button", { type: "button", "aria-pressed": String(live.isPaused), onclick: pauseLive }, live.isPaused ? "Go on" : "Pause")),
    h("p", { key: "says", class: "aside", role: "status" }, liveWords()),
    live.rows.length ? liveTable(live.rows) : h("p", { key: "none", class: "empty" },
      live.decision || live.route || live.app ? "No such decision is kept, and none has come since. Names must be written as the policy writes them." : "No decision is kept, and none has come since. Each request shows here as soon as it has been answered."),
  ];
}

function liveWords() {
  const { live } = state;
  const waiting = live.held.length + live.passed;
  if (live.isPaused) return `Paused${waiting ? `; ${count(waiting)} came meanwhile` : ""}.`;
  return live.says || "Connecting …";
}

function liveTable(rows) {
  const columns = [{ title: "Time (UTC)" }, { title: "Decision" }, { title: "Request", class: "wide" }, { title: "Route" }, { title: "App" }, { title: "Reason" }, { title: "Status", num: true }, { title: "ms", num: true }];
  return table("live", `The newest ${MOST_LIVE} decisions at most, newest first`, columns, rows.map((each) => ({
    key: each.id,
    level: each.decision === "deny" ? "bad" : null,
    cells: [
      h("button", { type: "button", class: "link", onclick: () => openDrawer(each) }, time(each.time), hidden(" open")),
      each.decision === "deny" ? mark("bad", "refused") : mark("good", "let in"),
      [h("b", null, each.method), " ", `${each.host ?? ""}${each.path ?? ""}`],
      each.route ?? muted(ABSENT), each.appName ?? each.app ?? muted(ABSENT), code(each.reason ?? ""), each.status ?? ABSENT,
      Number.isFinite(each.durationMs) ? (each.durationMs < 10 ? each.durationMs.toFixed(1) : count(each.durationMs)) : ABSENT,
    ],
  })));
}

function pauseLive() {
  const { live } = state;
  live.isPaused = !live.isPaused;
  if (!live.isPaused) {
    const held = live.held;
    [live.held, live.passed] = [[], 0];
    take(held);
  }
  show();
}

/** Puts decisions on top of the list: `fresh` has the newest last. */
function take(fresh) {
  const { live } = state;
  const known = new Set(live.rows.map((row) => row.id));
  const added = fresh.filter((each) => each?.id !== undefined && !known.has(each.id) && known.add(each.id));
  if (live.isPaused) {
    live.held.push(...added);
    live.passed += Math.max(0, live.held.length - MOST_LIVE);
    live.held = live.held.slice(-MOST_LIVE);
  } else {
    live.rows = [...added.reverse(), ...live.rows].slice(0, MOST_LIVE);
  }
}

let following = null;

/** Follows decisions for as long as the view is open, with what was kept before them. */
async function follow() {
  following?.abort();
  const stop = (following = new AbortController());
  const { live } = state;
  const query = new URLSearchParams();
  for (const name of ["decision", "route", "app"]) if (live[name]) query.set(name, live[name]);
  const ask = (more) => fetch(`/decisions?${new URLSearchParams([...query, more])}`, { headers: credentials(), cache: "no-store", redirect: "error", signal: stop.signal });
  while (!stop.signal.aborted) {
    try {
      const stream = await ask(["follow", "true"]);
      if (stop.signal.aborted) return;
      if (!stream.ok) {
        const sentence = sentenceOf(await stream.text()) || `status ${stream.status}`;
        if (stream.status === 401) state.tokenWanted = sentence;
        if (stream.status === 403) state.forbidden = sentence;
        live.says = `The gateway does not send decisions: ${sentence}`;
        showSoon();
      } else {
        const kept = await ask(["limit", "50"]);
        if (kept.ok) take(((await kept.json()).decisions ?? []).reverse());
        live.says = "Following. Decisions come as they are made.";
        showSoon();
        await read(stream.body.pipeThrough(new TextDecoderStream()).getReader(), stop);
        live.says = "The stream ended; it is asked for again.";
      }
    } catch {
      if (stop.signal.aborted) return;
      live.says = "The stream broke off; it is asked for again every few seconds.";
    }
    if (stop.signal.aborted) return;
    showSoon();
    await new Promise((on) => setTimeout(on, POLL));
  }
}

async function read(reader, stop) {
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done || stop.signal.aborted) return;
    const { events, rest } = parseEvents(text + value);
    text = rest;
    const fresh = [];
    for (const { event, data } of events) {
      if (event !== "decision") continue;
      try {
        fresh.push(JSON.parse(data));
      } catch {
        // Half a decision is none.
      }
    }
    if (fresh.length) {
      take(fresh);
      showSoon();
    }
  }
}

// ------------------------------------------------------------------------------------------------------ view: access

const ANYONE = "No token";
const OTHERS = "Any other app";
const labelOf = (id) => (typeof id === "object" && id !== null ? id.name ?? id.id : String(id));
const appsOf = (route) => (route.callers ?? []).flatMap((callers) => [...(callers.apps?.only ?? []), ...(callers.apps?.allBut ?? [])].map(labelOf));

/** Whether callers of this kind are among those of a column. */
function isAmong(callers, column) {
  if (column === ANYONE) return callers.token === "optional" || callers.token === "absent";
  if (callers.token === "absent") return false;
  if (callers.apps?.only) return callers.apps.only.some((id) => labelOf(id) === column);
  return column === OTHERS || !(callers.apps?.allBut ?? []).some((id) => labelOf(id) === column);
}

const isPlain = ({ words = {} }) => (words.needs ?? "nothing more") === "nothing more" && (words.from ?? "anywhere") === "anywhere" && (words.when ?? "always") === "always";

function access() {
  const read = valueOf("/access");
  const { search, caller, shown } = state.access;
  return [heading("Access"), h("p", { key: "what", class: "lead" }, "Who can reach what, computed from the policy in force."),
    unless("/access", () => memo("access", [read, search, caller, shown, [...state.open].join("\n")], () => matrix(read)), "who can reach what")];
}

function matrix(read) {
  const { access } = state;
  const routes = read.routes ?? [];
  if (!routes.length) return h("p", { class: "empty" }, "The policy has no route, so nobody can reach anything. policies/README.md, “Ten minutes”, begins with one.");
  const named = [...new Set(routes.flatMap(appsOf))].sort((a, b) => a.localeCompare(b, "en"));
  const callers = [
    ...(routes.some((route) => route.callers?.some((each) => isAmong(each, ANYONE))) ? [ANYONE] : []),
    ...(routes.some((route) => route.callers?.some((each) => isAmong(each, OTHERS))) ? [OTHERS] : []),
    ...named,
  ];
  const found = routes.filter((route) => isFound(route) && (!access.caller || isUnknown(route) || (route.callers ?? []).some((each) => isAmong(each, access.caller))));
  const columns = access.caller ? [access.caller] : callers.slice(0, MOST_CALLERS);
  const rows = found.slice(0, access.shown);
  return h("div", { class: "matrix" },
    h("form", { class: "row", onsubmit: (event) => event.preventDefault(), role: "search" },
      field("search", "Search", h("input", { id: "search", type: "search", value: access.search, autocomplete: "off", spellcheck: "false", placeholder: "route, path, host, app, role …", oninput: narrow("search"), size: "26" })),
      field("caller", "Who", h("select", { id: "caller", value: access.caller, onchange: narrow("caller") }, h("option", { value: "" }, "All callers"), callers.map((name) => h("option", { key: name, value: name }, name))))),
    h("p", { class: "aside", role: "status" }, `${count(found.length)} of ${count(routes.length)} routes`, rows.length < found.length ? `, of which the first ${count(rows.length)} are shown` : "",
      columns.length < callers.length && !access.caller ? `; ${count(columns.length)} of ${count(callers.length)} callers: choose another under “Who”` : "", "."),
    h("p", { class: "legend aside" }, h("span", null, h("span", { class: "may" }, "●"), " may call"), h("span", null, h("span", { class: "may" }, "◐"), " may if more holds: unfold the route"), routes.some(isUnknown) ? h("span", null, h("span", { class: "may" }, "?"), " not known") : null, h("span", null, h("span", { class: "flag" }, "reports only"), " the route lets in whatever its rules would refuse")),
    found.length ? accessTable(columns, rows) : h("p", { class: "empty" }, "No route is like that. Search for a part of a route's name, its path, a host, a backend, an app, a role or a scope."),
    rows.length < found.length ? h("p", null, h("button", { type: "button", onclick: () => { access.shown += MOST_ROUTES; show(); } }, `Show ${Math.min(MOST_ROUTES, found.length - rows.length)} more routes`)) : null);
}

function narrow(name) {
  return (event) => {
    state.access[name] = event.target.value;
    state.access.shown = MOST_ROUTES;
    show();
  };
}

function isFound(route) {
  const words = state.access.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const text = [route.route, route.path, route.backend, route.mode, ...(route.hosts ?? []), ...(route.methods ?? []), ...(route.text ?? []), ...appsOf(route)].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function accessTable(columns, rows) {
  const heads = [{ title: "Route" }, { title: "Requests" }, ...columns.map((title) => ({ title: h("span", { class: "caller" }, title), class: "cell" }))];
  return table("access", "Routes, and who can call them", heads, rows.map((route) => {
    const key = `route ${route.route}`;
    const hosts = (route.hosts ?? []).filter(Boolean);
    return {
      key,
      cells: [
        [unfold(key, h("b", null, route.route)), route.mode === "reportOnly" ? h("span", { class: "flag" }, "reports only") : null,
          route.public ? h("span", { class: "flag" }, "public") : null, isUnknown(route) ? h("span", { class: "flag" }, "not known") : route.exact === false ? h("span", { class: "flag" }, "not exact") : null],
        h("span", { class: "path" }, h("span", { class: "methods" }, (route.methods ?? []).join(" ")), " ", hosts.length ? hosts.map((host) => `${host}${route.path ?? ""}`).join(", ") : route.path),
        ...columns.map((column) => cell(route, column)),
      ],
      more: state.open.has(key) ? [
        h("p", { class: "aside" }, route.backend ? ["To the backend ", h("b", null, route.backend), ". "] : null,
          isUnknown(route) ? [h("b", null, "Whom it lets in could not be worked out"), ", so it is not known here; it decides as its rules say. The gateway says:"] : route.exact === false ? "What is shown is not exact." : null),
        h("pre", { tabindex: "0" }, (route.text ?? []).join("\n") || "nobody"),
      ] : null,
    };
  }));
}

/** Whether it is known at all whom a route lets in. */
const isUnknown = (route) => route.exact === false && !route.callers?.length;

function cell(route, column) {
  if (isUnknown(route)) return h("span", { class: "may" }, h("span", { "aria-hidden": "true" }, "?"), hidden("not known"));
  const callers = (route.callers ?? []).filter((each) => isAmong(each, column));
  if (!callers.length) return null;
  const plain = callers.some(isPlain);
  const terms = callers.map(({ words = {} }) => [words.tenants && words.tenants !== "any" ? `of ${words.tenants}` : "", words.needs, words.from, words.when].filter((word) => word && !["nothing more", "anywhere", "always"].includes(word)).join("; "));
  return h("span", { class: "may" }, h("span", { "aria-hidden": "true" }, plain ? "●" : "◐"), hidden(plain ? "may" : `may, if ${terms.join(", or ")}`));
}

// ------------------------------------------------------------------------------------------------------ view: health

function health() {
  return [
    heading("Health"),
    section("Signing keys", "keys", unless("/keys", keys, "the signing keys")),
    section("Credentials", "credentials", unless("/credentials", held, "the credentials")),
    section("Backends", "backends", unless("/backends", backends, "the backends")),
    section("Limits", "limits", unless("/limits", limits, "the limits")),
  ];
}

function keys() {
  const issuers = (valueOf("/keys").issuers ?? []).map((each) => {
    const age = each.ageSeconds;
    if (each.fetched === null || each.fetched === undefined) return { ...each, level: "bad", word: "not loaded" };
    if (each.failure) return { ...each, level: "warn", word: "old ones serve" };
    return age > 86400 ? { ...each, level: "warn", word: "older than a day" } : { ...each, level: "good", word: "well" };
  }).sort(byLevel);
  if (!issuers.length) return h("p", { class: "empty" }, "No tenant is trusted yet. Write one under ", code("tenants"), " in a policy file.");
  const columns = [{ title: "Tenant" }, { title: "State" }, { title: "Token version" }, { title: "Fetched", num: true }, { title: "Keys", num: true }, { title: "What is wrong", class: "wide" }];
  return table("keys", "Signing keys by tenant and token version, those with a fault first", columns, issuers.map((each) => ({
    key: `${each.tenant} ${each.version}`,
    level: each.level,
    cells: [[h("b", null, each.tenantName ?? each.tenant), each.tenantName ? h("span", { class: "under" }, each.tenant) : null], mark(each.level, each.word), each.version,
      Number.isFinite(each.ageSeconds) ? `${span(each.ageSeconds)} ago` : muted("never"), count((each.keyIds ?? []).length), each.failure ?? muted(ABSENT)],
  })));
}

function held() {
  const all = (valueOf("/credentials").credentials ?? []).map((each) => {
    const left = each.expiresInSeconds;
    const ends = Number.isFinite(left);
    if (!each.ready) return { ...each, level: "bad", word: "not ready" };
    if (each.lastErrorFinal) return { ...each, level: "bad", word: ends ? "will end" : "not renewed" };
    if (each.lastError) return { ...each, level: "warn", word: "last one serves" };
    return ends && left < 300 ? { ...each, level: "warn", word: "ends soon" } : { ...each, level: "good", word: "ready" };
  }).sort((a, b) => byLevel(a, b) || (a.expiresInSeconds ?? Infinity) - (b.expiresInSeconds ?? Infinity) || compare(a.backend, b.backend));
  if (!all.length) return h("p", { class: "empty" }, "No backend has a credential that is fetched. Tokens of identities and secrets from Key Vault show here as soon as a backend of the policy needs one.");
  const columns = [{ title: "Backend" }, { title: "State" }, { title: "Kind" }, { title: "Ends", num: true }, { title: "Fetched", num: true }, { title: "From", class: "wide" }, { title: "What is wrong", class: "wide" }];
  return table("credentials", "What the gateway presents to backends, what is about to fail first", columns, all.map((each) => ({
    key: `${each.backend} ${each.kind} ${each.resource ?? each.from}`,
    level: each.level,
    cells: [h("b", null, each.backend), mark(each.level, each.word), each.kind, ends(each.expiresInSeconds, each.ready), each.fetched ? ago(each.fetched) : muted(each.ready ? "at the start" : "never"),
      [each.from, each.resource ? h("span", { class: "under" }, each.resource) : null], [each.lastError ?? muted(ABSENT), each.lastError && each.lastErrorFinal ? h("b", null, " It lasts until somebody acts.") : null]],
  })));
}

function ends(seconds, isReady) {
  if (!Number.isFinite(seconds)) return muted(isReady ? "no end" : ABSENT);
  return seconds < 0 ? `${span(-seconds)} ago` : `in ${span(seconds)}`;
}

function backends() {
  const newest = samples.at(-1);
  const within = recent();
  const all = (valueOf("/backends").backends ?? []).map((each) => {
    const ill = (each.endpoints ?? []).filter((endpoint) => !endpoint.isWell).length;
    const buckets = newest?.backends.get(each.name);
    const p95 = within && buckets ? quantile(0.95, bucketsSince(within.older.backends.get(each.name), buckets)) : null;
    if (each.fault) return { ...each, p95, level: "bad", word: "not called" };
    if (each.breaker && !each.breaker.isClosed) return { ...each, p95, level: "bad", word: "breaker open" };
    if (ill) return { ...each, p95, level: "warn", word: `${ill} of ${each.endpoints.length} endpoints not well` };
    return { ...each, p95, level: "good", word: "well" };
  }).sort((a, b) => byLevel(a, b) || compare(a.name, b.name));
  if (!all.length) return h("p", { class: "empty" }, "The policy names no backend. policies/README.md, “Ten minutes”, begins with one.");
  const columns = [{ title: "Backend" }, { title: "State" }, { title: "Where", class: "wide" }, { title: "p95", num: true }, { title: "Endpoints", class: "wide" }, { title: "Breaker" }, { title: "Retries", num: true }, { title: "Cold starts", num: true }];
  return table("backends", "Backends, those with a fault first", columns, all.map((each) => ({
    key: each.name,
    level: each.level,
    cells: [
      [h("b", null, each.name), h("span", { class: "under" }, each.kind)],
      [mark(each.level, each.word), each.fault ? h("span", { class: "under" }, each.fault) : null],
      (each.urls ?? []).map((url) => h("div", null, url)),
      latencyOf(each.p95),
      (each.endpoints ?? []).length ? each.endpoints.map(endpoint) : muted("one"),
      each.breaker ? [each.breaker.isClosed ? "closed" : "open", h("span", { class: "under" }, `opened ${count(each.breaker.opened)} ×, refused ${count(each.breaker.refused)}`)] : muted(ABSENT),
      each.retries ? [count(each.retries.made), each.retries.refused ? h("span", { class: "under" }, `${count(each.retries.refused)} refused`) : null] : muted(ABSENT),
      each.coldStarts ? [count(each.coldStarts.served + each.coldStarts.failed), h("span", { class: "under" }, `${count(each.coldStarts.failed)} failed, ${count(each.coldStarts.waiting)} wait`)] : muted(ABSENT),
    ],
  })));
}

function endpoint({ name, isWell, underWay, ejections }) {
  return h("div", { key: name }, mark(isWell ? "good" : "bad", isWell ? "well" : "not well"), " ", name, muted(` ${count(underWay)} under way${ejections ? `, ejected ${count(ejections)} ×` : ""}`));
}

function limits() {
  const { requestsUnderWay, concurrency = [], store } = valueOf("/limits");
  const limited = metric("portcullis_limited_total").filter(({ value }) => value > 0).sort((a, b) => b.value - a.value);
  const rows = concurrency.map((each) => {
    if (each.waiting > 0) return { ...each, level: "bad", word: "full, some wait" };
    if (each.underWay >= each.limit) return { ...each, level: "warn", word: "full" };
    return each.underWay >= each.limit * 0.8 ? { ...each, level: "warn", word: "nearly full" } : { ...each, level: "good", word: "well" };
  }).sort((a, b) => byLevel(a, b) || b.underWay / b.limit - a.underWay / a.limit || compare(a.name, b.name));
  const most = 200;
  return [
    h("p", { key: "all" }, Number.isFinite(requestsUnderWay) ? `${count(requestsUnderWay)} requests are under way.` : null),
    store ? h("div", { key: "store" }, h("p", null, mark(store.reachable ? "good" : "bad", store.reachable ? "The store of limits answers." : `The store of limits does not answer: ${store.why || "no reason known"}.`)),
      h("dl", { class: "facts" }, [["Replicas", store.replicas], ["Meters", store.meters], ["Leases", store.leases], ["Waits", store.waits], ["Failures", store.failures], ["Admitted without it", store.admittedLocally]]
        .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, count(value)))))) : null,
    rows.length ? table("concurrency", "Requests at once, what is fullest first", [{ title: "Of" }, { title: "State" }, { title: "Counted for" }, { title: "Used", class: "bars" }, { title: "Under way", num: true }, { title: "Waiting", num: true }, { title: "Limit", num: true }],
      rows.slice(0, most).map((each) => ({ key: `${each.of} ${each.name} ${each.by}`, level: each.level, cells: [[muted(each.of), " ", h("b", null, each.name)], mark(each.level, each.word), each.by || "all", [bar(each.underWay / each.limit), " ", h("span", { class: "num" }, share(each.underWay / each.limit))], count(each.underWay), count(each.waiting), count(each.limit)] })))
      : h("p", { key: "none", class: "empty" }, "No route or backend limits how many requests are under way at once: ", code("concurrency"), " in a policy does."),
    rows.length > most ? h("p", { key: "most", class: "aside" }, `The fullest ${most} of ${count(rows.length)}.`) : null,
    limited.length ? table("limited", "Requests that a limit refused since the start, or would have", [{ title: "Limit" }, { title: "Route" }, { title: "Mode" }, { title: "Requests", num: true }],
      limited.map(({ labels, value }) => ({ key: `${labels.route} ${labels.limit} ${labels.mode}`, cells: [h("b", null, labels.limit), labels.route, labels.mode === "reportOnly" ? "reports only" : "refuses", count(value)] })), { seen: true }) : null,
  ];
}

// ---------------------------------------------------------------------------------------------------- view: SAS, keys

function sightings() {
  return [heading("Keys in URLs"),
    h("p", { key: "what", class: "lead" }, "Who still calls with a SAS signature or a function key in the URL. The gateway lets none of them count; the agent is the caller's own word."),
    unless(METRICS, () => [seenTable(), strippedTable()], "its metrics")];
}

function seenTable() {
  const seen = metric("portcullis_sas_seen_total").filter(({ value }) => value > 0).sort((a, b) => b.value - a.value);
  if (!seen.length) {
    return h("p", { key: "none", class: "empty" }, mark("good", "No request has brought a key in its URL since the gateway started."), " Who has not called yet may still hold a link: ", code("portcullis sas-report decisions.jsonl"), " looks further back.");
  }
  const total = seen.reduce((sum, { value }) => sum + value, 0);
  const columns = ["Route", "App", "Agent", "Key", "Refused for it"].map((title, at) => ({ title, sort: (row) => row.labels[["route", "app", "agent", "key", "refused"][at]] }));
  const apps = { none: "nobody known", other: "a known app without a name" };
  return [
    h("p", { key: "total" }, h("b", null, count(total)), " sightings since the start. Which signatures they were, and whether a route is clean, says ", code("portcullis sas-report decisions.jsonl"), "."),
    table("sas", "Sightings of keys in URLs, most frequent first", [...columns, { title: "Sightings", num: true, sort: (row) => row.value }], seen.map((row) => {
      const { route, app, agent, key, refused } = row.labels;
      return { key: JSON.stringify(row.labels), of: row, cells: [route === "none" ? muted("no route") : h("b", null, route), apps[app] ? muted(apps[app]) : app, agent, code(key), refused === "true" ? mark("bad", "refused") : muted("not for that"), count(row.value)] };
    })),
  ];
}

function strippedTable() {
  const stripped = metric("portcullis_keys_stripped_total").filter(({ value }) => value > 0).sort((a, b) => b.value - a.value);
  if (!stripped.length) return null;
  return section("What was stripped", "stripped", table("stripped", "Keys and claimed identities that requests brought and that went no further", [{ title: "Name" }, { title: "Requests", num: true }],
    stripped.map(({ labels, value }) => ({ key: labels.key, cells: [code(labels.key), count(value)] }))));
}

// ------------------------------------------------------------------------------------------------------ view: policy

function policy() {
  return [heading("Policy"), unless("/policies", () => {
    const read = valueOf("/policies");
    return [
      section("In force", "in-force", inForce(read.inForce ?? {}, read.reloads ?? {})),
      section("Last refused reload", "last-refused", lastRefused(read.lastRefused)),
      section("Last change", "last-diff", lastDiff(read.lastDiff)),
      section("Candidate", "candidate", candidate(read.candidate)),
      section("What only reports", "reports", reports()),
    ];
  }, "the policy in force")];
}

function origin(whose, { digest, files = [], routes }, more = []) {
  const facts = [["Digest", code(digest ?? ABSENT)], ["Routes", count(routes)], ...more];
  return [
    h("dl", { key: "facts", class: "facts" }, facts.map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value)))),
    files.length ? h("details", { key: "files" }, h("summary", null, `${files.length} ${files.length === 1 ? "file" : "files"}`),
      table(`files of ${whose}`, `Files of ${whose}, and their SHA-256`, [{ title: "File" }, { title: "SHA-256", class: "wide" }], files.map(({ file, sha256 }) => ({ key: file, cells: [file, code(sha256)] })))) : null,
  ];
}

function inForce(policy, { taken = 0, refused = 0 }) {
  return origin("the policy in force", policy, [
    ["Since", policy.since ? `${moment(policy.since)} UTC, ${ago(policy.since)}` : ABSENT],
    ["Reloads", [`${count(taken)} taken, `, refused ? mark("warn", `${count(refused)} refused`) : "none refused"]],
  ]);
}

function candidate(read) {
  if (!read) return h("p", { class: "empty" }, "No candidate is watched. With ", code("candidate: ./policies-next"), " in gateway.yaml, another policy decides beside this one without acting, and its disagreements show here.");
  if (read.diagnostics) return [h("p", null, mark("bad", "The candidate is at fault and decides nothing.")), diagnostics(read.diagnostics, "candidate-faults", "What is wrong with the candidate")];
  const rows = metric("portcullis_candidate_disagreements_total").filter(({ value }) => value > 0).sort((a, b) => b.value - a.value);
  const undecided = single("portcullis_candidate_undecided_total");
  return [
    origin("the candidate", read),
    rows.length ? table("disagreements", "What the candidate would have decided otherwise", [{ title: "Route" }, { title: "App" }, { title: "Would be" }, { title: "Reason" }, { title: "Rule" }, { title: "Requests", num: true }],
      rows.map(({ labels, value }) => ({ key: JSON.stringify(labels), cells: [h("b", null, labels.route), labels.app, labels.decision === "deny" ? mark("bad", "refused") : mark("good", "let in"), code(labels.reason), labels.rule || muted(ABSENT), count(value)] })), { seen: true })
      : h("p", { class: "empty" }, "It has decided everything as the policy in force did."),
    undecided > 0 ? h("p", { class: "aside" }, `On ${count(undecided)} requests it could not decide without waiting for keys.`) : null,
  ];
}

function lastRefused(read) {
  if (!read) return h("p", { class: "empty" }, mark("good", "No reload has been refused since the gateway started."));
  return [h("p", null, mark("bad", `Refused ${ago(read.time)}`), `, at ${moment(read.time)} UTC. What was in force before stays so until the files are mended; they are watched.`), diagnostics(read.diagnostics, "refused-faults", "Why the reload was refused")];
}

function diagnostics(all, name, caption) {
  if (!Array.isArray(all)) return h("pre", { tabindex: "0" }, typeof all === "string" ? all : JSON.stringify(all, null, 2));
  const columns = [{ title: "Place" }, { title: "Severity" }, { title: "What", class: "wide" }, { title: "Help", class: "wide" }];
  return table(name, caption, columns, all.map((each, at) => ({
    key: String(at),
    cells: [each.file ? code(`${each.file}:${each.line}:${each.column}`) : muted("no place"), mark(each.severity === "error" ? "bad" : "warn", each.severity ?? "error"),
      [each.message, each.label ? h("span", { class: "under" }, each.label) : null], each.help?.length ? [each.help].flat().map((help) => h("div", null, help)) : muted(ABSENT)],
  })));
}

function lastDiff(read) {
  if (!read) return h("p", { class: "empty" }, "The policy has not changed since the gateway started. After a reload, who gained and who lost access shows here.");
  return [
    h("p", null, `${ago(read.time)}, from `, code(short(read.from)), " to ", code(short(read.to)), read.exact === false ? [" ", h("span", { class: "flag" }, "not exact")] : "", "."),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Who gained and who lost access" }, (read.text ?? "").trimEnd() || "Nobody gains or loses access."),
  ];
}

function reports() {
  const rows = metric("portcullis_report_only_total").filter(({ value }) => value > 0).sort((a, b) => b.value - a.value);
  if (!rows.length) return h("p", { class: "empty" }, "Nothing that only reports would have decided otherwise since the gateway started.");
  return table("report-only", "What would have been decided otherwise, had everything acted that only reports", [{ title: "Route" }, { title: "Would be" }, { title: "Reason" }, { title: "Rule" }, { title: "Requests", num: true }],
    rows.map(({ labels, value }) => ({ key: JSON.stringify(labels), cells: [h("b", null, labels.route), labels.decision === "deny" ? mark("bad", "refused") : mark("good", "let in"), code(labels.reason), labels.rule || muted(ABSENT), count(value)] })));
}

// ----------------------------------------------------------------------------------------------------- the whole page

const VIEWS = [
  { id: "overview", title: "Overview", show: overview, needs: () => [] },
  { id: "refused", title: "Refusals", show: refused, needs: () => [DENIALS, ...(state.id === null ? [] : [decisionPath(state.id)]), ...[...state.open].filter((key) => key.startsWith("reason ")).map((key) => byReason(key.slice(7)))] },
  { id: "live", title: "Live", show: live, needs: () => [] },
  { id: "access", title: "Access", show: access, needs: () => ["/access"] },
  { id: "health", title: "Health", show: health, needs: () => ["/keys", "/credentials", "/backends", "/limits"] },
  { id: "keys-in-urls", title: "Keys in URLs", show: sightings, needs: () => [] },
  { id: "policy", title: "Policy", show: policy, needs: () => ["/policies"] },
];

const short = (digest) => String(digest ?? "").replace(/^sha256:/, "").slice(0, 12);

function standing() {
  const source = sources.get(READY);
  const wrong = (source?.value ?? []).filter((check) => check.level !== "good");
  if (state.away !== null) return mark("bad", "Does not answer");
  if (source?.failure?.status === 401) return mark("warn", "Token wanted");
  if (source?.failure) return mark("warn", "Not known");
  if (source?.value === undefined) return mark("none", "Asking …");
  if (!source.ready) return mark("bad", "Not ready");
  return wrong.length ? mark("warn", `Ready, ${wrong.length} degraded`) : mark("good", "Ready");
}

function facts() {
  const version = metric("portcullis_build_info")[0]?.labels.version;
  const loaded = single("portcullis_policy_loaded_seconds");
  return [
    version ? h("span", { key: "version" }, `Version ${version}`) : null,
    digest() === undefined ? null : h("span", { key: "policy" }, h("a", { href: "#policy" }, "Policy ", code(short(digest()))), Number.isFinite(loaded) ? ` for ${span(Date.now() / 1000 - loaded)}` : ""),
  ].filter(Boolean);
}

function notes() {
  const notes = [];
  if (state.away !== null) {
    const last = Math.max(0, ...[...sources.values()].map((source) => source.at ?? 0));
    notes.push(h("div", { key: "away", class: "note bad", role: "alert" },
      h("p", { class: "strong" }, mark("bad", `The gateway has not answered since ${moment(state.away)} UTC.`)),
      h("p", null, last ? `What is shown is ${span((Date.now() - last) / 1000)} old. ` : "", "It is asked again every few seconds. See whether the process runs, whether its standard error says why it ended, and whether this address still leads to ", code("admin.address"), ".")));
  }
  if (state.forbidden) {
    notes.push(h("div", { key: "forbidden", class: "note bad", role: "alert" },
      h("p", { class: "strong" }, mark("bad", "The gateway does not show this here.")), h("p", null, state.forbidden),
      h("p", null, "Write that into gateway.yaml and start the gateway again; README.md, “gateway.yaml”, has the keys under ", code("admin"), ".")));
  }
  if (state.tokenWanted) notes.push(tokenForm());
  return notes;
}

function tokenForm() {
  const enter = (event) => {
    event.preventDefault();
    state.token = new FormData(event.target).get("token").trim() || null;
    for (const source of sources.values()) source.failure = null;
    poll();
    if (state.view === "live") follow();
    show();
  };
  const wasTried = state.token !== null && sources.get(METRICS)?.failure?.status === 401;
  return h("form", { key: "token", class: "note warn", onsubmit: enter, "aria-labelledby": "token-title" },
    h("h2", { id: "token-title" }, "This address wants a bearer token"),
    h("p", { id: "token-help" }, "The one that ", code("admin.bearer"), " in gateway.yaml names. This page keeps it in memory only, sends it to this address only, and forgets it when it is closed or loaded again."),
    h("div", { class: "row" }, field("token", "Bearer token", h("input", { id: "token", name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false", size: "38", "aria-describedby": wasTried ? "token-help token-wrong" : "token-help" })),
      h("button", { type: "submit", class: "main" }, "Use it")),
    h("p", { class: "aside" }, `The gateway says: ${state.tokenWanted}`),
    wasTried ? h("p", { id: "token-wrong", role: "alert" }, mark("bad", "The gateway did not take this token.")) : null);
}

let isShown = true;

/** Shows what is known, once for all that has changed just now. */
function show() {
  if (!isShown) return;
  isShown = false;
  queueMicrotask(() => {
    isShown = true;
    paint();
  });
}

let lastShown = -Infinity;
let soon = null;

/** Shows it, five times a second at most. */
function showSoon() {
  if (soon !== null) return;
  const wait = Math.max(0, lastShown + 200 - performance.now());
  const now = () => {
    [soon, lastShown] = [null, performance.now()];
    show();
  };
  if (wait === 0) now();
  else soon = setTimeout(now, wait);
}

function paint() {
  const view = VIEWS.find((view) => view.id === state.view);
  const focus = document.activeElement;
  const on = (id, kids) => patch(document.getElementById(id), [kids].flat(Infinity).filter(Boolean));
  on("state", standing());
  on("facts", facts());
  on("nav", VIEWS.map(({ id, title }) => h("li", { key: id }, h("a", { href: `#${id}`, "aria-current": id === view.id ? "page" : null }, title))));
  on("notes", notes());
  on("view", h("div", { key: view.id }, view.show()));
  on("drawer", drawer());
  document.body.classList.toggle("stale", state.away !== null);
  document.title = `${view.title} – Portcullis`;
  if (focus !== document.activeElement && focus?.isConnected) focus.focus({ preventScroll: true });
}

// ----------------------------------------------------------------------------------------------------- running it all

let timer = null;

/** Asks for what the view needs, now and again. */
function poll() {
  clearTimeout(timer);
  timer = setTimeout(poll, document.hidden ? POLL_HIDDEN : POLL);
  const paths = needed();
  for (const path of sources.keys()) if (path.startsWith("/decisions") && path !== DENIALS && !paths.has(path)) sources.delete(path);
  for (const path of paths) load(path);
}

/** Goes where the address says. */
function turn() {
  const [view, id] = location.hash.slice(1).split("/");
  const known = VIEWS.some((each) => each.id === view);
  const before = state.view;
  state.view = known ? view : "overview";
  state.id = state.view === "refused" && id ? safely(id) : null;
  const drawer = document.getElementById("drawer");
  if (drawer.open) drawer.close();
  if (state.view !== "live") following?.abort();
  else if (before !== "live" || !following || following.signal.aborted) follow();
  poll();
  paint();
  // Where the views do not fit beside one another, the one that is open is seen.
  const nav = document.getElementById("nav");
  nav.scrollLeft = nav.querySelector("[aria-current]").offsetLeft - nav.offsetLeft - 40;
}

function safely(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

function theme() {
  const select = document.getElementById("theme");
  const apply = (value) => {
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
  };
  // Only how it looks is ever written to the browser's storage, which may be switched off.
  try {
    select.value = localStorage.getItem("theme") ?? "";
  } catch {
    select.value = "";
  }
  apply(select.value);
  select.onchange = () => {
    apply(select.value);
    try {
      localStorage.setItem("theme", select.value);
    } catch {
      // It holds for this page, then.
    }
  };
}

function start() {
  theme();
  document.getElementById("skip").onclick = (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  };
  document.getElementById("drawer").onclose = () => {
    state.drawer = null;
    show();
  };
  addEventListener("hashchange", () => {
    turn();
    scrollTo(0, 0);
    if (state.id === null) document.getElementById("title")?.focus();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) poll();
  });
  turn();
}

if (typeof document !== "undefined") start();
