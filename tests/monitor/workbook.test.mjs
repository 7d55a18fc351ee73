import assert from "node:assert/strict";
import test from "node:test";
import Ajv from "ajv";
import { generated, written } from "./generate.mjs";
import { all, parse } from "./make/kql.mjs";
import { SCHEMA } from "./make/workbook.mjs";
import { deploy } from "./arm.mjs";
import { faults, tables } from "./kusto.mjs";
import { unknown } from "./names.mjs";

const workbook = JSON.parse(written("workbook.json"));
const component = "/subscriptions/s/resourceGroups/g/providers/microsoft.insights/components/c";

// What a workbook puts in the place of its parameters.
const CHOSEN = {
  "TimeRange:startISO": "2026-01-01T00:00:00.000Z",
  "TimeRange:endISO": "2026-01-02T00:00:00.000Z",
  "TimeRange:grain": "5m",
};

// Microsoft's schema of workbooks, as far as what is used here goes, and without its leniency: an unknown key is an error.
const text = { type: "string", minLength: 1 };
const strict = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required, additionalProperties: false });
const visibility = strict({ parameterName: text, comparison: { enum: ["isEqualTo", "isNotEqualTo"] }, value: text });
const step = (type, content) => strict({ type: { const: type }, content, name: text, customWidth: { pattern: "^\\d+$" }, conditionalVisibility: visibility }, ["type", "content", "name"]);
const resources = { type: "array", items: text, minItems: 1 };
const parameter = strict(
  {
    id: { type: "string", pattern: "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" },
    version: { const: "KqlParameterItem/1.0" },
    name: { type: "string", pattern: "^[A-Z]\\w*$" },
    label: text,
    type: { enum: [1, 2, 4, 5] },
    isRequired: { type: "boolean" },
    value: {},
    query: text,
    crossComponentResources: resources,
    typeSettings: { type: "object" },
    timeContextFromParameter: text,
    queryType: { enum: [0, 1] },
    resourceType: text,
  },
  ["id", "version", "name", "type", "value"],
);
const valid = new Ajv({ strict: false, allErrors: true }).compile(
  strict({
    version: { const: "Notebook/1.0" },
    $schema: { const: SCHEMA },
    fallbackResourceIds: { type: "array" },
    items: {
      type: "array",
      items: {
        oneOf: [
          step(1, strict({ json: text })),
          step(3, strict(
            {
              version: { const: "KqlItem/1.0" },
              query: text,
              size: { enum: [0, 1, 2, 3, 4] },
              showAnalytics: { type: "boolean" },
              title: text,
              noDataMessage: text,
              timeContextFromParameter: text,
              showExportToExcel: { type: "boolean" },
              queryType: { const: 0 },
              resourceType: { const: "microsoft.insights/components" },
              crossComponentResources: resources,
              visualization: { enum: ["table", "areachart", "linechart"] },
              gridSettings: strict({ rowLimit: { type: "integer" }, filter: { type: "boolean" } }),
            },
            ["version", "query", "size", "title", "timeContextFromParameter", "queryType", "resourceType", "crossComponentResources", "visualization"],
          )),
          step(9, strict({
            version: { const: "KqlParameterItem/1.0" },
            crossComponentResources: resources,
            parameters: { type: "array", items: parameter, minItems: 1 },
            style: { enum: ["pills", "above"] },
            queryType: { const: 0 },
            resourceType: text,
          })),
          step(11, strict({
            version: { const: "LinkItem/1.0" },
            style: { const: "tabs" },
            links: {
              type: "array",
              minItems: 1,
              items: strict({ id: text, cellValue: text, linkTarget: { const: "parameter" }, linkLabel: text, subTarget: text, style: { const: "link" } }),
            },
          })),
        ],
      },
    },
  }),
);

const steps = (type) => workbook.items.filter((item) => item.type === type);
const parameters = steps(9).flatMap(({ content, conditionalVisibility }) => content.parameters.map((one) => ({ ...one, tab: conditionalVisibility?.value })));
const queries = [
  ...steps(3).map((item) => ({ name: item.name, query: item.content.query, tab: item.conditionalVisibility?.value })),
  ...parameters.filter(({ queryType }) => queryType === 0).map(({ name, query }) => ({ name: `parameter ${name}`, query })),
];

test("what is shipped is what the queries make", () => {
  for (const [name, made] of Object.entries(generated())) assert.equal(written(name), made, `${name}: run npm run generate`);
});

test("the workbook fits the schema of workbooks", () => {
  assert.ok(valid(workbook), JSON.stringify(valid.errors?.slice(0, 5), null, 1));
});

test("every step, parameter and tab of the workbook has a name of its own", () => {
  for (const list of [workbook.items.map(({ name }) => name), parameters.map(({ name }) => name), parameters.map(({ id }) => id)]) {
    assert.deepEqual(list, [...new Set(list)]);
  }
});

test("every tab shows something, and whatever is shown on a tab is on one that there is", () => {
  const [{ content }] = steps(11);
  const tabs = content.links.map(({ subTarget }) => subTarget);
  assert.deepEqual(tabs, ["overview", "denials", "callers", "sas", "health"]);
  const shown = workbook.items.filter((item) => item.conditionalVisibility);
  for (const { conditionalVisibility } of shown) assert.equal(conditionalVisibility.parameterName, content.links[0].cellValue);
  assert.deepEqual([...new Set(shown.map((item) => item.conditionalVisibility.value))], tabs);
});

test("every parameter that a query of the workbook names is there, where it is shown", () => {
  const named = (value) => [...JSON.stringify(value).matchAll(/\{(\w+)(?::\w+)?\}/g)].map(([, name]) => name);
  for (const item of workbook.items.filter(({ type }) => type !== 1)) {
    const tab = item.conditionalVisibility?.value;
    const there = parameters.filter((one) => one.tab === undefined || one.tab === tab).map(({ name }) => name);
    for (const name of [...named(item.content), ...(item.content.timeContextFromParameter ? [item.content.timeContextFromParameter] : [])]) {
      assert.ok(there.includes(name), `${item.name} asks for {${name}}`);
    }
  }
});

test("every query of the workbook is the text of one of the queries, and is sound", () => {
  const shipped = all("queries");
  assert.equal(queries.length, Object.keys(shipped).length);
  for (const { name, query } of queries) {
    const own = shipped[name === "parameter Route" ? "routes" : name];
    assert.ok(query.endsWith(parse(own).body), `${name} is not the text of its file`);
    const asked = query.replace(/\{([\w:]+)\}/g, (_, key) => CHOSEN[key] ?? parameters.find((one) => one.name === key).value);
    assert.doesNotMatch(asked, /undefined|\[object/);
    assert.deepEqual(faults(asked), [], name);
    assert.deepEqual(unknown(asked, tables(asked)), [], name);
  }
});

test("the workbook's template creates the workbook, with the component chosen", () => {
  const [made, ...more] = deploy(JSON.parse(written("workbook.template.json")), { component });
  assert.deepEqual(more, []);
  assert.equal(made.type, "Microsoft.Insights/workbooks");
  assert.deepEqual(Object.keys(made.properties).sort(), ["category", "displayName", "serializedData", "sourceId", "version"]);
  assert.equal(made.kind, "shared");
  assert.equal(made.properties.sourceId, component);
  const own = JSON.parse(made.properties.serializedData);
  const resource = own.items.flatMap((item) => item.content.parameters ?? []).find(({ name }) => name === "Resource");
  assert.equal(resource.value, component);
  resource.value = "value::1";
  assert.deepEqual(own, workbook);
});
