// Reads a .kql file: the comment at its head, its parameters (`let name = value;`), and what is asked.
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

export const shipped = fileURLToPath(new URL("../../../deploy/monitor/", import.meta.url));

const HEAD = /^((?:\/\/.*\n)+)((?:let \w+ = (?:ago|now|datetime|"|\d).*;\n)*)/;

export function parse(text) {
  const found = HEAD.exec(text);
  if (!found) throw new Error("a query begins with a comment that says what it answers");
  const parameters = [...found[2].matchAll(/^let (\w+) = (.*);$/gm)].map(([, name, value]) => ({ name, value }));
  return { comment: found[1], parameters, body: text.slice(found[0].length) };
}

export function all(folder) {
  return Object.fromEntries(
    readdirSync(join(shipped, folder))
      .filter((file) => file.endsWith(".kql"))
      .sort()
      .map((file) => [file.slice(0, -4), readFileSync(join(shipped, folder, file), "utf8")]),
  );
}

// The question that the first line of the comment asks.
export function question(text) {
  return parse(text).comment.split("\n")[0].replace(/^\/\/ /, "");
}

// The same query with other values for its parameters, each given by `valueOf(name)`.
export function withParameters(text, valueOf) {
  const { comment, parameters, body } = parse(text);
  return comment + parameters.map(({ name }) => `let ${name} = ${valueOf(name)};\n`).join("") + body;
}
