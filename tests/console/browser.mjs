// A browser whose clock stands still until a test moves it, and which watches for what a page must never do.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { NOW } from "./mock.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });

/** Milliseconds between two polls of the page. */
export const POLL = 2000;

/** A page at `url`. `faults` collects violations of the policy, errors, and requests that leave the origin. */
export async function open(browser, url, { hash = "", theme = "light", width = 1280, height = 900, stands = true, mayFail = false } = {}) {
  const context = await browser.newContext({ colorScheme: theme, viewport: { width, height }, reducedMotion: "reduce", ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  const faults = [];
  const origin = new URL(url).origin;
  page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    // Chromium writes of every answer that is not 2xx.
    const isFailedRequest = message.text().startsWith("Failed to load resource") && message.location().url.startsWith(origin);
    if (["error", "warning"].includes(message.type()) && !(mayFail && isFailedRequest)) faults.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith("data:")) faults.push(`request to ${request.url()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    // Counts how often the page has read the metrics or failed to, once it has shown what came of it.
    globalThis.polled = 0;
    const { port1, port2 } = new MessageChannel();
    port2.onmessage = () => (globalThis.polled += 1);
    const real = globalThis.fetch;
    globalThis.fetch = async (path, ...more) => {
      if (path !== "/metrics") return real(path, ...more);
      try {
        const response = await real(path, ...more);
        const text = response.text.bind(response);
        response.text = () => text().finally(() => port1.postMessage(null));
        return response;
      } catch (fault) {
        port1.postMessage(null);
        throw fault;
      }
    };
  });
  if (stands) {
    // It runs until it is paused, so it begins well before.
    await page.clock.install({ time: Date.parse(NOW) - 3600000 });
    await page.clock.pauseAt(NOW);
  }
  await page.goto(url + hash);
  await page.locator("#view h1").waitFor();
  await page.waitForFunction(() => globalThis.polled > 0);
  return Object.assign(page, {
    /** What went wrong; empty is good. */
    faults: async () => [...faults, ...(await page.evaluate(() => globalThis.violations)).map((each) => `violation: ${each}`)],
    /** Lets the next poll happen, and waits until it is shown. */
    poll: async () => {
      const before = await page.evaluate(() => globalThis.polled);
      await page.clock.runFor(POLL);
      await page.waitForFunction((before) => globalThis.polled > before, before);
    },
    done: () => context.close(),
  });
}

const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** What axe finds by its rules, in lines. */
export async function violations(page, runOnly = RULES) {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(axe);
  const { violations } = await page.evaluate((runOnly) => globalThis.axe.run(document, { runOnly }), runOnly);
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`));
}
