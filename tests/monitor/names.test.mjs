import assert from "node:assert/strict";
import test from "node:test";
import { names } from "./names.mjs";

const UNITS = { s: "_seconds", By: "_bytes" };

test("each metric's Prometheus name follows from its name, unit and kind", () => {
  for (const { name, prometheus, kind, unit } of names.metrics) {
    const made = name.replaceAll(".", "_") + (unit ? UNITS[unit] : "") + (kind === "counter" ? "_total" : "");
    assert.equal(prometheus, made);
    assert.match(kind, /^(counter|gauge|histogram)$/, name);
  }
});

test("no name stands twice", () => {
  const lists = [names.metrics.map(({ name }) => name), names.metrics.map(({ prometheus }) => prometheus), names.attributes, ...names.metrics.map(({ attributes }) => attributes)];
  for (const list of lists) assert.deepEqual(list, [...new Set(list)]);
});
