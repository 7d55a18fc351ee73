// What the page shows of known answers, and how it bears with those that it does not get.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { at, decision, emptyWorld, manyRoutes, metric, serve, traffic, world } from "./mock.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** A test with a mock that serves `state` and a page at `hash`; nothing may have gone wrong at its end. */
function shown(name, { state = world, hash = "", ...how }, act) {
  test(name, async () => {
    const mock = await serve(state());
    const page = await open(browser, mock.url, { hash, ...how });
    try {
      await act(page, mock);
      assert.deepEqual(await page.faults(), []);
    } finally {
      await page.done();
      await mock.close();
    }
  });
}

/** The rows of a table by its caption, once they are `expected`. */
async function rowsAre(page, caption, expected) {
  const read = (caption) => {
    const table = [...document.querySelectorAll("table")].find((table) => table.caption.textContent.startsWith(caption));
    return table && [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim().replace(/\s+/g, " ")));
  };
  const same = page.waitForFunction(`JSON.stringify((${read})(${JSON.stringify(caption)})) === ${JSON.stringify(JSON.stringify(expected))}`, null);
  await same.catch(async () => assert.deepEqual(await page.evaluate(`(${read})(${JSON.stringify(caption)})`), expected));
}

const tiles = (page) => page.locator(".tile").evaluateAll((tiles) => tiles.map((tile) => [...tile.querySelectorAll("dt, dd:not(.line)")].map((each) => each.textContent.trim())));
const has = (page, text) => page.locator("#view").getByText(text).first().waitFor();
const region = (page, name) => page.getByRole("region", { name });
const drawer = (page) => page.getByRole("dialog");

shown("figures are exact and of the time between two polls", {}, async (page, mock) => {
  assert.deepEqual((await tiles(page))[0], ["Requests", "–", "3 under way"]);
  mock.state.metrics = traffic(1002);
  await page.poll();
  assert.deepEqual(await tiles(page), [
    ["Requests", "8/s", "3 under way"],
    ["Refused", "38%", "3/s denied"],
    ["Errors✕high", "13%", "5xx, of all answers"],
    ["p50 latency", "25 ms", "gateway: 2.5 ms"],
    ["p95 latency", "400 ms", "gateway: 4.8 ms"],
    ["p99 latency", "480 ms", "gateway: 5.0 ms"],
  ]);
  await has(page, "Over the last 2 s; the lines show the last 5 min.");
  await rowsAre(page, "Requests by route", [
    ["read-guests", "4", "0%", "0%", "25 ms", "48 ms", "50 ms", "4,008"],
    ["invite-guest", "2", "50%", "50%", "250 ms", "475 ms", "495 ms", "2,004"],
    ["none (no route matched)", "2", "100%", "0%", "2.5 ms", "4.8 ms", "5.0 ms", "2,004"],
  ]);
  await page.getByRole("img", { name: "Requests over the last 2 s: from 8 a second to 8 a second" }).waitFor();
});

shown("figures forget what is older than their window", {}, async (page, mock) => {
  mock.state.metrics = traffic(1200);
  await page.poll();
  for (let n = 1; n <= 16; n += 1) {
    mock.state.metrics = traffic(1200 + 2 * n);
    await page.poll();
  }
  assert.equal((await tiles(page))[0][1], "8/s");
  await has(page, "Over the last 30 s");
  await page.getByRole("img", { name: "Requests over the last 34 s: from 8 a second to 800 a second" }).waitFor();
});

shown("a restart of the gateway is no negative rate", {}, async (page, mock) => {
  mock.state.metrics = traffic(3);
  await page.poll();
  assert.equal((await tiles(page))[0][1], "–");
  mock.state.metrics = traffic(5);
  await page.poll();
  assert.equal((await tiles(page))[0][1], "8/s");
});

shown("what is degraded comes first, with its reason, and the gateway is ready all the same", {}, async (page) => {
  await page.getByRole("status").getByText("Ready, 1 degraded").waitFor();
  assert.equal((await page.locator(".checks li").first().innerText()).replace(/\s+/g, " "), "! degraded keys/fabrikam/v1 – connection refused");
  await page.getByText("5 passing checks").click();
  assert.equal(await page.locator(".checks.plain li").count(), 5);
  assert.match(await page.locator("#facts").innerText(), /Version 0\.7\.0\s+Policy 5f2b7c0a9d1e for 2 h/);
  await has(page, "5 items of telemetry (traces, queue-full)");
});

shown("a gateway that is not ready is said so, the failed check first", { mayFail: true, state: () => ({ ...world(), isReady: false, ready: "[!] backend/b degraded: open\n[+] serving ok\n[-] keys failed: no tenant's signing keys are loaded\nnot ready\n" }) }, async (page) => {
  await page.getByRole("status").getByText("Not ready").waitFor();
  const checks = await page.locator(".checks").first().locator("b").allInnerTexts();
  assert.deepEqual(checks, ["keys", "backend/b"]);
});

shown("refusals are counted by reason, and by app among those that are kept", { hash: "#refused" }, async (page, mock) => {
  mock.state.metrics = traffic(1002);
  await page.poll();
  await rowsAre(page, "Refusals by reason", [
    ["▸token-missing", "2,004", "67%", "4", "no route"],
    ["▸backend-broken", "1,002", "33%", "2", "invite-guest"],
    ["▸app-not-allowed", "3", "<0.1%", "0", "invite-guest"],
  ]);
  await rowsAre(page, "Refusals by app", [
    ["▸nightly-batch", "contoso", "2", "app-not-allowed × 2", "6 s ago"],
    ["▸nobody known (no valid token)", "–", "1", "token-missing", "11 s ago"],
    ["▸marketing-portal", "contoso", "1", "backend-broken", "67 s ago"],
  ]);
  await has(page, "Among the newest 4 refusals that are kept (5 decisions are kept in all).");
});

shown("an example of a reason opens the whole decision, and closing it goes back to it", { hash: "#refused" }, async (page) => {
  await page.getByRole("button", { name: "app-not-allowed" }).click();
  const example = page.getByRole("button", { name: "11:58:40 POST api.contoso.com/invitations" });
  await example.click();
  await drawer(page).getByText("Rules of invite-guest name the tenant contoso, but not the app nightly-batch.").waitFor();
  const fields = await drawer(page).locator(".fields > div").evaluateAll((all) => Object.fromEntries(all.map((each) => [...each.children].map((child) => child.textContent))));
  assert.deepEqual(fields, {
    "Arrived (UTC)": "2027-01-14T11:58:40.000Z", "Request ID": decision(80).id, Trace: "4bf92f3577b34da6a3ce929d0e0e4736", "Caller's address": "203.0.113.8", Method: "POST",
    Host: "api.contoso.com", Path: "/invitations", Protocol: "HTTP/2", Route: "invite-guest", Decision: "deny", Reason: "app-not-allowed", Rule: "allow[0]",
    Expected: "marketing-portal", Got: "nightly-batch", Tenant: "11111111-1111-1111-1111-111111111111", "Tenant's name": "contoso", App: "aaaaaaaa-0000-0000-0000-000000000002",
    "App's name": "nightly-batch", Principal: "cccccccc-0000-0000-0000-000000000009", "Token's kind": "appOnly", "Token's version": "v2", Status: "403", "Bytes sent": "268",
    "Sent whole": "yes", "Duration (ms)": "0.42",
  });
  await page.keyboard.press("Escape");
  await drawer(page).waitFor({ state: "hidden" });
  assert.equal(await example.evaluate((button) => button === document.activeElement), true);
});

shown("an example of an app opens, too", { hash: "#refused" }, async (page) => {
  await page.getByRole("button", { name: "nobody known" }).click();
  await page.getByRole("button", { name: "GET api.contoso.com/.env" }).click();
  await drawer(page).getByRole("heading", { name: "Refused 401 token-missing" }).waitFor();
  await drawer(page).getByRole("button", { name: "Close" }).click();
  await drawer(page).waitFor({ state: "hidden" });
});

shown("a request is explained by its ID, out of whatever was pasted", { hash: "#refused" }, async (page, mock) => {
  await page.getByLabel("Request ID").fill(JSON.stringify({ reason: "app-not-allowed", instance: `urn:uuid:${decision(4).id}` }));
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("heading", { name: "Refused 403 app-not-allowed" }).waitFor();
  await has(page, "Security team: add the app to allow[0] of invite-guest, if it is to be let in.");
  assert.deepEqual(await page.locator(".explanation ol li").allInnerTexts(), mock.state.explanation().steps);
  assert.equal(await page.getByLabel("Request ID").inputValue(), decision(4).id);
  assert.equal(new URL(page.url()).hash, `#refused/${decision(4).id}`);
  await page.poll();
  await page.poll();
  assert.equal(mock.asked.filter(({ path }) => path === `/decisions/${decision(4).id}`).length, 1);
});

shown("a decision without an explanation is shown all the same", { hash: `#refused/${decision(4).id}`, state: () => ({ ...world(), explanation: () => undefined }) }, async (page) => {
  await has(page, "The gateway has no explanation for it.");
  await page.locator(".fields").getByText("203.0.113.7").waitFor();
});

shown("an ID that is not known is answered with what to do", { hash: "#refused", mayFail: true }, async (page, mock) => {
  const id = "0190b0a4-0000-0000-0000-000000000000";
  await page.getByLabel("Request ID").fill(id);
  await page.getByLabel("Request ID").press("Enter");
  await has(page, "This gateway does not know");
  await has(page, `portcullis explain --policies policies --decision ${id} --log decisions.jsonl`);
  await has(page, "The gateway says: no decision with this ID is kept");
  mock.state.decisions.unshift({ ...decision(1), id });
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("heading", { name: "Refused 403 app-not-allowed" }).waitFor();
});

const liveRows = async (page, expected) => rowsAre(page, "The newest 200 decisions", expected);
const liveRow = (time, name, more) => [`${time} open`, "✕refused", `POST api.contoso.com/${name}`, "invite-guest", "nightly-batch", "app-not-allowed", "403", "0.4", ...(more ?? [])];

shown("decisions come as they are made, wait while paused, and are not shown twice", { hash: "#live", state: () => ({ ...world(), decisions: [decision(9, { path: "/a" })] }) }, async (page, mock) => {
  await has(page, "Following.");
  await liveRows(page, [liveRow("11:59:51", "a")]);
  mock.push(decision(8, { path: "/b" }));
  await page.clock.runFor(200);
  await liveRows(page, [liveRow("11:59:52", "b"), liveRow("11:59:51", "a")]);
  await page.getByRole("button", { name: "Pause" }).click();
  mock.push(decision(7, { path: "/c" }));
  mock.push(decision(7, { path: "/c" }));
  mock.push(decision(6, { path: "/d" }));
  await eventually(page, () => has(page, /Paused; [23] came meanwhile/));
  await liveRows(page, [liveRow("11:59:52", "b"), liveRow("11:59:51", "a")]);
  await page.getByRole("button", { name: "Go on" }).click();
  await liveRows(page, [liveRow("11:59:54", "d"), liveRow("11:59:53", "c"), liveRow("11:59:52", "b"), liveRow("11:59:51", "a")]);
});

/** Moves the page's clock on until something is so. */
async function eventually(page, so) {
  let done = false;
  const waiting = so().finally(() => (done = true));
  while (!done) await page.clock.runFor(100);
  await waiting;
}

shown("the live list is narrowed by the gateway itself", { hash: "#live" }, async (page, mock) => {
  await has(page, "Following.");
  await page.getByLabel("Decision", { exact: true }).selectOption("deny");
  await page.getByLabel("App", { exact: true }).fill("nightly-batch");
  await page.getByLabel("App", { exact: true }).press("Enter");
  await eventually(page, () => page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 2));
  const follows = () => mock.asked.filter(({ path }) => path.includes("follow=true")).map(({ path }) => path);
  assert.equal(follows().at(-1), "/decisions?decision=deny&app=nightly-batch&follow=true");
  mock.push(decision(3, { path: "/mine" }));
  mock.push(decision(2, { path: "/other", appName: "other", app: "x" }));
  mock.push(decision(1, { path: "/mine-too" }));
  await eventually(page, () => has(page, "/mine-too"));
  assert.equal(await page.locator("tbody tr").count(), 4);
});

shown("a stream that breaks off is asked for again, and what came meanwhile is not lost", { hash: "#live", mayFail: true, state: () => ({ ...world(), decisions: [] }) }, async (page, mock) => {
  await has(page, "Following.");
  mock.state.decisions.push(decision(5, { path: "/meanwhile" }));
  mock.cut();
  await eventually(page, () => has(page, "/meanwhile"));
  mock.push(decision(4, { path: "/later" }));
  await eventually(page, () => has(page, "/later"));
});

shown("the stream ends with its view", { hash: "#live" }, async (page, mock) => {
  await has(page, "Following.");
  assert.equal(mock.followers.size, 1);
  const [{ response }] = mock.followers;
  const closed = new Promise((on) => response.once("close", on));
  await page.getByRole("link", { name: "Health" }).click();
  await closed;
  assert.equal(mock.followers.size, 0);
});

shown("the access matrix tells who can reach which route, and on what terms", { hash: "#access" }, async (page) => {
  const may = "●may";
  await rowsAre(page, "Routes, and who can call them", [
    ["▸invite-guest", "POST /invitations", "", "", "◐may, if of contoso; role Guests.Invite", ""],
    ["▸guest-reportreports only", "GET /reports/guests", may, may, may, may],
    ["▸read-guests", "GET HEAD api.contoso.com/guests/{*rest}", "", "", may, "◐may, if of fabrikam; role Guests.Read.All; fabrikam-datacentre"],
  ]);
  assert.deepEqual(await page.locator("thead th").allInnerTexts(), ["Route", "Requests", "No token", "Any other app", "marketing-portal", "nightly-batch"]);
  await page.getByRole("button", { name: "invite-guest" }).click();
  assert.equal(await page.locator("tr.more pre").innerText(), world().json["/access"].routes[0].text.join("\n"));
  await page.getByLabel("Search").fill("guests.read.ALL");
  await has(page, "0 of 3 routes");
  await page.getByLabel("Search").fill("get api.contoso");
  await has(page, "1 of 3 routes");
  await page.getByLabel("Search").fill("");
  await page.getByLabel("Who", { exact: true }).selectOption("nightly-batch");
  await has(page, "2 of 3 routes");
  assert.deepEqual(await page.locator("thead th").allInnerTexts(), ["Route", "Requests", "nightly-batch"]);
});

shown("a route of which it is not known whom it lets in is not shown as if it let in nobody", { hash: "#access", state: () => {
  const state = world();
  const [route] = state.json["/access"].routes;
  Object.assign(route, { exact: false, callers: [], text: ["its rules are too many to tell"] });
  return state;
} }, async (page) => {
  const row = page.locator("tbody tr").first();
  await row.waitFor();
  assert.deepEqual(await row.locator("th, td").allTextContents(), ["▸invite-guestnot known", "POST /invitations", "?not known", "?not known", "?not known", "?not known"]);
  await page.getByLabel("Who", { exact: true }).selectOption("nightly-batch");
  await has(page, "3 of 3 routes");
  await page.getByRole("button", { name: "invite-guest" }).click();
  await has(page, "Whom it lets in could not be worked out");
  assert.equal(await page.locator("tr.more pre").innerText(), "its rules are too many to tell");
});

shown("a policy of 500 routes stays usable and is read once", { hash: "#access", state: () => ({ ...world(), json: { ...world().json, "/access": manyRoutes(500, 60) } }) }, async (page, mock) => {
  await has(page, "500 of 500 routes, of which the first 100 are shown; 40 of 60 callers");
  assert.equal(await page.locator("tbody tr").count(), 100);
  await page.getByRole("button", { name: "Show 100 more routes" }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 200);
  await page.getByLabel("Search").fill("things/49");
  await has(page, "11 of 500 routes");
  await page.getByLabel("Who", { exact: true }).selectOption("app-059");
  await page.getByLabel("Search").fill("");
  await has(page, "8 of 500 routes");
  await page.poll();
  await page.poll();
  const reads = () => mock.asked.filter(({ path }) => path === "/access").length;
  assert.equal(reads(), 1);
  mock.state.json["/access"] = { ...manyRoutes(7, 2), digest: "sha256:new" };
  mock.state.metrics = traffic(1000).replace(/digest="[^"]*"/, 'digest="sha256:new"');
  await page.poll();
  await page.poll();
  await page.getByLabel("Who", { exact: true }).selectOption("");
  await has(page, "7 of 7 routes");
  assert.equal(reads(), 2);
});

shown("keys, credentials, backends and limits, what is about to fail first", { hash: "#health" }, async (page, mock) => {
  mock.state.metrics = traffic(1002);
  await page.poll();
  await rowsAre(page, "Signing keys", [
    ["fabrikam22222222-2222-2222-2222-222222222222", "✕not loaded", "v1", "never", "0", "connection refused"],
    ["contoso11111111-1111-1111-1111-111111111111", "✓well", "v2", "24 min ago", "2", "–"],
  ]);
  await rowsAre(page, "What the gateway presents", [
    ["legacy", "✕not ready", "secret", "–", "never", "key vault contoso, legacy-key", "the identity may not read the secret It lasts until somebody acts."],
    ["invite-flow", "!last one serves", "token", "in 3 min", "23 h 53 min ago", "managed identity, system-assignedhttps://management.azure.com/", "IMDS answered 429"],
    ["guest-api", "✓ready", "token", "in 23 h", "10 min ago", "managed identity, system-assignedapi://guest-api", "–"],
    ["old-api", "✓ready", "secret", "no end", "at the start", "the environment, OLD_KEY", "–"],
  ]);
  await rowsAre(page, "Backends", [
    ["invite-flowlogicApp", "✕not calledthe breaker is open", "https://prod-12.logic.example", "–", "one", "openopened 2 ×, refused 80", "–", "–"],
    ["guest-apifunction", "!1 of 2 endpoints not well", "https://guests-1.examplehttps://guests-2.example", "48 ms", "✓well guests-1.example 4 under way✕not well guests-2.example 0 under way, ejected 3 ×", "closedopened 1 ×, refused 14", "223 refused", "61 failed, 0 wait"],
  ]);
  await rowsAre(page, "Requests at once", [
    ["backend invite-flow", "✕full, some wait", "contoso marketing-portal", "100%", "20", "4", "20"],
    ["route read-guests", "✓well", "all", "6%", "3", "0", "50"],
  ]);
  await rowsAre(page, "Requests that a limit refused", [["per-app", "invite-guest", "refuses", "12"]]);
  await has(page, "37 requests are under way.");
  await has(page, "The store of limits answers.");
});

shown("sightings of keys in URLs", { hash: "#keys-in-urls" }, async (page) => {
  await rowsAre(page, "Sightings", [
    ["invite-guest", "marketing-portal", "axios", "sig", "not for that", "1,204"],
    ["no route", "nobody known", "python-requests", "code", "✕refused", "17"],
  ]);
  await rowsAre(page, "Keys and claimed identities", [["x-functions-key", "9"]]);
  await page.getByRole("button", { name: "Sightings" }).click();
  await page.getByRole("columnheader", { name: "Sightings" }).and(page.locator("[aria-sort=descending]")).waitFor();
  await page.getByRole("button", { name: "Sightings" }).click();
  await page.waitForFunction(() => document.querySelector("tbody th").textContent === "no route");
});

shown("the policy in force, its candidate, the refused reload and the last change", { hash: "#policy" }, async (page) => {
  await has(page, "sha256:5f2b7c0a9d1e4f36");
  await has(page, "10:00:00 UTC, 2 h ago");
  await has(page, "1 refused");
  await rowsAre(page, "Why the reload was refused", [["contoso.yaml:16:38", "✕error", "no app is named `marketing-portl`did you mean `marketing-portal`?", "write it as under `apps`"]]);
  await rowsAre(page, "What the candidate", [["read-guests", "nightly-batch", "✕refused", "scope-missing", "allow[1]", "6"]]);
  await rowsAre(page, "What would have been decided otherwise", [["guest-report", "✕refused", "role-missing", "allow[0]", "41"]]);
  assert.equal(await page.getByRole("region", { name: "Who gained and who lost access" }).innerText(), world().json["/policies"].lastDiff.text.trimEnd());
});

shown("a candidate at fault is told with its diagnostics", { hash: "#policy", state: () => {
  const state = world();
  state.json["/policies"].candidate = { diagnostics: state.json["/policies"].lastRefused.diagnostics };
  return state;
} }, async (page) => {
  await has(page, "The candidate is at fault and decides nothing.");
  await rowsAre(page, "What is wrong with the candidate", [["contoso.yaml:16:38", "✕error", "no app is named `marketing-portl`did you mean `marketing-portal`?", "write it as under `apps`"]]);
});

shown("a bearer token is asked for, told when it is wrong, and kept in memory alone", { mayFail: true, state: () => ({ ...world(), token: "correct-horse-battery-staple-0123" }) }, async (page, mock) => {
  await page.getByRole("status").getByText("Token wanted").waitFor();
  await page.getByText("keeps it in memory only").waitFor();
  await page.getByText("The gateway says: a bearer token is wanted here").waitFor();
  await page.getByRole("textbox", { name: "Bearer token" }).fill("wrong");
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("The gateway did not take this token.").waitFor();
  await page.getByRole("textbox", { name: "Bearer token" }).fill("correct-horse-battery-staple-0123");
  await page.getByRole("textbox", { name: "Bearer token" }).press("Enter");
  await page.getByRole("status").getByText("Ready, 1 degraded").waitFor();
  await page.getByRole("textbox", { name: "Bearer token" }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "Live" }).click();
  await has(page, "Following.");
  assert.equal(mock.asked.find(({ path }) => path.includes("follow")).headers.authorization, "Bearer correct-horse-battery-staple-0123");
  assert.equal(mock.asked.some(({ path }) => path.includes("correct")), false);
  assert.equal(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]).includes("correct")), false);
  await page.reload();
  await page.getByRole("textbox", { name: "Bearer token" }).waitFor();
});

const FORBIDDEN = "this address is not loopback: write `admin.tls` and `admin.bearer` into gateway.yaml";
shown("what must be written into gateway.yaml is told in the gateway's words", { mayFail: true, state: () => ({ ...world(), faults: { "*": [403, FORBIDDEN] } }) }, async (page, mock) => {
  await page.getByRole("alert").getByText(FORBIDDEN).waitFor();
  mock.state.faults = {};
  await page.poll();
  await page.getByRole("alert").waitFor({ state: "detached" });
});

shown("a gateway that goes away is said so, what is shown is grey and dated, and it comes back by itself", { mayFail: true }, async (page, mock) => {
  mock.state.metrics = traffic(1002);
  await page.poll();
  mock.state.isAway = true;
  await page.poll();
  await page.poll();
  await page.getByRole("alert").getByText("The gateway has not answered since 12:00:04 UTC.").waitFor();
  await page.getByRole("alert").getByText("What is shown is 4 s old.").waitFor();
  await page.getByRole("status").getByText("Does not answer").waitFor();
  assert.match(await page.locator("#view").evaluate((view) => getComputedStyle(view).filter), /grayscale/);
  assert.equal((await tiles(page))[0][1], "8/s");
  mock.state.isAway = false;
  await page.poll();
  await page.getByRole("status").getByText("Ready, 1 degraded").waitFor();
  await page.getByRole("alert").waitFor({ state: "detached" });
  assert.equal(await page.locator("#view").evaluate((view) => getComputedStyle(view).filter), "none");
});

shown("one answer that fails leaves the others, and what it said before, with its age", { hash: "#health", mayFail: true }, async (page, mock) => {
  await has(page, "24 min ago");
  mock.state.faults = { "/keys": [500, "the gateway failed"] };
  await page.poll();
  await has(page, "This is 2 s old: the gateway failed.");
  await has(page, "24 min ago");
  mock.state.faults = { "/backends": [500, "the backends failed"] };
  await page.poll();
  await has(page, "This is 2 s old: the backends failed.");
  await page.getByText("This is 4 s old").waitFor({ state: "detached" });
});

shown("an answer that was never had is asked for in words", { hash: "#health", mayFail: true, state: () => ({ ...world(), faults: { "/keys": [404, "there is nothing here"] } }) }, async (page) => {
  await has(page, "The gateway did not tell the signing keys: there is nothing here.");
  await has(page, "This gateway is older than this page");
});

const EMPTY = {
  overview: ["All 3 checks pass.", "No request has come yet. Send one"],
  refused: ["Nobody has been refused since the gateway started.", "No refusal is kept. Send a request without a token"],
  live: ["Each request shows here as soon as it has been answered."],
  access: ["The policy has no route, so nobody can reach anything."],
  health: ["No tenant is trusted yet. Write one under", "No backend has a credential that is fetched.", "The policy names no backend.", "No route or backend limits how many requests"],
  "keys-in-urls": ["No request has brought a key in its URL"],
  policy: ["No reload has been refused", "The policy has not changed since", "No candidate is watched. With", "Nothing that only reports would have decided otherwise"],
};
shown("a gateway that nobody has called says in each view what to do", { state: emptyWorld }, async (page) => {
  for (const [view, sentences] of Object.entries(EMPTY)) {
    await page.evaluate((view) => (location.hash = view), view);
    for (const sentence of sentences) await has(page, sentence);
  }
});

const XSS = `<img src=x onerror="globalThis.hit=1"><script>globalThis.hit=1</script>'"><b>javascript:hit`;
/** The world, with an attack at the end of every text in it. */
function attacked() {
  const inAll = (value, name) => {
    if (Array.isArray(value)) return value.map((each) => inAll(each, name));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, inAll(each, name)]));
    return typeof value === "string" && !["decision", "token", "mode"].includes(name) ? value + XSS : value;
  };
  const state = world();
  const label = XSS.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return {
    ...state,
    ready: state.ready.replace(/^(\[.\] \S+)(.*)$/gm, `$1${XSS}$2`).replace("refused\n", `refused${XSS}\n`),
    metrics: state.metrics.replace(/(?<!le|decision|status_code|quantile)="([^"]*)"/g, (_, value) => `="${value}${label}"`),
    json: inAll(state.json),
    decisions: inAll(state.decisions),
    explanation: () => inAll(state.explanation()),
  };
}

shown("nothing that is told is read as HTML", { state: attacked, mayFail: true }, async (page, mock) => {
  const isText = async (where, least) => {
    const found = await page.evaluate(() => ({ hit: globalThis.hit, foreign: [...document.querySelectorAll("body img, body script, #view b b, iframe, [onerror], a[href^=javascript]")].length }));
    assert.deepEqual(found, { hit: undefined, foreign: 0 }, where);
    const told = (await page.locator("body").textContent()).split("<img src=x onerror").length - 1;
    assert.ok(told >= least, `${where}: ${told} of ${least}`);
  };
  await has(page, "keys/fabrikam/v1<img");
  await isText("overview", 12);
  for (const [view, sign, least] of [["refused", "nightly-batch<img", 12], ["access", "invite-guest<img", 10], ["health", "legacy<img", 30], ["keys-in-urls", "axios<img", 9], ["policy", "no app is named", 12]]) {
    await page.evaluate((view) => (location.hash = view), view);
    await has(page, sign);
    for (const button of await page.locator("#view .unfold").all()) await button.click();
    await page.poll();
    await isText(view, least);
  }
  await page.evaluate(() => (location.hash = "live"));
  await has(page, "Following.");
  mock.push({ ...mock.state.decisions[0], id: `new${XSS}`, path: `/${XSS}` });
  await eventually(page, () => has(page, "/<img"));
  await isText("live", 20);
  await page.locator("tbody button").first().click();
  await drawer(page).getByText("but not the app nightly-batch.<img").waitFor();
  await isText("drawer", 40);
  await page.keyboard.press("Escape");
  await page.evaluate((id) => (location.hash = `refused/${encodeURIComponent(id)}`), `unknown${XSS}`);
  await has(page, "unknown<img");
  await isText("lookup", 3);
  mock.state.faults = { "*": [403, `no${XSS}`] };
  await page.poll();
  await page.getByRole("alert").getByText("no<img").waitFor();
  await isText("alert", 1);
});

shown("no request of a kind is sent while one is under way", {}, async (page, mock) => {
  const held = [];
  mock.state.hold = (path) => (path === "/metrics" ? new Promise((on) => held.push(on)) : undefined);
  const asked = () => mock.asked.filter(({ path }) => path === "/readyz?verbose").length;
  const before = asked();
  for (let n = 1; n <= 3; n += 1) {
    const answered = page.waitForResponse((response) => response.url().endsWith("verbose"));
    await page.clock.runFor(2000);
    await (await answered).finished();
    await page.locator("#state .mark").waitFor();
  }
  assert.equal(held.length, 1);
  assert.equal(asked(), before + 3);
  mock.state.hold = null;
  held.forEach((on) => on());
  await page.waitForFunction(() => globalThis.polled > 1);
  await page.poll();
  assert.deepEqual([...mock.most].filter(([, most]) => most > 1), []);
});

shown("an answer that never comes is given up", { mayFail: true }, async (page, mock) => {
  mock.state.hold = () => new Promise(() => {});
  const before = await page.evaluate(() => globalThis.polled);
  await page.clock.runFor(2000);
  await page.clock.runFor(10000);
  await page.waitForFunction((before) => globalThis.polled > before, before);
  await page.getByRole("alert").getByText("The gateway has not answered since 12:00:12 UTC.").waitFor();
  mock.state.hold = null;
  await eventually(page, () => page.getByRole("alert").waitFor({ state: "detached" }));
});

shown("a tab that nobody looks at asks less often", {}, async (page, mock) => {
  const see = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  const polls = () => mock.asked.filter(({ path }) => path === "/metrics").length;
  await see(true);
  await page.poll();
  const before = polls();
  await page.clock.runFor(29000);
  await page.evaluate(() => 0);
  assert.equal(polls(), before);
  const asked = page.waitForRequest(/metrics$/);
  await page.clock.runFor(1000);
  await asked;
  await page.waitForFunction(() => globalThis.polled === 3);
  const again = page.waitForRequest(/metrics$/);
  await see(false);
  await again;
});

shown("focus, selection and what is unfolded outlast polls", { hash: "#refused" }, async (page, mock) => {
  await page.getByRole("button", { name: "backend-broken" }).click();
  await page.locator(".examples button").first().waitFor();
  await page.getByRole("button", { name: "backend-broken" }).focus();
  await page.evaluate(() => {
    const text = document.querySelector("tr.more .aside").firstChild;
    globalThis.text = text;
    getSelection().setBaseAndExtent(text, 0, text, 3);
  });
  // The reason's count overtakes the first, so its row moves up; and another app is refused.
  mock.state.metrics = traffic(1000, metric("portcullis_decisions_total", { route: "x", decision: "deny", reason: "backend-broken" }, 5000));
  mock.state.decisions.unshift(decision(1, { appName: "newcomer", app: "n" }));
  await page.poll();
  await page.waitForFunction(() => document.querySelector("tbody th").textContent.includes("backend-broken"));
  await has(page, "newcomer");
  const kept = await page.evaluate(() => ({ focus: document.activeElement.textContent, selected: getSelection().toString(), same: globalThis.text.isConnected }));
  assert.deepEqual(kept, { focus: "▾backend-broken", selected: "502", same: true });
  await page.getByLabel("Request ID").fill("half an");
  await page.poll();
  assert.equal(await page.getByLabel("Request ID").inputValue(), "half an");
  assert.equal(await page.evaluate(() => document.activeElement.id), "id");
});

shown("all can be done by keyboard", { hash: "" }, async (page) => {
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  const tabTo = async (text) => {
    const passed = [];
    while (passed.length < 60) {
      await press("Tab");
      const now = await focused();
      const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.notEqual(ring, "none", `the focus on ${now} is not seen`);
      if (now === text) return;
      passed.push(now);
    }
    assert.fail(`${text} was not reached: ${passed.join(", ")}`);
  };
  await press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Shift+Tab");
  await page.locator("#skip").focus();
  await tabTo("Refusals");
  await press("Enter");
  await page.getByRole("heading", { name: "Refusals", level: 1 }).waitFor();
  await page.waitForFunction(() => document.activeElement.id === "title");
  await tabTo("id");
  await page.keyboard.type(decision(4).id);
  await press("Enter");
  await page.getByRole("heading", { name: "Refused 403 app-not-allowed" }).waitFor();
  await tabTo("▸app-not-allowed");
  await press("Enter");
  await page.locator(".examples button").first().waitFor();
  await tabTo("11:59:56 POST api.contoso.com/invitations");
  await press("Enter");
  await drawer(page).getByText("Step by step").waitFor();
  await press("Escape");
  await drawer(page).waitFor({ state: "hidden" });
  assert.equal(await focused(), "11:59:56 POST api.contoso.com/invitations");
});

shown("the theme can be chosen against the system, and stays chosen", { theme: "light" }, async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), "rgb(246, 247, 249)");
  await page.getByLabel("Theme").selectOption("dark");
  assert.equal(await ground(), "rgb(18, 22, 27)");
  await page.reload();
  assert.equal(await ground(), "rgb(18, 22, 27)");
  await page.getByLabel("Theme").selectOption("");
  assert.equal(await ground(), "rgb(246, 247, 249)");
});
