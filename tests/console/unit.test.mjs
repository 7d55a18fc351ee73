// What the page computes, without a browser.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { histogram } from "./mock.mjs";

const source = await readFile(new URL("../../gateway/admin/console/console.js", import.meta.url));
const page = await import(`data:text/javascript;base64,${source.toString("base64")}`);

test("quantiles are those that Prometheus interpolates", () => {
  const buckets = new Map([[0.1, 10], [0.5, 60], [1, 100], [Infinity, 100]]);
  const of = (q) => page.quantile(q, buckets).seconds.toFixed(6);
  assert.equal(of(0.05), "0.050000");
  assert.equal(of(0.1), "0.100000");
  assert.equal(of(0.35), "0.300000");
  assert.equal(of(0.5), "0.420000");
  assert.equal(of(0.95), "0.937500");
  assert.equal(of(1), "1.000000");
});

test("quantiles skip empty buckets, and beyond the last bound only that bound is known", () => {
  assert.deepEqual(page.quantile(0.5, new Map([[1, 0], [2, 0], [4, 2], [Infinity, 2]])), { seconds: 3, beyond: false });
  assert.deepEqual(page.quantile(0.99, new Map([[1, 1], [10, 1], [Infinity, 5]])), { seconds: 10, beyond: true });
  assert.equal(page.latencyOf(page.quantile(0.99, new Map([[10, 1], [Infinity, 5]]))), "> 10 s");
  assert.equal(page.quantile(0.5, new Map([[1, 0], [Infinity, 0]])), null);
  assert.equal(page.quantile(0.5, new Map()), null);
});

test("the order in which buckets are written plays no part", () => {
  const shuffled = new Map([[Infinity, 100], [1, 100], [0.1, 10], [0.5, 60]]);
  assert.equal(page.quantile(0.35, shuffled).seconds.toFixed(6), "0.300000");
});

test("metrics are read with their labels, escapes among them, and others are passed over", () => {
  const text = '# HELP a_total What "it" {counts}.\n# TYPE a_total counter\na_total{x="1 } \\"2\\"",y="b\\\\c\\nd"} 7\na_total 8 1700000000000\nother 1\nb{le="+Inf"} +Inf\nc NaN\nhalf{x=';
  const read = page.parseMetrics(text, ["a", "b", "c", "half"]);
  assert.deepEqual([...read.keys()], ["a_total", "b"]);
  assert.deepEqual({ ...read.get("a_total")[0].labels }, { x: '1 } "2"', y: "b\\c\nd" });
  assert.deepEqual(read.get("a_total").map(({ value }) => value), [7, 8]);
  assert.equal(read.get("b")[0].value, Infinity);
});

test("figures are of the time between two counts", () => {
  const at = (ok, failed, denied) => page.counted(page.parseMetrics([
    histogram("http_server_request_duration_seconds", { route: "a", http_response_status_code: "200" }, { 0.01: ok }),
    histogram("http_server_request_duration_seconds", { route: "a", http_response_status_code: "503" }, { 0.5: failed }),
    `portcullis_decisions_total{route="a",decision="allow",reason="rule"} ${ok}`,
    `portcullis_decisions_total{route="a",decision="deny",reason="backend-busy"} ${failed}`,
    `portcullis_decisions_total{route="none",decision="deny",reason="token-missing"} ${denied}`,
  ].join("\n")), 0);
  const [older, newer] = [at(100, 10, 5), at(190, 20, 5)];
  const figures = page.between(older.total, newer.total, 10);
  assert.equal(figures.requests, 100);
  assert.equal(figures.rate, 10);
  assert.equal(figures.errors, 0.1);
  assert.equal(figures.refused, 0.1);
  assert.equal(figures.refusedRate, 1);
  assert.equal(figures.quantiles[0].seconds.toFixed(6), (0.005 + 0.005 * (50 / 90)).toFixed(6));
  assert.equal(figures.quantiles[1].seconds.toFixed(6), "0.375000");
  assert.deepEqual([...newer.reasons].map(([name, { refused }]) => [name, refused]), [["backend-busy", 20], ["token-missing", 5]]);
  assert.deepEqual([...newer.routes.keys()], ["a", "none"]);
});

test("checks are read, those that fail first", () => {
  const checks = page.parseChecks("[+] serving ok\n[!] limits.store/a b degraded: it failed: twice\n[-] keys failed: none are loaded\nnot ready\n");
  assert.deepEqual(checks, [
    { level: "bad", name: "keys", why: "none are loaded" },
    { level: "warn", name: "limits.store/a b", why: "it failed: twice" },
    { level: "good", name: "serving", why: "" },
  ]);
});

test("events are read as they come, in pieces and with comments between", () => {
  const first = page.parseEvents(':\n\nevent: decision\ndata: {"a":1}\n\nevent: dec');
  assert.deepEqual(first.events, [{ event: "decision", data: '{"a":1}' }]);
  assert.deepEqual(page.parseEvents(`${first.rest}ision\r\ndata: {\r\ndata: }\r\n\r\n`), { events: [{ event: "decision", data: "{\n}" }], rest: "" });
});

test("the request ID is found in whatever is pasted", () => {
  const id = "0190b0a4-7c3e-4d5f-8a6b-2f1e3d4c5b6a";
  const tenant = "11111111-1111-1111-1111-111111111111";
  assert.equal(page.idIn(`  ${id.toUpperCase()} `), id);
  assert.equal(page.idIn(`{"type":"urn:portcullis:denial:x","tenant":"${tenant}","instance":"urn:uuid:${id}"}`), id);
  assert.equal(page.idIn(`{"tenant":"${tenant}","time":"2027-01-14T12:00:00Z","id":"${id}"}`), id);
  assert.equal(page.idIn(" something "), "something");
});

test("numbers are written as people read them", () => {
  assert.deepEqual([0, 0.001, 0.5, 8, 12.34, 99.96, 1234.5].map(page.rate), ["0", "<0.01", "0.5", "8", "12.3", "100", "1,235"]);
  assert.deepEqual([NaN, 0, 0.0001, 0.0123, 0.5, 1].map(page.share), ["–", "0%", "<0.1%", "1.2%", "50%", "100%"]);
  assert.deepEqual([NaN, 0.00042, 0.0042, 0.042, 0.9996, 1.234, 12.3].map(page.latency), ["–", "0.42 ms", "4.2 ms", "42 ms", "1.00 s", "1.23 s", "12 s"]);
  assert.deepEqual([0, 89, 90, 3599, 3600, 12000, 86400, 93784].map(page.span), ["0 s", "89 s", "1 min", "59 min", "1 h", "3 h 20 min", "1 d", "1 d 2 h"]);
  assert.deepEqual([12, 2048, 41943040, 2 ** 31].map(page.bytes), ["12 B", "2.0 KiB", "40.0 MiB", "2.00 GiB"]);
  const now = Date.parse("2027-01-14T12:00:00Z");
  assert.equal(page.moment("2027-01-14T09:08:07.123Z", now), "09:08:07");
  assert.equal(page.moment("2027-01-13T23:59:59Z", now), "2027-01-13 23:59:59");
  assert.equal(page.moment("never", now), "never");
});

test("characters that are not seen or turn text around are written out", () => {
  assert.equal(page.visible("/a\u202egpj.exe\u0000\u200b"), "/a\\u202egpj.exe\\u0000\\u200b");
  assert.equal(page.visible("/straße/ключ\n\t"), "/straße/ключ\n\t");
});
