// As much of Azure Resource Manager's template language as the templates here use: what a deployment would create.

export const GROUP = { id: "/subscriptions/s/resourceGroups/g", name: "g", location: "westeurope" };

export function deploy(template, given) {
  for (const name of Object.keys(given)) {
    if (!(name in template.parameters)) throw new Error(`there is no parameter ${name}`);
  }
  const parameters = {};
  const scope = { parameters, variables: {} };
  for (const [name, { type, defaultValue, minValue }] of Object.entries(template.parameters)) {
    if (!(name in given) && defaultValue === undefined) throw new Error(`the parameter ${name} is missing`);
    const value = given[name] ?? evaluate(defaultValue, scope);
    if (!TYPES[type](value) || value < minValue) throw new Error(`the parameter ${name} is no ${type}: ${JSON.stringify(value)}`);
    parameters[name] = value;
  }
  for (const [name, value] of Object.entries(template.variables)) scope.variables[name] = evaluate(value, scope);
  evaluate(template.outputs ?? {}, scope);
  return template.resources.map((resource) => evaluate(resource, scope)).filter(({ condition }) => condition !== false);
}

const TYPES = {
  string: (value) => typeof value === "string",
  int: (value) => Number.isInteger(value),
  bool: (value) => typeof value === "boolean",
  array: Array.isArray,
};

const FUNCTIONS = {
  concat: (...parts) => (Array.isArray(parts[0]) ? parts.flat() : parts.map(text).join("")),
  createArray: (...items) => items,
  empty: (value) => value.length === 0,
  guid: (...parts) => `guid(${parts})`,
  if: (condition, yes, no) => (condition ? yes : no),
  not: (value) => !value,
  replace: (whole, from, to) => text(whole).replaceAll(from, () => to),
  resourceGroup: () => GROUP,
  resourceId: (type, ...names) => `${GROUP.id}/providers/${type}/${names.join("/")}`,
  string: (value) => (typeof value === "string" ? value : JSON.stringify(value)),
};

function text(value) {
  if (typeof value !== "string") throw new Error(`no text: ${JSON.stringify(value)}`);
  return value;
}

function evaluate(value, scope) {
  if (Array.isArray(value)) return value.map((item) => evaluate(item, scope));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, evaluate(item, scope)]));
  if (typeof value !== "string" || !value.startsWith("[")) return value;
  if (value.startsWith("[[")) return value.slice(1);
  const reader = new Reader(value.slice(1, -1), scope);
  const result = reader.expression();
  if (!value.endsWith("]") || reader.rest !== "") throw new Error(`not understood: ${reader.rest.slice(0, 60)}`);
  return result;
}

class Reader {
  constructor(rest, scope) {
    this.rest = rest;
    this.scope = scope;
  }

  take(pattern) {
    const found = pattern.exec(this.rest);
    if (!found) throw new Error(`expected ${pattern} at: ${this.rest.slice(0, 60)}`);
    this.rest = this.rest.slice(found[0].length);
    return found;
  }

  expression() {
    if (this.rest.startsWith("'")) return this.take(/^'((?:[^']|'')*)'/)[1].replaceAll("''", "'");
    const name = this.take(/^(\w+)\(/)[1];
    const given = [];
    while (!this.rest.startsWith(")")) {
      if (given.length) this.take(/^,\s*/);
      given.push(this.expression());
    }
    this.take(/^\)/);
    let value = this.call(name, given);
    while (this.rest.startsWith(".")) value = this.member(value, this.take(/^\.(\w+)/)[1]);
    return value;
  }

  call(name, given) {
    if (name === "parameters" || name === "variables") return this.member(this.scope[name], given[0]);
    if (!(name in FUNCTIONS)) throw new Error(`there is no function ${name}`);
    return FUNCTIONS[name](...given);
  }

  member(value, name) {
    if (!(name in value)) throw new Error(`there is no ${name}`);
    return value[name];
  }
}
