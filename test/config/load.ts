import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { createRouteTable } from "../../src/config/route-table.ts";
import { configFile } from "./config-file.ts";

const head =
  "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\npolicy: {allow: {or: [{accept: true}]}}\n";

/** Loads `routes` (YAML list items) after three lines with issuer, provider and policy. @throws on problems */
export function load(routes: string, env: Record<string, string> = {}) {
  const loaded = loadConfig(configFile(`${head}routes:\n${routes}`), env);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join("\n"));
  return { ...loaded, table: createRouteTable(loaded.config) };
}
