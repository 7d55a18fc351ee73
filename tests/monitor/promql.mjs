// PromQL by Prometheus' own grammar: which metrics an expression reads, and which labels it names.
import { parser } from "@prometheus-io/lezer-promql";
import { names } from "./names.mjs";

const PLACE = ["job", "instance"];
const known = new Map();
for (const { prometheus, kind, attributes } of names.metrics) {
  const labels = [...attributes.map((attribute) => attribute.replaceAll(".", "_")), ...PLACE];
  if (kind !== "histogram") known.set(prometheus, labels);
  else {
    known.set(`${prometheus}_bucket`, [...labels, "le"]);
    known.set(`${prometheus}_count`, labels);
    known.set(`${prometheus}_sum`, labels);
  }
}

// What an expression reads: metrics, and labels. Throws where it is no PromQL.
export function read(expression) {
  const metrics = new Set();
  const labels = new Set();
  parser.parse(expression).iterate({
    enter(node) {
      const text = expression.slice(node.from, node.to);
      if (node.type.isError) throw new Error(`no PromQL at "${expression.slice(node.from, node.from + 40)}" in: ${expression}`);
      if (node.name === "Identifier") metrics.add(text);
      if (node.name === "LabelName") labels.add(text);
    },
  });
  return { metrics, labels };
}

// What an expression names that no gateway tells; `recorded` has the labels of what rules record.
export function unknown(expression, recorded = new Map()) {
  const { metrics, labels } = read(expression);
  const found = [];
  const there = new Set();
  for (const metric of metrics) {
    const own = known.get(metric) ?? recorded.get(metric);
    if (own) own.forEach((label) => there.add(label));
    else found.push(`metric ${metric}`);
  }
  for (const label of labels) if (!there.has(label)) found.push(`label ${label}`);
  return found;
}
