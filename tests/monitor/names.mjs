// What the gateway sends, by names.json, and which of it a query asks for.
import { readFileSync } from "node:fs";

export const names = JSON.parse(readFileSync(new URL("names.json", import.meta.url), "utf8"));
const metrics = new Map(names.metrics.map((metric) => [metric.name, metric]));

const KEY = /customDimensions\s*(?:\[\s*["']([^"']*)["']\s*\]|\.\s*(\w+))/g;
const NAME = /\bname\s*(?:(?:==|!=|=~)\s*("[^"]*")|in~?\s*\(([^)]*)\))/g;

// What a query names that is not sent: metrics and events, and dimensions that none of what it reads has.
export function unknown(query, tables) {
  const found = [];
  const sent = new Set();
  const code = query.replace(/^\s*\/\/.*$/gm, "");
  for (const [, one, list] of code.matchAll(NAME)) {
    for (const [, name] of (one ?? list).matchAll(/"([^"]*)"/g)) {
      if (metrics.has(name)) metrics.get(name).attributes.forEach((attribute) => sent.add(attribute));
      else if (!names.customEvents.includes(name)) found.push(`name ${name}`);
    }
  }
  if ([...tables].some((table) => table !== "customMetrics")) {
    [...names.attributes, ...names.eventAttributes].forEach((attribute) => sent.add(attribute));
  }
  for (const [, inBrackets, afterDot] of code.matchAll(KEY)) {
    const key = inBrackets ?? afterDot;
    if (!sent.has(key)) found.push(`dimension ${key}`);
  }
  return found;
}
