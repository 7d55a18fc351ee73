import assert from "node:assert/strict";
import test from "node:test";
import Ajv from "ajv";
import { parse } from "yaml";
import { written } from "./generate.mjs";
import { names } from "./names.mjs";

const FILES = ["otel-collector.yaml", "otel-collector-native.yaml"];

// The keys of each component that is used here, as its own schema or README has them: an unknown key is an error.
const strict = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required, additionalProperties: false });
const duration = { type: "string", pattern: "^\\d+(ms|s|m|h)$" };
const count = { type: "integer", minimum: 1 };
const address = { type: "string", pattern: "^localhost:\\d+$" };
const fromEnvironment = { type: "string", pattern: "^\\$\\{env:[A-Z_]+\\}$" };
const yes = { const: true };
const queue = strict({ enabled: yes, num_consumers: count, queue_size: count });
const statements = {
  type: "array",
  items: strict({ context: { enum: ["log", "span"] }, statements: { type: "array", items: { type: "string", pattern: '^set\\(attributes\\["[^"]+"\\], .+\\) where attributes\\["[^"]+"\\] != nil$' } } }),
};
const COMPONENTS = {
  receivers: { otlp: strict({ protocols: strict({ grpc: strict({ endpoint: address }), http: strict({ endpoint: address }) }) }) },
  processors: {
    memory_limiter: strict({ check_interval: duration, limit_percentage: count, spike_limit_percentage: count }),
    batch: strict({ timeout: duration, send_batch_size: count, send_batch_max_size: count }),
    cumulativetodelta: strict({}),
    transform: strict({ error_mode: { enum: ["ignore", "silent", "propagate"] }, log_statements: statements, trace_statements: statements }, ["error_mode"]),
  },
  extensions: {
    health_check: strict({ endpoint: address }),
    azure_auth: strict({ managed_identity: strict({ client_id: fromEnvironment }), scopes: { const: ["https://monitor.azure.com/.default"] } }),
  },
  exporters: {
    azuremonitor: strict({
      connection_string: fromEnvironment,
      maxbatchsize: count,
      maxbatchinterval: duration,
      spaneventsenabled: { type: "boolean" },
      custom_events_enabled: yes,
      shutdown_timeout: duration,
      sending_queue: queue,
    }),
    otlphttp: strict({
      traces_endpoint: fromEnvironment,
      logs_endpoint: fromEnvironment,
      metrics_endpoint: fromEnvironment,
      compression: { enum: ["gzip", "none"] },
      auth: strict({ authenticator: { type: "string" } }),
      sending_queue: queue,
      retry_on_failure: strict({ enabled: yes, initial_interval: duration, max_interval: duration, max_elapsed_time: duration }),
    }),
  },
};
const ajv = new Ajv({ allErrors: true });

// What a collector would not start with, or would not do as it should.
function faults(config) {
  const found = [];
  const { service, ...sections } = config;
  for (const [section, components] of Object.entries(sections)) {
    for (const [id, settings] of Object.entries(components)) {
      const schema = COMPONENTS[section]?.[id.split("/")[0]];
      if (!schema) found.push(`${section}: there is no ${id}`);
      else if (!ajv.validate(schema, settings)) found.push(`${id}: ${ajv.errorsText()}`);
    }
  }
  const used = { receivers: new Set(), processors: new Set(), exporters: new Set(), extensions: new Set(service.extensions) };
  for (const [signal, pipeline] of Object.entries(service.pipelines)) {
    for (const [section, ids] of Object.entries(pipeline)) ids.forEach((id) => used[section].add(id));
    const { processors } = pipeline;
    if (processors[0] !== "memory_limiter") found.push(`${signal}: memory_limiter is not first`);
    if (processors.at(-1) !== "batch") found.push(`${signal}: batch is not last`);
    if ((signal === "metrics") !== processors.includes("cumulativetodelta")) found.push(`${signal}: cumulativetodelta`);
  }
  if (`${Object.keys(service.pipelines).sort()}` !== "logs,metrics,traces") found.push("a signal is missing");
  for (const [section, ids] of Object.entries(used)) {
    const there = Object.keys(sections[section] ?? {});
    for (const id of ids) if (!there.includes(id)) found.push(`${section}: ${id} is used and not there`);
    for (const id of there) if (!ids.has(id)) found.push(`${section}: ${id} is there and not used`);
  }
  for (const { auth } of Object.values(sections.exporters)) if (auth && !used.extensions.has(auth.authenticator)) found.push(`there is no authenticator ${auth.authenticator}`);
  return found;
}

for (const file of FILES) {
  test(`${file} has only components, keys and values that a collector knows, and uses all of them`, () => {
    assert.deepEqual(faults(parse(written(file))), []);
  });
}

test("the collector changes only attributes that the gateway sends, and marks decisions as queries ask for them", () => {
  const { processors } = parse(written(FILES[0]));
  const all = JSON.stringify(processors).replaceAll('\\"', '"');
  const named = [...all.matchAll(/attributes\["([^"]+)"\]/g)].map(([, name]) => name).filter((name) => name !== "microsoft.custom_event.name");
  assert.ok(named.length > 0);
  for (const name of named) assert.ok(names.attributes.includes(name), name);
  assert.ok(all.includes(`set(attributes["microsoft.custom_event.name"], "${names.customEvents[0]}")`));
});

test("the check of a collector's settings finds misspelt keys, lost parts and a wrong order", () => {
  const broken = (change) => {
    const config = parse(written(FILES[1]));
    change(config);
    return faults(config).join("\n");
  };
  assert.match(broken(({ exporters }) => (exporters["otlphttp/azure"].trace_endpoint = "${env:A}")), /additional properties/);
  assert.match(broken(({ exporters }) => (exporters.azuremonitr = {})), /no azuremonitr/);
  assert.match(broken(({ extensions }) => delete extensions.azure_auth), /azure_auth is used and not there/);
  assert.match(broken(({ service }) => (service.extensions = ["health_check"])), /azure_auth is there and not used\nthere is no authenticator/);
  assert.match(broken(({ service }) => service.pipelines.logs.processors.reverse()), /memory_limiter is not first\nlogs: batch is not last/);
  assert.match(broken(({ service }) => (service.pipelines.metrics.processors = ["memory_limiter", "batch"])), /metrics: cumulativetodelta/);
  assert.match(broken(({ service }) => delete service.pipelines.traces), /a signal is missing/);
});
