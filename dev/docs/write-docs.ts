import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { program } from "../../src/cli/program.ts";
import { clients, upstreams } from "../../test/compatibility/catalog.ts";
import { notYet } from "../../test/compatibility/not-yet.ts";
import { goTool } from "../go-tools.ts";
import { cliReference } from "./cli-reference.ts";
import { compatibilityPage } from "./compatibility-page.ts";
import { withLabelValues } from "./label-values.ts";
import { renderChart } from "./render-chart.ts";
import { valuesSchema } from "./values-schema.ts";
import { chartReadme } from "./values-table.ts";

const root = join(import.meta.dirname, "../..");
// Everything that `make docs` generates from code.
writeFileSync(join(root, "docs/cli.md"), cliReference(program));
writeFileSync(
  join(root, "docs/compatibility-with.md"),
  compatibilityPage({ upstreams: await upstreams(), clients: await clients() }, notYet),
);
const monitoring = join(root, "docs/monitoring.md");
writeFileSync(monitoring, withLabelValues(readFileSync(monitoring, "utf8")));
writeFileSync(
  join(root, "deploy/helm/envoy-mcp-auth/values.schema.json"),
  `${JSON.stringify(valuesSchema(), null, 2)}\n`,
);

const readme = join(root, "deploy/helm/envoy-mcp-auth/README.md");
const values = readFileSync(join(root, "deploy/helm/envoy-mcp-auth/values.yaml"), "utf8");
writeFileSync(readme, chartReadme(readFileSync(readme, "utf8"), values));

const helm = await goTool("helm", { build: true });
if (helm === undefined)
  process.stderr.write("neither Helm nor Go found: deploy/kubernetes/rendered is unchanged\n");
const examples = join(root, "deploy/helm/envoy-mcp-auth/examples");
for (const file of helm === undefined ? [] : readdirSync(examples)) {
  const rendered = await renderChart(helm ?? "", join(examples, file));
  writeFileSync(join(root, "deploy/kubernetes/rendered", file), rendered);
}
