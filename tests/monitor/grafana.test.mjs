import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import test from "node:test";
import { defaultDashboard } from "@grafana/schema";
import ts from "typescript";
import { written } from "./generate.mjs";

const board = JSON.parse(written("grafana.json"));
const rows = board.panels.filter(({ type }) => type === "row");
const panels = board.panels.filter(({ type }) => type !== "row");

// Where Grafana keeps the types of each kind of panel.
const schema = join(createRequire(import.meta.url).resolve("@grafana/schema"), "../../types");
const TYPES = {
  timeseries: `${schema}/raw/composable/timeseries/panelcfg/x/types.gen`,
  stat: `${schema}/raw/composable/stat/panelcfg/x/types.gen`,
  table: `${schema}/raw/composable/table/panelcfg/x/types.gen`,
};

test("the dashboard fits Grafana's own types: dashboard, panels, their options and field options", () => {
  assert.deepEqual(typeFaults(board), []);
});

test("Grafana's types find a misspelt key and a value of another kind", () => {
  const broken = (change) => {
    const copy = structuredClone(board);
    change(copy, copy.panels.find(({ type }) => type === "timeseries"));
    return typeFaults(copy).join("\n");
  };
  assert.match(broken((copy) => (copy.schemaversion = 42)), /schemaversion/);
  assert.match(broken((_, panel) => (panel.gridPos.x = "0")), /'string' is not assignable to type 'number'/);
  assert.match(broken((_, panel) => (panel.options.tooltip.mode = "all")), /"all"/);
  assert.match(broken((_, panel) => (panel.fieldConfig.defaults.custom.linewidth = 1)), /linewidth/);
});

test("the dashboard is of Grafana's current schema", () => {
  assert.equal(board.schemaVersion, defaultDashboard.schemaVersion);
});

test("the rows are those that people look for", () => {
  assert.deepEqual(
    rows.map(({ title }) => title),
    ["Traffic", "Latency", "Denials", "SAS", "Keys & credentials", "Backends", "Limits", "Reloads", "Process"],
  );
});

test("every panel has the data source that is chosen, a unit, and queries with IDs of their own", () => {
  const [chosen] = board.templating.list.filter(({ type }) => type === "datasource");
  assert.equal(chosen.query, "prometheus");
  for (const panel of panels) {
    for (const { datasource } of [panel, ...panel.targets]) assert.deepEqual(datasource, { type: "prometheus", uid: `\${${chosen.name}}` }, panel.title);
    assert.ok(UNITS.has(panel.fieldConfig.defaults.unit), panel.title);
    for (const target of panel.targets) assert.deepEqual(Object.keys(target).filter((key) => !QUERY.has(key)), [], panel.title);
    const ids = panel.targets.map(({ refId }) => refId);
    assert.deepEqual(ids, [...new Set(ids)], panel.title);
    assert.ok(ids.length > 0, panel.title);
  }
  for (const list of [board.panels.map(({ id }) => id), board.panels.map(({ title }) => title)]) assert.deepEqual(list, [...new Set(list)]);
});

test("a panel that shows times has seconds, and rates have a unit per second", () => {
  for (const { title, fieldConfig, targets } of panels) {
    const { unit } = fieldConfig.defaults;
    for (const { expr } of targets) {
      const divides = expr.includes(" / ");
      if (/histogram_quantile|_seconds\{/.test(expr) && !/rate\(/.test(expr.replace(/histogram_quantile.*/, ""))) assert.equal(unit, "s", title);
      if (/^sum[^/]*\(rate\(/.test(expr) && !divides && !expr.includes("_cpu_")) assert.match(unit, /^(reqps|ops)$/, title);
      if (/_bytes\{/.test(expr)) assert.equal(unit, "bytes", title);
    }
  }
});

test("no panel lies over another, and each lies within the grid", () => {
  for (const [at, { title, gridPos: a }] of board.panels.entries()) {
    assert.ok(a.x >= 0 && a.w > 0 && a.h > 0 && a.x + a.w <= 24, title);
    for (const { title: other, gridPos: b } of board.panels.slice(at + 1)) {
      const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      assert.ok(apart, `${title} lies over ${other}`);
    }
  }
});

test("every variable is used, and there is one for everything that is used", () => {
  const there = board.templating.list.map(({ name }) => name);
  const used = new Set([...written("grafana.json").matchAll(/\$\{?([a-z]\w*)\}?/g)].map(([, name]) => name));
  assert.deepEqual([...used].sort(), there.sort());
});

// Keys of a query to Prometheus that are used here.
const QUERY = new Set(["refId", "datasource", "expr", "legendFormat", "format", "range", "instant"]);

// Units of Grafana's that are used here.
const UNITS = new Set(["none", "short", "reqps", "ops", "s", "bytes", "percentunit", "bool_yes_no"]);

// What TypeScript says of the dashboard as a literal of Grafana's types.
function typeFaults(dashboard) {
  const literal = (value) => JSON.stringify(value, null, 1);
  // The data source adds keys of its own to annotations, and Grafana's types leave queries open.
  const list = dashboard.annotations.list.map(({ expr, titleFormat, ...rest }) => rest);
  const lines = [
    `import type { Dashboard } from "${schema}/raw/dashboard/x/types.gen";`,
    ...Object.entries(TYPES).map(([kind, file]) => `import type * as ${kind} from "${file}";`),
    "type Loose<T> = T extends string ? `${T}` : T extends (infer U)[] ? Loose<U>[] : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;",
    `const dashboard: Loose<Dashboard> = ${literal({ ...dashboard, annotations: { list } })};`,
  ];
  for (const { id, type, options, fieldConfig } of dashboard.panels) {
    if (!(type in TYPES)) continue;
    lines.push(`const options${id}: Loose<${type}.Options> = ${literal(options)};`);
    if (fieldConfig.defaults.custom) lines.push(`const fields${id}: Loose<Partial<${type}.FieldConfig>> = ${literal(fieldConfig.defaults.custom)};`);
  }
  const file = join(import.meta.dirname, "dashboard.check.ts");
  const source = lines.join("\n");
  const settings = { noEmit: true, strict: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, types: [] };
  const host = ts.createCompilerHost(settings);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.getSourceFile = (name, ...more) => (name === file ? ts.createSourceFile(name, source, settings.target) : (parsed.get(name) ?? keep(name, getSourceFile(name, ...more))));
  const program = ts.createProgram([file], settings, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

// Files that were read once, for there are many and each check reads them all.
const parsed = new Map();

function keep(name, file) {
  if (file) parsed.set(name, file);
  return file;
}
