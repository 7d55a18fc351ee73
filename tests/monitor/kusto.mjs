// Microsoft's own parser and binder for KQL, with the tables of Application Insights.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");
const { Kusto, Bridge } = globalThis;

const COMMON = `customDimensions: dynamic, operation_Name: string, operation_Id: string, operation_ParentId: string,
  operation_SyntheticSource: string, session_Id: string, user_Id: string, user_AuthenticatedId: string, user_AccountId: string,
  application_Version: string, client_Type: string, client_Model: string, client_OS: string, client_IP: string, client_City: string,
  client_StateOrProvince: string, client_CountryOrRegion: string, client_Browser: string, cloud_RoleName: string,
  cloud_RoleInstance: string, appId: string, appName: string, iKey: string, sdkVersion: string, itemId: string, itemType: string`;
const ITEM = `timestamp: datetime, itemCount: int, customMeasurements: dynamic, ${COMMON}`;

const TABLES = {
  requests: `id: string, source: string, name: string, url: string, success: string, resultCode: string, duration: real,
    performanceBucket: string, ${ITEM}`,
  dependencies: `id: string, target: string, type: string, name: string, data: string, success: string, resultCode: string,
    duration: real, performanceBucket: string, ${ITEM}`,
  exceptions: `problemId: string, handledAt: string, type: string, message: string, assembly: string, method: string,
    outerType: string, outerMessage: string, outerAssembly: string, outerMethod: string, innermostType: string,
    innermostMessage: string, innermostAssembly: string, innermostMethod: string, severityLevel: int, details: dynamic, ${ITEM}`,
  traces: `message: string, severityLevel: int, ${ITEM}`,
  customEvents: `name: string, ${ITEM}`,
  customMetrics: `name: string, timestamp: datetime, value: real, valueCount: int, valueSum: real, valueMin: real, valueMax: real,
    valueStdDev: real, ${COMMON}`,
};

const { Symbols } = Kusto.Language;
const members = Object.entries(TABLES).map(([name, columns]) => Symbols.TableSymbol.From(`(${columns})`).WithName(name));
const globals = Kusto.Language.GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor1("insights", members));

const analysed = new Map();

function analyse(query) {
  if (!analysed.has(query)) analysed.set(query, Kusto.Language.KustoCode.ParseAndAnalyze(query, globals));
  return analysed.get(query);
}

// Everything that is wrong with a query: its syntax, and what its names and types come to.
export function faults(query) {
  return Bridge.toArray(analyse(query).GetDiagnostics()).map((found) => {
    const line = query.slice(0, found.Start).split("\n").length;
    return `line ${line}: ${found.Severity} ${found.Code}: ${found.Message}`;
  });
}

// The columns that a query answers with, each with its type.
export function columns(query) {
  return Object.fromEntries(Bridge.toArray(analyse(query).ResultType.Columns).map((column) => [column.Name, column.Type.Name]));
}

// The tables that a query reads.
export function tables(query) {
  const read = new Set();
  Kusto.Language.Syntax.SyntaxElement.WalkNodes(analyse(query).Syntax, (node) => {
    const symbol = node.ReferencedSymbol;
    if (symbol && Bridge.is(symbol, Symbols.TableSymbol) && symbol.Name in TABLES) read.add(symbol.Name);
  });
  return read;
}
