// Templates for Azure Resource Manager: the workbook, and the alerts with the queries of deploy/monitor/alerts.
import { parse, question } from "./kql.mjs";

const SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";

export function workbookTemplate(workbook) {
  const serialized = JSON.stringify(workbook);
  if (serialized.split('"value":"value::1"').length !== 2) throw new Error("the workbook chooses its resource in one place");
  return {
    $schema: SCHEMA,
    contentVersion: "1.0.0.0",
    metadata: { description: "The workbook of Portcullis, beside an Application Insights component" },
    parameters: {
      component: { type: "string", metadata: { description: "The resource ID of the Application Insights component that the gateway sends to" } },
      name: { type: "string", defaultValue: "Portcullis", metadata: { description: "What the workbook is called" } },
      location: location(),
    },
    variables: { workbook: serialized },
    resources: [
      {
        type: "Microsoft.Insights/workbooks",
        apiVersion: "2022-04-01",
        name: "[guid(resourceGroup().id, parameters('component'), parameters('name'))]",
        location: "[parameters('location')]",
        kind: "shared",
        properties: {
          displayName: "[parameters('name')]",
          category: "workbook",
          version: "Notebook/1.0",
          sourceId: "[parameters('component')]",
          serializedData: `[replace(variables('workbook'), '"value":"value::1"', concat('"value":"', parameters('component'), '"'))]`,
        },
      },
    ],
    outputs: { workbookId: { type: "string", value: "[resourceId('Microsoft.Insights/workbooks', guid(resourceGroup().id, parameters('component'), parameters('name')))]" } },
  };
}

// One rule for each query. `measure` is the column that is compared, `by` the columns that split the rule into alerts.
const RULES = {
  denials: { severity: 2, every: "PT5M", over: "PT1H", measure: "denials", take: "Maximum", is: "GreaterThanOrEqual", threshold: "denialsLeast", by: ["route"] },
  "credential-expiring": { severity: 1, every: "PT5M", over: "PT15M", measure: "secondsLeft", take: "Minimum", is: "LessThan", threshold: "credentialSeconds", by: ["backend"] },
  "keys-stale": { severity: 2, every: "PT5M", over: "PT15M", measure: "age", take: "Maximum", is: "GreaterThan", threshold: "keysSeconds", by: ["tenant", "version"] },
  "not-ready": { severity: 1, every: "PT5M", over: "PT15M", measure: "replicas", take: "Maximum", is: "GreaterThan", threshold: 0, by: ["check"] },
  "no-data": { severity: 0, every: "PT5M", over: "PT10M", measure: "replicas", take: "Minimum", is: "LessThan", threshold: "replicas", by: [] },
  lost: { severity: 2, every: "PT5M", over: "PT15M", measure: "items", take: "Total", is: "GreaterThan", threshold: 0, by: ["what"] },
  latency: { severity: 2, every: "PT5M", over: "PT15M", measure: "p99", take: "Maximum", is: "GreaterThan", threshold: "latencyMilliseconds", by: ["route"] },
  "reload-refused": { severity: 2, every: "PT5M", over: "PT15M", measure: "refused", take: "Total", is: "GreaterThan", threshold: 0, by: ["replica"] },
  "sas-after": { severity: 2, every: "PT1H", over: "PT1H", measure: "calls", take: "Total", is: "GreaterThan", threshold: 0, by: ["route", "app"] },
};

// What stands for the parameters of the queries: the template's parameter, between these texts.
const VALUES = {
  role: { parameter: "role", before: '"', after: '"' },
  factor: { parameter: "denialsFactor", before: "", after: "" },
  least: { parameter: "latencyLeast", before: "", after: "" },
  end: { parameter: "sasEnd", before: "datetime(", after: ")" },
};

export function alertsTemplate(queries) {
  const missing = Object.keys(queries).filter((name) => !(name in RULES));
  if (missing.length) throw new Error(`no rule asks ${missing}`);
  return {
    $schema: SCHEMA,
    contentVersion: "1.0.0.0",
    metadata: { description: "Alerts of Portcullis on an Application Insights component, and the action group that they call" },
    parameters: {
      component: { type: "string", metadata: { description: "The resource ID of the Application Insights component that the gateway sends to" } },
      location: location(),
      prefix: { type: "string", defaultValue: "portcullis", metadata: { description: "What the names of all rules begin with" } },
      role: { type: "string", defaultValue: "portcullis", metadata: { description: "The gateway's telemetry.serviceName" } },
      email: { type: "string", defaultValue: "", metadata: { description: "Whom an action group of its own writes to; none is made where this is empty" } },
      actionGroups: { type: "array", defaultValue: [], metadata: { description: "Resource IDs of action groups that there are already" } },
      enabled: { type: "bool", defaultValue: true, metadata: { description: "Whether the rules act" } },
      denialsLeast: { type: "int", defaultValue: 50, minValue: 1, metadata: { description: "Sudden denials: at least so many in ten minutes" } },
      denialsFactor: { type: "int", defaultValue: 4, minValue: 1, metadata: { description: "Sudden denials: more than so many times as many as usual" } },
      credentialSeconds: { type: "int", defaultValue: 600, minValue: 1, metadata: { description: "Credentials: fewer seconds left than this" } },
      keysSeconds: { type: "int", defaultValue: 21600, minValue: 1, metadata: { description: "Signing keys: older than this; several times entra.refreshEvery" } },
      replicas: { type: "int", defaultValue: 1, minValue: 1, metadata: { description: "No data: fewer replicas than this tell anything" } },
      latencyMilliseconds: { type: "int", defaultValue: 5000, minValue: 1, metadata: { description: "Latency: a route's 99th percentile above this" } },
      latencyLeast: { type: "int", defaultValue: 100, minValue: 1, metadata: { description: "Latency: only from so many requests on" } },
      sasEnd: { type: "string", defaultValue: "2099-01-01", metadata: { description: "SAS: the day from which calls with a signature or key in the URL alert, as 2027-03-31" } },
    },
    variables: {
      actionGroup: "[concat(parameters('prefix'), '-alerts')]",
      actions: "[if(empty(parameters('email')), parameters('actionGroups'), concat(parameters('actionGroups'), createArray(resourceId('Microsoft.Insights/actionGroups', concat(parameters('prefix'), '-alerts')))))]",
    },
    resources: [actionGroup(), ...Object.entries(RULES).map(([name, rule]) => scheduledQueryRule(name, rule, queries[name]))],
  };
}

function actionGroup() {
  return {
    condition: "[not(empty(parameters('email')))]",
    type: "Microsoft.Insights/actionGroups",
    apiVersion: "2023-01-01",
    name: "[variables('actionGroup')]",
    location: "Global",
    properties: {
      groupShortName: "portcullis",
      enabled: true,
      emailReceivers: [{ name: "email", emailAddress: "[parameters('email')]", useCommonAlertSchema: true }],
    },
  };
}

function scheduledQueryRule(name, rule, query) {
  if (!query) throw new Error(`there is no query ${name}`);
  return {
    type: "Microsoft.Insights/scheduledQueryRules",
    apiVersion: "2021-08-01",
    name: `[concat(parameters('prefix'), '-${name}')]`,
    location: "[parameters('location')]",
    kind: "LogAlert",
    dependsOn: ["[resourceId('Microsoft.Insights/actionGroups', variables('actionGroup'))]"],
    properties: {
      displayName: `[concat(parameters('prefix'), ': ${name}')]`,
      description: question(query),
      severity: rule.severity,
      enabled: "[parameters('enabled')]",
      scopes: ["[parameters('component')]"],
      evaluationFrequency: rule.every,
      windowSize: rule.over,
      criteria: {
        allOf: [
          {
            query: queryExpression(query),
            metricMeasureColumn: rule.measure,
            timeAggregation: rule.take,
            operator: rule.is,
            threshold: typeof rule.threshold === "number" ? rule.threshold : `[parameters('${rule.threshold}')]`,
            dimensions: rule.by.map((column) => ({ name: column, operator: "Include", values: ["*"] })),
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 },
          },
        ],
      },
      autoMitigate: true,
      actions: { actionGroups: "[variables('actions')]" },
    },
  };
}

function queryExpression(query) {
  const { comment, parameters, body } = parse(query);
  const parts = [quoted(comment)];
  for (const { name } of parameters) {
    const { parameter, before, after } = VALUES[name];
    parts.push(quoted(`let ${name} = ${before}`), `string(parameters('${parameter}'))`, quoted(`${after};\n`));
  }
  parts.push(quoted(body));
  return `[concat(${parts.join(", ")})]`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "''")}'`;
}

function location() {
  return { type: "string", defaultValue: "[resourceGroup().location]", metadata: { description: "Where the resources are" } };
}
