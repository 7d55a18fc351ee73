// How the page looks and reads in each of its states: what axe finds in dark and light, and whether it fits a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, violations } from "./browser.mjs";
import { decision, emptyWorld, manyRoutes, serve, traffic, world } from "./mock.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const unfoldAll = async (page) => {
  for (const button of await page.locator("#view .unfold").all()) await button.click();
  for (const summary of await page.locator("#view summary").all()) await summary.click();
};

/** States: where, of what world, and what is done there until what is to be seen. */
const STATES = {
  overview: ["#overview", world, async (page, mock) => {
    mock.state.metrics = traffic(1002);
    await page.poll();
    await unfoldAll(page);
  }],
  refusals: ["#refused", world, async (page) => {
    await page.getByRole("button", { name: "app-not-allowed" }).waitFor();
    await page.getByRole("button", { name: "nightly-batch" }).waitFor();
    await unfoldAll(page);
    await page.locator(".examples").nth(5).waitFor();
  }],
  explained: [`#refused/${decision(4).id}`, world, (page) => page.getByText("Step by step").waitFor()],
  unknown: ["#refused/0190b0a4-0000-0000-0000-000000000000", world, (page) => page.getByText("The gateway says").waitFor()],
  live: ["#live", world, async (page) => {
    await page.locator("tbody tr").nth(4).waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
  }],
  drawer: ["#live", world, async (page) => {
    await page.locator("tbody button").first().click();
    await page.getByRole("dialog").getByText("Step by step").waitFor();
    await page.getByRole("dialog").getByText("As JSON").click();
  }],
  access: ["#access", world, async (page) => {
    await page.getByRole("button", { name: "read-guests" }).waitFor();
    await unfoldAll(page);
  }],
  "access, many": ["#access", () => ({ ...world(), json: { ...world().json, "/access": manyRoutes(60, 60) } }), async (page) => {
    await page.getByLabel("Search").fill("things/5");
    await page.getByText("11 of 60 routes; 40 of 60 callers").waitFor();
  }],
  health: ["#health", world, (page) => page.getByText("The store of limits answers.").waitFor()],
  sightings: ["#keys-in-urls", world, (page) => page.getByText("axios").waitFor()],
  policy: ["#policy", world, async (page) => {
    await page.getByRole("region", { name: "Who gained" }).waitFor();
    await unfoldAll(page);
  }],
  ...Object.fromEntries(["overview", "refused", "live", "access", "health", "keys-in-urls", "policy"].map((view) => [`empty ${view}`, [`#${view}`, emptyWorld, (page) => page.locator(".empty").first().waitFor()]])),
  token: ["#overview", () => ({ ...world(), token: "x".repeat(32) }), async (page) => {
    await page.getByRole("textbox", { name: "Bearer token" }).fill("wrong");
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByText("did not take").waitFor();
  }],
  forbidden: ["#policy", () => ({ ...world(), faults: { "*": [403, "write `admin.tls` and `admin.bearer` into gateway.yaml"] } }), (page) => page.getByRole("alert").waitFor()],
  "at fault": ["#health", world, async (page, mock) => {
    await page.getByText("The store of limits answers.").waitFor();
    mock.state.faults = { "/keys": [500, "the gateway failed"], "/limits": [500, "the gateway failed"] };
    await page.poll();
    await page.getByText("This is 2 s old").nth(1).waitFor();
  }],
  ...Object.fromEntries(["overview", "health", "policy"].map((view) => [`away ${view}`, [`#${view}`, world, async (page, mock) => {
    mock.state.metrics = traffic(1002);
    await page.poll();
    await page.locator("#view section").nth(2).waitFor();
    mock.state.isAway = true;
    await page.poll();
    await page.getByRole("alert").waitFor();
  }]])),
};

for (const [name, [hash, state, act]] of Object.entries(STATES)) {
  test(`${name}: nothing for axe to find in light and dark, and no page that scrolls sideways at 360 px`, async () => {
    const mock = await serve(state());
    const page = await open(browser, mock.url, { hash, mayFail: true });
    try {
      await act(page, mock);
      // axe waits by the clock.
      await page.clock.resume();
      await page.evaluate(() => scrollTo(0, 0));
      assert.deepEqual(await violations(page), [], "light");
      // Only colours differ.
      await page.emulateMedia({ colorScheme: "dark" });
      assert.deepEqual(await violations(page, ["color-contrast"]), [], "dark");
      await page.setViewportSize({ width: 360, height: 740 });
      const wide = await page.evaluate(() => {
        const far = [...document.querySelectorAll("body *")].filter((each) => !each.closest(".scroll, pre, nav ul, .hidden, .skip") && each.getBoundingClientRect().right > 360.5);
        return { page: document.documentElement.scrollWidth, dialog: document.querySelector("dialog").scrollWidth, far: far.map((each) => each.outerHTML.slice(0, 120)) };
      });
      assert.deepEqual({ ...wide, dialog: wide.dialog <= 360 }, { page: 360, dialog: true, far: [] });
      const small = await page.evaluate(() => [...document.querySelectorAll("button, select, input, nav a")].map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => box.height > 0 && box.height < 24).map(([each]) => each.outerHTML.slice(0, 120)));
      assert.deepEqual(small, [], "too small to touch");
      assert.deepEqual(await page.faults(), []);
    } finally {
      await page.done();
      await mock.close();
    }
  });
}

test("tables scroll in a region of their own, which the keyboard reaches", async () => {
  const mock = await serve(world());
  const page = await open(browser, mock.url, { hash: "#live", width: 360, height: 740 });
  try {
    const region = page.getByRole("region", { name: "The newest 200 decisions" });
    await region.focus();
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => document.querySelector(".scroll").scrollLeft > 0);
    assert.equal(await page.evaluate(() => scrollX), 0);
  } finally {
    await page.done();
    await mock.close();
  }
});
