import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { parse, stringify } from "yaml";
import { written } from "./generate.mjs";
import { shipped } from "./make/kql.mjs";
import { read, unknown } from "./promql.mjs";

const rules = parse(written("prometheus-rules.yaml")).groups.flatMap((group) => group.rules);
const recorded = new Map(rules.filter((rule) => rule.record).map(({ record, expr }) => [record, [...read(expr).labels]]));
const alerts = rules.filter((rule) => rule.alert);

function promtool(...given) {
  const { status, stdout, stderr, error } = spawnSync("promtool", given, { cwd: import.meta.dirname, encoding: "utf8" });
  assert.ifError(error);
  return { status, said: stdout + stderr };
}

function inFolder(task) {
  const folder = mkdtempSync(join(tmpdir(), "portcullis-"));
  try {
    return task(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("Prometheus takes the rules", () => {
  const { status, said } = promtool("check", "rules", "--lint-fatal", join(shipped, "prometheus-rules.yaml"));
  assert.equal(status, 0, said);
  assert.match(said, new RegExp(`SUCCESS: ${rules.length} rules found`));
});

test("each alert fires on the series that it is for, and on no others", () => {
  const { status, said } = promtool("test", "rules", "rules.test.yaml");
  assert.equal(status, 0, said);
});

test("the alert on SAS fires after its day", () => {
  inFolder((folder) => {
    const past = written("prometheus-rules.yaml").replace("> 4070908800", "> 0");
    assert.notEqual(past, written("prometheus-rules.yaml"));
    writeFileSync(join(folder, "rules.yaml"), past);
    copyFileSync(join(import.meta.dirname, "sas.test.yaml"), join(folder, "sas.test.yaml"));
    const { status, said } = promtool("test", "rules", join(folder, "sas.test.yaml"));
    assert.equal(status, 0, said);
  });
});

test("every alert has a test in which it fires", () => {
  const fires = ["rules.test.yaml", "sas.test.yaml"]
    .flatMap((file) => parse(written(join("../../tests/monitor", file))).tests)
    .flatMap((one) => one.alert_rule_test ?? [])
    .filter((one) => one.exp_alerts.length)
    .map((one) => one.alertname);
  assert.deepEqual([...new Set(fires)].sort(), alerts.map(({ alert }) => alert).sort());
});

test("rules read what the gateway tells, and labels that it has", () => {
  for (const { record, alert, expr } of rules) assert.deepEqual(unknown(expr, recorded), [], record ?? alert);
});

test("every alert says how grave it is and what it means, with labels that it has", () => {
  for (const { alert, expr, labels, annotations } of alerts) {
    assert.match(labels.severity, /^(critical|warning|info)$/, alert);
    assert.ok(annotations.summary, alert);
    const { metrics, labels: own } = read(expr);
    const there = new Set([...own, ...[...metrics].flatMap((metric) => recorded.get(metric) ?? [])]);
    for (const [, label] of JSON.stringify(annotations).matchAll(/\$labels\.(\w+)/g)) assert.ok(there.has(label), `${alert}: ${label}`);
  }
});

test("Prometheus takes every expression of the dashboard", () => {
  const found = dashboardExpressions();
  assert.ok(found.length > 40, `${found.length} expressions`);
  inFolder((folder) => {
    const file = join(folder, "dashboard.yaml");
    writeFileSync(file, stringify({ groups: [{ name: "dashboard", rules: found.map((expr, at) => ({ record: `expression_${at}`, expr })) }] }));
    const { status, said } = promtool("check", "rules", file);
    assert.equal(status, 0, said);
  });
});

test("the dashboard reads what the gateway tells, and labels that it has", () => {
  for (const expression of dashboardExpressions()) assert.deepEqual(unknown(expression), [], expression);
});

test("the check of expressions finds misspelt metrics, labels and syntax", () => {
  assert.deepEqual(unknown('sum by (route) (rate(portcullis_decisions_total{decision="deny"}[5m]))'), []);
  assert.deepEqual(unknown("portcullis_decisions"), ["metric portcullis_decisions"]);
  assert.deepEqual(unknown("sum by (app) (portcullis_decisions_total)"), ["label app"]);
  assert.deepEqual(unknown('http_server_request_duration_seconds_count{le="1"}'), ["label le"]);
  assert.throws(() => unknown("sum by (route (portcullis_decisions_total)"), /no PromQL/);
});

// All expressions of the dashboard, with values for its variables.
function dashboardExpressions() {
  const board = JSON.parse(written("grafana.json"));
  const given = { $__rate_interval: "5m", $__interval: "1m", $__range: "6h", $job: "j", $instance: "i", $route: "r" };
  const expressions = [
    ...board.panels.flatMap((panel) => panel.targets ?? []).map(({ expr }) => expr),
    ...board.annotations.list.map(({ expr }) => expr),
    ...board.templating.list.filter(({ type }) => type === "query").map(({ query }) => /^label_values\((.*), (\w+)\)$/.exec(query.query)).map(([, metric, label]) => `sum by (${label}) (${metric})`),
  ];
  return expressions.map((expr) => expr.replace(/\$\w+/g, (name) => given[name] ?? assert.fail(`the dashboard has no ${name}`)));
}
