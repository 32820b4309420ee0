import { execFile } from "node:child_process";

import { join } from "node:path";
import { promisify } from "node:util";

const chart = join(import.meta.dirname, "../../deploy/helm/envoy-mcp-auth");

/** The output of `helm template gateway` for a values file. */
export async function renderChart(helm: string, values: string): Promise<string> {
  const args = ["template", "gateway", chart, "--namespace", "mcp", "--values", values];
  const { stdout } = await promisify(execFile)(helm, args);
  return stdout;
}
