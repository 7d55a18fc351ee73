// Writes the JSON of deploy/monitor from its queries and from make/. The tests compare what is written with what this would write.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { all, shipped } from "./make/kql.mjs";
import { workbook } from "./make/workbook.mjs";
import { alertsTemplate, workbookTemplate } from "./make/arm.mjs";
import { dashboard } from "./make/grafana.mjs";

export function generated() {
  const book = workbook(all("queries"));
  const files = {
    "workbook.json": book,
    "workbook.template.json": workbookTemplate(book),
    "alerts.template.json": alertsTemplate(all("alerts")),
    "grafana.json": dashboard(),
  };
  return Object.fromEntries(Object.entries(files).map(([name, value]) => [name, JSON.stringify(value, null, 2) + "\n"]));
}

if (process.argv[1] === import.meta.filename) {
  for (const [name, text] of Object.entries(generated())) writeFileSync(join(shipped, name), text);
}

export function written(name) {
  return readFileSync(join(shipped, name), "utf8");
}
