import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";
import { parse } from "yaml";
import { written } from "./generate.mjs";
import { all, shipped } from "./make/kql.mjs";

const readme = written("README.md");

test("the README names every file, query, alert and parameter that there is, with its default", () => {
  const there = readdirSync(shipped, { withFileTypes: true }).filter((one) => one.isFile() && one.name !== "README.md").map(({ name }) => name);
  for (const name of [...there, ...Object.keys(all("queries")), ...Object.keys(all("alerts"))]) assert.ok(readme.includes(`\`${name}\``), name);
  for (const [name, { defaultValue }] of Object.entries(JSON.parse(written("alerts.template.json")).parameters)) {
    if (/Least|Factor|Seconds|Milliseconds|^replicas|sasEnd/.test(name)) assert.ok(readme.includes(`\`${name}\` ${defaultValue}`), name);
  }
});

test("whatever file, query or alert the README names is there", () => {
  const names = new Set([
    ...readdirSync(shipped),
    ...Object.keys(all("queries")),
    ...Object.keys(all("alerts")),
    ...parse(written("prometheus-rules.yaml")).groups.flatMap((group) => group.rules).map((rule) => rule.alert),
  ]);
  for (const [, name] of readme.matchAll(/^\| `([a-z-]+)`/gm)) assert.ok(names.has(name), name);
  for (const [, name] of readme.matchAll(/`([\w-]+\.(?:json|yaml)|Portcullis\w+)`/g)) assert.ok(names.has(name), name);
});
