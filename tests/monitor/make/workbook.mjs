// The workbook: the queries of deploy/monitor/queries, with the workbook's parameters for theirs.
import { question, withParameters } from "./kql.mjs";

export const SCHEMA = "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json";

const COMPONENTS = "microsoft.insights/components";

// What stands for the parameters of the queries.
export const VALUES = {
  since: "datetime('{TimeRange:startISO}')",
  until: "datetime('{TimeRange:endISO}')",
  step: "{TimeRange:grain}",
  role: '"{Role}"',
  onlyRoute: '"{Route}"',
  onlyApp: '"{App}"',
  fingerprint: '"{Fingerprint}"',
  caller: '"{Caller}"',
  request: '"{Request}"',
};

const TABS = [
  {
    tab: "overview",
    label: "Overview",
    steps: [
      { query: "decisions-over-time", title: "Decisions", chart: "areachart" },
      { query: "latency", title: "Latency by route, milliseconds", width: "50" },
      { query: "overhead", title: "Time that the gateway adds, milliseconds", chart: "linechart", width: "50" },
      { query: "backend-errors", title: "Backends" },
      { query: "replicas", title: "Replicas" },
    ],
  },
  {
    tab: "denials",
    label: "Denials",
    parameters: [["App", "App: name or ID, * for all", "*"]],
    steps: [
      { query: "denials", title: "Who is refused, and why" },
      { query: "limits", title: "Limits that refuse, or would" },
      { query: "would-be-refused", title: "What would be refused if it were enforced" },
      { query: "would-be-refused-callers", title: "Callers that would be refused if it were enforced" },
    ],
  },
  {
    tab: "callers",
    label: "Callers",
    parameters: [
      ["Caller", "Caller: principal, app, address, or h:…", "none"],
      ["Request", "Request ID or operation_Id", "none"],
    ],
    steps: [
      { query: "traffic", title: "Traffic by tenant, app and route" },
      { query: "caller", title: "What one caller did, in order" },
      { query: "request", title: "One request, at the gateway and behind it" },
    ],
  },
  {
    tab: "sas",
    label: "SAS",
    parameters: [["Fingerprint", "Fingerprint, * for all", "*"]],
    steps: [
      { query: "sas", title: "Who still calls with a signature or key in the URL" },
      { query: "sas-fingerprints", title: "Signatures and keys in use, by fingerprint" },
    ],
  },
  {
    tab: "health",
    label: "Health",
    steps: [
      { query: "checks", title: "Checks that are or were not in order" },
      { query: "keys", title: "Signing keys", width: "50" },
      { query: "credentials", title: "Credentials for backends", width: "50" },
      { query: "failures", title: "The gateway's own failures" },
      { query: "reloads", title: "Reloads, warnings and errors" },
      { query: "lost", title: "Records, decisions and telemetry that were lost" },
    ],
  },
];

export function workbook(queries) {
  const used = new Set(["routes"]);
  const items = [
    text("# Portcullis\nWho calls, who is refused and why, and whether the gateway is well. Each table is a query of `deploy/monitor/queries`."),
    parameters("parameters", [resource(), timeRange(), role(), route(queries)]),
    tabs(),
  ];
  for (const { tab, parameters: own, steps } of TABS) {
    const visible = { parameterName: "Tab", comparison: "isEqualTo", value: tab };
    if (own) items.push({ ...parameters(`${tab}-parameters`, own.map(([name, label, value]) => textParameter(name, label, value))), conditionalVisibility: visible });
    for (const step of steps) {
      if (!(step.query in queries)) throw new Error(`there is no query ${step.query}`);
      used.add(step.query);
      items.push({ ...table(step, queries[step.query]), conditionalVisibility: visible });
    }
  }
  const left = Object.keys(queries).filter((name) => !used.has(name));
  if (left.length) throw new Error(`no tab shows ${left}`);
  return { version: "Notebook/1.0", items, fallbackResourceIds: [], $schema: SCHEMA };
}

export function forWorkbook(query) {
  return withParameters(query, (name) => {
    if (!(name in VALUES)) throw new Error(`the workbook has nothing for the parameter ${name}`);
    return VALUES[name];
  });
}

function table({ title, chart, width, query }, kql) {
  const content = {
    version: "KqlItem/1.0",
    query: forWorkbook(kql),
    size: chart ? 0 : 1,
    showAnalytics: true,
    title,
    noDataMessage: `Nothing in this time. ${question(kql)}`,
    timeContextFromParameter: "TimeRange",
    showExportToExcel: true,
    queryType: 0,
    resourceType: COMPONENTS,
    crossComponentResources: ["{Resource}"],
    visualization: chart ?? "table",
  };
  if (!chart) content.gridSettings = { rowLimit: 1000, filter: true };
  return { type: 3, content, ...(width && { customWidth: width }), name: query };
}

function text(json) {
  return { type: 1, content: { json }, name: "title" };
}

function parameters(name, list) {
  return {
    type: 9,
    content: {
      version: "KqlParameterItem/1.0",
      crossComponentResources: ["{Resource}"],
      parameters: list,
      style: "pills",
      queryType: 0,
      resourceType: COMPONENTS,
    },
    name,
  };
}

function resource() {
  return {
    id: id(1),
    version: "KqlParameterItem/1.0",
    name: "Resource",
    label: "Application Insights",
    type: 5,
    isRequired: true,
    value: "value::1",
    query: "where type =~ 'microsoft.insights/components'\n| project id",
    crossComponentResources: ["value::selected"],
    typeSettings: { resourceTypeFilter: { [COMPONENTS]: true }, additionalResourceOptions: ["value::1"] },
    queryType: 1,
    resourceType: "microsoft.resourcegraph/resources",
  };
}

function timeRange() {
  const hours = [1, 4, 12, 24, 72, 168, 720];
  return {
    id: id(2),
    version: "KqlParameterItem/1.0",
    name: "TimeRange",
    label: "Time range",
    type: 4,
    isRequired: true,
    value: { durationMs: 24 * 3600000 },
    typeSettings: { selectableValues: hours.map((n) => ({ durationMs: n * 3600000 })), allowCustom: true },
  };
}

function role() {
  return { ...textParameter("Role", "Gateway (telemetry.serviceName)", "portcullis"), isRequired: true };
}

function route(queries) {
  return {
    id: id(4),
    version: "KqlParameterItem/1.0",
    name: "Route",
    type: 2,
    isRequired: true,
    value: "*",
    query: forWorkbook(queries.routes),
    crossComponentResources: ["{Resource}"],
    typeSettings: { additionalResourceOptions: [] },
    timeContextFromParameter: "TimeRange",
    queryType: 0,
    resourceType: COMPONENTS,
  };
}

function textParameter(name, label, value) {
  return { id: id(name), version: "KqlParameterItem/1.0", name, label, type: 1, value };
}

function tabs() {
  return {
    type: 11,
    content: {
      version: "LinkItem/1.0",
      style: "tabs",
      links: TABS.map(({ tab, label }, at) => ({
        id: id(100 + at),
        cellValue: "Tab",
        linkTarget: "parameter",
        linkLabel: label,
        subTarget: tab,
        style: "link",
      })),
    },
    name: "tabs",
  };
}

// An ID that stays the same from one run to the next.
function id(of) {
  const digits = typeof of === "number" ? of : 1000 + [...of].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 0xffffffff, 0);
  return `70726374-0000-4000-8000-${digits.toString(16).padStart(12, "0")}`;
}
