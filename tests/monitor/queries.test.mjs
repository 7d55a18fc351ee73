import assert from "node:assert/strict";
import test from "node:test";
import { all, parse } from "./make/kql.mjs";
import { columns, faults, tables } from "./kusto.mjs";
import { unknown } from "./names.mjs";

for (const folder of ["queries", "alerts"]) {
  for (const [name, query] of Object.entries(all(folder))) {
    test(`${folder}/${name}.kql is sound, and asks for what the gateway sends`, () => {
      assert.deepEqual(faults(query), []);
      assert.notDeepEqual(columns(query), {});
      assert.deepEqual(unknown(query, tables(query)), []);
    });

    test(`${folder}/${name}.kql says at its head what it answers and what its parameters are`, () => {
      const { comment, parameters } = parse(query);
      assert.match(comment, /^\/\/ Parameters: /m);
      const told = comment.slice(comment.indexOf("Parameters:"));
      for (const parameter of parameters) assert.match(told, new RegExp(`\\b${parameter.name}\\b`));
      assert.ok(!query.includes("\t") && query.endsWith("\n") && !query.endsWith("\n\n"));
    });
  }
}

test("queries over what several roles write ask for the gateway's role", () => {
  for (const [name, query] of Object.entries(all("queries"))) {
    if (name !== "request") assert.match(parse(query).body, /cloud_RoleName == role/, name);
  }
});

test("whatever counts sampled rows weighs them", () => {
  for (const [name, query] of Object.entries(all("queries"))) {
    const sampled = [...tables(query)].some((table) => table !== "customMetrics");
    const body = parse(query).body;
    if (!sampled || !body.includes("summarize")) continue;
    assert.doesNotMatch(body, /\bpercentiles?\(|\bavg\(/, `${name} takes a percentile or mean of sampled rows`);
    for (const [, column] of body.matchAll(/(\w+) = count(?:if)?\(/g)) assert.equal(column, "kept", `${name} counts rows as ${column}`);
  }
});

test("the check of queries finds a misspelt table, column, function and type", () => {
  assert.deepEqual(faults("requests | take 1"), []);
  assert.match(faults("request | take 1").join(), /KS204.*'request'/);
  assert.match(faults("requests | where timestmp > ago(1d)").join(), /KS142.*timestmp/);
  assert.match(faults("requests | summarize percentile_w(duration, itemCount, 99)").join(), /percentile_w/);
  assert.match(faults("requests | where duration > 'a' | take").join(), /line 1/);
  assert.match(faults("requests | summarize sum(name)").join(), /KS\d+/);
});

test("the check of names finds metrics, events and dimensions that are not sent", () => {
  const asks = (query) => unknown(query, tables(query));
  assert.deepEqual(asks('customMetrics | where name == "portcullis.decisions" | extend r = customDimensions["route"]'), []);
  assert.deepEqual(asks('customMetrics | where name == "portcullis.decision"'), []);
  assert.deepEqual(asks('customMetrics | where name == "portcullis.denied"'), ["name portcullis.denied"]);
  assert.deepEqual(asks('customMetrics | where name in ("portcullis.reloads", "portcullis.x") | extend r = customDimensions["route"]'), [
    "name portcullis.x",
    "dimension route",
  ]);
  assert.deepEqual(asks("requests | extend r = customDimensions.portcullis_route"), ["dimension portcullis_route"]);
  assert.deepEqual(asks('requests | extend r = customDimensions["portcullis.rout"]'), ["dimension portcullis.rout"]);
});
