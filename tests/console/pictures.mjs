// Pictures of the page in its states, to be looked at: target/console/*.png.

import { mkdir } from "node:fs/promises";
import { launch, open } from "./browser.mjs";
import { decision, emptyWorld, manyRoutes, serve, traffic, world } from "./mock.mjs";

const TO = new URL("../../target/console/", import.meta.url).pathname;
await mkdir(TO, { recursive: true });
const browser = await launch();
const only = process.argv[2];

/** Opens the page at `hash`, lets `polls` polls of uneven traffic happen, and takes a picture. */
async function picture(name, hash, { state = world(), polls = 1, act, ...how } = {}) {
  if (only && !name.includes(only)) return;
  const mock = await serve(state);
  const page = await open(browser, mock.url, { hash, mayFail: true, ...how });
  await page.waitForFunction(() => document.querySelector("#state .mark:not(.none)"));
  let seconds = 1000;
  for (let n = 1; n <= polls; n += 1) {
    seconds += 2 + Math.sin(n / 6) + (n % 7) / 5;
    if (polls > 1) state.metrics = traffic(seconds);
    await page.poll();
  }
  await act?.(page, mock);
  await page.waitForFunction(() => !document.querySelector("#view")?.textContent.includes("Asking for"));
  await page.screenshot({ path: `${TO}${name}.png`, fullPage: true });
  await page.done();
  await mock.close();
}

const VIEWS = ["overview", "refused", "live", "access", "health", "keys-in-urls", "policy"];
const unfold = (name) => async (page) => {
  await page.getByRole("button", { name }).click();
  await page.locator(".examples").first().waitFor();
};
for (const theme of ["light", "dark"]) {
  for (const view of VIEWS) {
    const act = { refused: unfold("app-not-allowed"), live: (page) => page.locator("td").first().waitFor(), access: (page) => page.getByRole("button", { name: "read-guests" }).click() }[view];
    await picture(`${theme}-${view}`, `#${view}`, { theme, polls: view === "overview" ? 60 : 2, act });
  }
  await picture(`${theme}-why`, `#refused/${decision(4).id}`, { theme, act: (page) => page.locator(".explanation").waitFor() });
  await picture(`${theme}-drawer`, "#live", { theme, act: async (page) => {
    await page.locator("tbody button").first().click();
    await page.locator("dialog .explanation").waitFor();
  } });
}
for (const view of VIEWS) await picture(`phone-${view}`, `#${view}`, { width: 360, height: 740, polls: view === "overview" ? 60 : 2, act: view === "live" ? (page) => page.locator("td").first().waitFor() : undefined });
for (const view of VIEWS) await picture(`empty-${view}`, `#${view}`, { state: emptyWorld() });
await picture("error-token", "#overview", { state: { ...world(), token: "x".repeat(32) } });
await picture("error-forbidden", "#overview", { state: { ...world(), faults: { "*": [403, "this address is not loopback: write `admin.tls` and one of `admin.bearer` and `admin.tls.clientCa` into gateway.yaml"] } } });
await picture("error-not-ready", "#overview", { state: { ...world(), isReady: false, ready: "[-] keys failed: no tenant's signing keys are loaded\n[+] serving ok\n[!] backend/invite-flow degraded: the breaker is open\nnot ready\n" } });
await picture("error-unknown", "#refused/0190b0a4-0000-0000-0000-000000000000", { act: (page) => page.getByText("does not know").waitFor() });
await picture("error-fault", "#health", { state: { ...world(), faults: { "/keys": [500, "the gateway failed"] } } });
await picture("error-away", "#overview", { polls: 10, act: async (page, mock) => {
  mock.state.isAway = true;
  await page.poll();
  await page.getByText("has not answered").waitFor();
} });
const many = world();
many.json["/access"] = manyRoutes(500, 60);
await picture("many-access", "#access", { state: many });
await browser.close();
