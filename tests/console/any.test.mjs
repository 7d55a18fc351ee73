// What holds of any gateway that has refused somebody: of the mock, or of the one whose admin address PORTCULLIS_ADMIN names.
//
// PORTCULLIS_ADMIN_TOKEN is its bearer token, if it wants one. PORTCULLIS_CALL is a URL at the callers' address; a GET of it
// must be refused, and is sent once to have a decision.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import http from "node:http";
import https from "node:https";
import { launch, open, violations } from "./browser.mjs";
import { decision, serve, world } from "./mock.mjs";

const token = process.env.PORTCULLIS_ADMIN_TOKEN;
const call = process.env.PORTCULLIS_CALL;
let [admin, refuse, browser] = [process.env.PORTCULLIS_ADMIN, null, null];

before(async () => {
  browser = await launch();
  if (admin) {
    assert.ok(call, "PORTCULLIS_CALL must name a URL that the gateway refuses");
    // Its certificate is one for tests.
    refuse = () => new Promise((on, failed) => {
      const sent = (call.startsWith("https:") ? https : http).get(call, { rejectUnauthorized: false }, (answer) => {
        let text = "";
        answer.on("data", (more) => (text += more));
        answer.on("end", () => on(JSON.parse(text)));
      });
      sent.on("error", failed);
    });
  } else {
    const mock = await serve({ ...world(), token });
    admin = mock.url;
    let n = 0;
    refuse = async () => {
      const made = decision(0, { id: `0190b0a4-7c3e-4d5f-8a6b-${String(900 + (n += 1)).padStart(12, "0")}` });
      mock.push(made);
      return { instance: `urn:uuid:${made.id}`, reason: made.reason, status: made.status, title: mock.state.explanation(made).title };
    };
  }
});
after(() => browser.close());

async function at(hash, act, how = {}) {
  const page = await open(browser, new URL("/", admin).href, { hash, stands: false, mayFail: Boolean(token), ...how });
  try {
    if (token) {
      await page.getByRole("textbox", { name: "Bearer token" }).fill(token);
      await page.getByRole("button", { name: "Use it" }).click();
    }
    await page.locator("#state").getByText("eady").waitFor();
    await act(page);
    assert.deepEqual(await page.faults(), []);
  } finally {
    await page.done();
  }
}

for (const view of ["overview", "refused", "live", "access", "health", "keys-in-urls", "policy"]) {
  test(`${view}: it is all read and shown`, () => at(`#${view}`, async (page) => {
    // Nothing is asked for any more, and nothing has failed.
    await page.waitForFunction(() => !/Asking for|Connecting/.test(document.querySelector("#view").textContent) && document.querySelectorAll("#view > div > *").length > 1);
    assert.deepEqual(await page.locator("#view .note, #notes > *").allInnerTexts(), []);
    assert.match(await page.locator("#facts").innerText(), /Policy \S+ for \d+/);
    // Of the mock, looks.test.mjs asks more.
    if (process.env.PORTCULLIS_ADMIN) assert.deepEqual(await violations(page), []);
    await page.setViewportSize({ width: 360, height: 740 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  }));
}

test("figures come with the second poll", () => at("#overview", async (page) => {
  await page.waitForFunction(() => /^[\d.,]+\/s$/.test(document.querySelector(".tile .figure").textContent));
}));

test("a request that is refused shows at once in the live list, and is explained by its ID", () => at("#live", async (page) => {
  await page.getByText("Following.").waitFor();
  const answer = await refuse();
  const id = answer.instance.replace("urn:uuid:", "");
  await page.locator("tbody tr", { hasText: answer.reason }).first().waitFor();
  await page.evaluate(() => (location.hash = "refused"));
  await page.getByLabel("Request ID").fill(JSON.stringify(answer));
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("heading", { name: `Refused ${answer.status} ${answer.reason}` }).waitFor();
  await page.locator(".explanation").getByText(answer.title).first().waitFor();
  await page.locator(".fields").getByText(id).waitFor();
}));

test("an example in the refusals opens the whole decision", async () => {
  const { reason } = await refuse();
  await at("#refused", async (page) => {
    await page.getByRole("button", { name: reason, exact: true }).click();
    await page.locator(".examples button").first().click();
    await page.getByRole("dialog").getByRole("heading", { name: reason }).waitFor();
    await page.getByRole("dialog").locator(".explanation").waitFor();
  });
});
