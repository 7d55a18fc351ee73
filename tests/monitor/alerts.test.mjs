import assert from "node:assert/strict";
import test from "node:test";
import Ajv from "ajv";
import { written } from "./generate.mjs";
import { all, parse } from "./make/kql.mjs";
import { deploy } from "./arm.mjs";
import { columns, faults, tables } from "./kusto.mjs";
import { unknown } from "./names.mjs";

const template = JSON.parse(written("alerts.template.json"));
const component = "/subscriptions/s/resourceGroups/g/providers/microsoft.insights/components/c";
const rules = (given) => deploy(template, { component, ...given }).filter(({ type }) => type === "Microsoft.Insights/scheduledQueryRules");

// The rule as Microsoft's schema of 2021-08-01 has it, without what is not used here: an unknown key is an error.
const text = { type: "string", minLength: 1 };
const strict = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required, additionalProperties: false });
const valid = new Ajv({ allErrors: true }).compile(
  strict({
    type: { const: "Microsoft.Insights/scheduledQueryRules" },
    apiVersion: { const: "2021-08-01" },
    name: { type: "string", pattern: "^[^*<>%{}&:\\\\?/#]{1,260}$" },
    location: text,
    kind: { const: "LogAlert" },
    dependsOn: { type: "array", items: text },
    properties: strict({
      displayName: text,
      description: text,
      severity: { type: "integer", minimum: 0, maximum: 4 },
      enabled: { type: "boolean" },
      scopes: { type: "array", items: text, minItems: 1, maxItems: 1 },
      evaluationFrequency: { enum: ["PT1M", "PT5M", "PT10M", "PT15M", "PT30M", "PT1H", "P1D"] },
      windowSize: { enum: ["PT5M", "PT10M", "PT15M", "PT30M", "PT1H", "PT6H", "P1D"] },
      criteria: strict({
        allOf: {
          type: "array",
          minItems: 1,
          maxItems: 1,
          items: strict({
            query: text,
            metricMeasureColumn: text,
            timeAggregation: { enum: ["Average", "Minimum", "Maximum", "Total"] },
            operator: { enum: ["Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual"] },
            threshold: { type: "number" },
            dimensions: {
              type: "array",
              items: strict({ name: text, operator: { enum: ["Include", "Exclude"] }, values: { type: "array", items: text, minItems: 1 } }),
            },
            failingPeriods: strict({ numberOfEvaluationPeriods: { type: "integer" }, minFailingPeriodsToAlert: { type: "integer" } }),
          }),
        },
      }),
      autoMitigate: { type: "boolean" },
      actions: strict({ actionGroups: { type: "array", items: text } }),
    }),
  }),
);

test("every rule fits the schema of scheduled query rules", () => {
  assert.equal(rules().length, Object.keys(all("alerts")).length);
  for (const rule of rules()) assert.ok(valid(rule), `${rule.name}: ${JSON.stringify(valid.errors)}`);
});

test("every rule asks one of the queries, soundly, and compares a number that it answers with", () => {
  for (const rule of rules({ prefix: "p" })) {
    const own = all("alerts")[rule.name.slice("p-".length)];
    const [{ query, metricMeasureColumn, dimensions }] = rule.properties.criteria.allOf;
    assert.ok(query.endsWith(parse(own).body), rule.name);
    assert.deepEqual(faults(query), [], rule.name);
    assert.deepEqual(unknown(query, tables(query)), [], rule.name);
    const answer = columns(query);
    assert.match(answer[metricMeasureColumn], /^(real|long|int)$/, rule.name);
    for (const { name } of dimensions) assert.equal(answer[name], "string", `${rule.name}: ${name}`);
    const apart = Object.keys(answer).filter((column) => answer[column] === "string");
    assert.deepEqual(dimensions.map(({ name }) => name), apart, `${rule.name} is split by all that its query is`);
  }
});

test("with its parameters as they are by default, a rule asks what its file asks", () => {
  for (const rule of rules({ prefix: "p" })) {
    assert.equal(rule.properties.criteria.allOf[0].query, all("alerts")[rule.name.slice("p-".length)]);
  }
});

test("every parameter of the alerts changes something", () => {
  const others = {
    location: "northeurope", prefix: "other", role: "edge", email: "a@contoso.com", actionGroups: ["/g"], enabled: false, denialsLeast: 7, denialsFactor: 9,
    credentialSeconds: 60, keysSeconds: 60, replicas: 3, latencyMilliseconds: 10, latencyLeast: 5, sasEnd: "2027-03-31",
  };
  assert.deepEqual(["component", ...Object.keys(others)].sort(), Object.keys(template.parameters).sort());
  const plain = JSON.stringify(deploy(template, { component }));
  for (const [name, value] of Object.entries(others)) {
    const made = deploy(template, { component, [name]: value });
    assert.notEqual(JSON.stringify(made), plain, name);
    for (const rule of made.filter(({ type }) => type.endsWith("scheduledQueryRules"))) {
      assert.ok(valid(rule), `${name}: ${JSON.stringify(valid.errors)}`);
      assert.deepEqual(faults(rule.properties.criteria.allOf[0].query), [], name);
    }
  }
});

test("an action group is made for an address, and every rule calls it and those given", () => {
  const made = deploy(template, { component, email: "a@contoso.com", actionGroups: ["/given"] });
  const [group] = made.filter(({ type }) => type === "Microsoft.Insights/actionGroups");
  assert.equal(group.properties.emailReceivers[0].emailAddress, "a@contoso.com");
  assert.ok(group.properties.groupShortName.length <= 12);
  const own = `/subscriptions/s/resourceGroups/g/providers/Microsoft.Insights/actionGroups/${group.name}`;
  for (const rule of made.filter((one) => one !== group)) assert.deepEqual(rule.properties.actions.actionGroups, ["/given", own]);
  for (const rule of rules()) assert.deepEqual(rule.properties.actions.actionGroups, []);
  assert.equal(rules().length, deploy(template, { component }).length);
});

test("a template is not deployed with a parameter missing, unknown or of another type, or with a function or name that is not there", () => {
  const small = (value) => ({ parameters: { a: { type: "int" } }, variables: {}, resources: [{ value }] });
  assert.deepEqual(deploy(small("[concat('it''s ', string(parameters('a')))]"), { a: 1 }), [{ value: "it's 1" }]);
  assert.throws(() => deploy(small("x"), {}), /parameter a is missing/);
  assert.throws(() => deploy(small("x"), { a: 1, b: 1 }), /no parameter b/);
  assert.throws(() => deploy(small("x"), { a: "1" }), /a is no int/);
  assert.throws(() => deploy(small("[parameters('b')]"), { a: 1 }), /there is no b/);
  assert.throws(() => deploy(small("[concat('a', parameters('a'))]"), { a: 1 }), /no text: 1/);
  assert.throws(() => deploy(small("[conct('a')]"), { a: 1 }), /no function conct/);
  assert.throws(() => deploy(small("[concat('a')"), { a: 1 }), /not understood|expected/);
});
