import { execFile } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { parser } from "@prometheus-io/lezer-promql";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { withLabelValues } from "../../dev/docs/label-values.ts";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";
import { auditActions } from "../../src/store/audit-events.ts";
import { labelValues, valuesOf } from "../../src/telemetry/label-values.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { failureWords } from "../../src/upstream-oauth/failures.ts";

const root = join(import.meta.dirname, "../..");
const files = join(root, "deploy/helm/envoy-mcp-auth/files");
const read = (...path: string[]) => readFileSync(join(...path), "utf8");
const docs = read(root, "docs/monitoring.md");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: { readonly summary: string; readonly action: string; readonly runbook: string };
}
const rules: Rule[] = parse(read(files, "alerts.yaml")).groups.flatMap(
  (group: { rules: Rule[] }) => group.rules,
);
const dashboard: { panels: { title: string; targets?: { expr: string }[] }[] } = JSON.parse(
  read(files, "dashboard.json"),
);
const panels = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => [title, expr] as const),
);
const queries = [...rules.map(({ alert, expr }) => [alert, expr] as const), ...panels];

/** A metric without the prefix, and what a query or a page requires of a label of it. */
interface Matcher {
  readonly metric: string;
  readonly label: string;
  readonly operator: string;
  readonly value: string;
}

const selector = /\b(?:envoy_mcp_auth_)?([a-z_]+?)(?:_bucket|_sum|_count)?\{([^}`]*)\}/g;

/** The label matchers of the product's metrics in a text: `{label="value"}`. */
function matchersIn(text: string): Matcher[] {
  const metrics = new Set(
    createMetrics()
      .registry.getMetricsAsArray()
      .map(({ name }) => name),
  );
  return [...text.matchAll(selector)].flatMap(([, metric = "", matchers = ""]) =>
    metrics.has(`envoy_mcp_auth_${metric}`)
      ? [...matchers.matchAll(/(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g)].map(
          ([, label = "", operator = "", value = ""]) => ({ metric, label, operator, value }),
        )
      : [],
  );
}

const troubleshooting = read(root, "docs/troubleshooting.md");
const codesIn = (text = "") => [...text.matchAll(/`([a-z_]+)`/g)].map(([, code]) => code ?? "");
const compatibility = read(root, "docs/compatibility.md");
/** The documented values of the label `reason`. */
const reasons = new Set([
  ...codesIn(troubleshooting.split("\n## Reasons\n")[1]),
  ...codesIn(read(root, "docs/policy.md")),
  ...codesIn(/^\| a user has to authorize.*$/m.exec(compatibility)?.[0]),
  ...Object.keys(failureWords),
]);
const scraped = new Set(["job", "instance", "le"]);

/** Whether a label can have what a matcher names. A pattern must match at least one value with each of its alternatives. */
function isPossible({ metric, label, operator, value }: Matcher): boolean {
  if (scraped.has(label)) return true;
  const declared = label === "reason" && metric === "checks_total" ? [...reasons] : valuesOf(metric, label);
  if (typeof declared === "string" || declared === undefined) return declared !== undefined;
  const alternatives = operator.endsWith("~") ? value.replaceAll("\\|", "|").split("|") : [value];
  return alternatives.every((one) =>
    operator.endsWith("~")
      ? declared.some((known) => new RegExp(`^(?:${one})$`).test(known))
      : declared.includes(one),
  );
}

/** Names of the metrics in a query, and whether the query is valid. */
function namesIn(query: string): { valid: boolean; names: string[] } {
  const text = query.replaceAll("$__rate_interval", "5m");
  const names: string[] = [];
  let valid = true;
  parser.parse(text).iterate({
    enter(node) {
      if (node.type.isError) valid = false;
      if (node.name !== "VectorSelector") return;
      names.push(/^[a-zA-Z_:][\w:]*/.exec(text.slice(node.from, node.to))?.[0] ?? "");
    },
  });
  return { valid, names };
}

describe("metrics, alerts and dashboard", () => {
  it("exactly the existing metrics are documented, with type and labels", async () => {
    const metrics = await createMetrics().registry.getMetricsAsJSON();
    const rows = new Map(
      [...docs.matchAll(/^\| `(envoy_mcp_auth_\w+)` \| (\w+) \| ([^|]*)\|/gm)].map(
        ([, name, type, labels]) => [
          name,
          { type, labels: [...(labels ?? "").matchAll(/`(\w+)`/g)].map(([, label]) => label) },
        ],
      ),
    );
    expect([...rows.keys()].toSorted()).toEqual(metrics.map(({ name }) => name).toSorted());
    const source = read(root, "src/telemetry/metrics.ts");
    for (const { name, type } of metrics) {
      expect([name, rows.get(name)?.type]).toEqual([name, type.toString()]);
      for (const label of rows.get(name)?.labels ?? []) expect(source).toContain(`"${label}"`);
    }
  });

  it("the values of every label are declared, for exactly the labels that exist", async () => {
    const labels = createMetrics()
      .registry.getMetricsAsArray()
      .map((metric) => [
        metric.name.replace(/^envoy_mcp_auth_/, ""),
        "labelNames" in metric ? (metric.labelNames as string[]).toSorted() : [],
      ])
      .filter(([, names]) => names?.length);
    const declared = Object.entries(labelValues).map(([name, values]) => [
      name,
      Object.keys(values).toSorted(),
    ]);
    expect(declared.toSorted()).toEqual(labels.toSorted());
    expect(docs).toBe(withLabelValues(docs));
  });

  it("every declared value is one that the code names", () => {
    const source = globSync("src/**/*.ts", { cwd: root })
      .filter((path) => !path.endsWith("label-values.ts"))
      .map((path) => read(root, path))
      .join("\n");
    // These are put together: `${kind}_per_address`; an HTTP status.
    const composed = new Set(["authorizations_per_address", "registrations_per_address"]);
    for (const values of Object.values(labelValues).flatMap((labels) => Object.values(labels)))
      for (const value of typeof values === "string" ? [] : values)
        if (!composed.has(value) && !/^\d+$/.test(value))
          expect([value, new RegExp(`["'\`]${value}["'\`]`).test(source)]).toEqual([value, true]);
  });

  it("every reason that a check names is documented", () => {
    const source = globSync("src/ext-authz/**/*.ts", { cwd: root })
      .map((path) => read(root, path))
      .join("\n");
    const named = [
      ...source.matchAll(/\breason: "(\w+)"/g),
      ...source.matchAll(/\bdeny\(\s*\w+,\s*\d+,\s*"(\w+)"/g),
    ].map(([, reason = ""]) => reason);
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((reason) => !reasons.has(reason))).toEqual([]);
  });

  it.each([
    ["alerts.yaml", read(files, "alerts.yaml")],
    ["dashboard.json", panels.map(([, expr]) => expr).join("\n")],
    ...globSync("docs/*.md", { cwd: root }).map((path) => [path, read(root, path)]),
  ])("%s names only labels and label values that exist", (_, text = "") => {
    expect(matchersIn(text).filter((matcher) => !isPossible(matcher))).toEqual([]);
  });

  it("a label value that never occurs is noticed, in a query and on a page", () => {
    const never = matchersIn(
      '`limits_reached_total{limit="rate_limited"}` sum(rate(envoy_mcp_auth_checks_total{reason=~"ok|forbidden"}[5m])) `consents_total{sort="client"}` envoy_mcp_auth_check_duration_seconds_bucket{decision!="refuse"}',
    );
    expect(never.map(({ value }) => value)).toEqual(["rate_limited", "ok|forbidden", "client", "refuse"]);
    expect(never.filter(isPossible)).toEqual([]);
  });

  it("names follow Prometheus' conventions", async () => {
    for (const { name, type } of await createMetrics().registry.getMetricsAsJSON()) {
      expect(name).toMatch(/^envoy_mcp_auth_[a-z_]+$/);
      if (type.toString() === "counter") expect(name).toMatch(/_total$/);
      if (type.toString() === "histogram") expect(name).toMatch(/_seconds$/);
    }
  });

  it.each(queries)("%s queries existing metrics", async (_, query) => {
    const { valid, names } = namesIn(query);
    expect([query, valid]).toEqual([query, true]);
    expect(names.length).toBeGreaterThan(0);
    const known = createMetrics({ process: true }).registry;
    for (const name of names.filter((one) => one !== "up" && !one.startsWith("envoy_cluster_")))
      expect([name, known.getSingleMetric(name.replace(/_(bucket|sum|count)$/, "")) !== undefined]).toEqual([
        name,
        true,
      ]);
  });

  it("the first event of a kind shows as an increase: its series exists before", async () => {
    const text = await createMetrics().registry.metrics();
    for (const outcome of ["loaded", "rejected"])
      expect(text).toContain(`config_loads_total{outcome="${outcome}"} 0`);
    for (const outcome of ["refreshed", "obtained", "rejected", "unavailable"])
      expect(text).toContain(`upstream_token_refreshes_total{outcome="${outcome}"} 0`);
  });

  it("the picture shows the dashboard's panels", () => {
    const picture = read(root, "docs/images/dashboard.svg");
    for (const { title } of dashboard.panels) expect(picture).toContain(`${title}</text>`);
    expect(picture.length).toBeLessThan(300_000);
    expect(docs).toContain("](images/dashboard.svg)");
  });

  it("every alert is documented, says what to do, and links to a section of the troubleshooting page", () => {
    const sections = [...read(root, "docs/troubleshooting.md").matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      (title ?? "")
        .toLowerCase()
        .replace(/[^a-z0-9_ -]/g, "")
        .replaceAll(" ", "-"),
    );
    for (const { alert, annotations } of rules) {
      expect([alert, annotations.summary.length, annotations.action.length]).toEqual([
        alert,
        expect.toSatisfy((length: number) => length > 30),
        expect.toSatisfy((length: number) => length > 30),
      ]);
      expect(docs).toContain(`\`${alert}\``);
      expect(sections).toContain(annotations.runbook.split("#")[1]);
    }
  });

  it("the rules' unit tests pass if promtool is available", async () => {
    const [promtool] = process.env.PROMTOOL ? [process.env.PROMTOOL] : executablesOnPath("promtool");
    const tests = parse(read(files, "alerts.test.yaml"));
    const alerts = new Set(
      tests.tests.flatMap((one: { alert_rule_test?: { alertname: string }[] }) =>
        (one.alert_rule_test ?? []).map(({ alertname }) => alertname),
      ),
    );
    expect([...alerts].toSorted()).toEqual(rules.map(({ alert }) => alert).toSorted());
    if (promtool === undefined) return;
    const { stdout } = await promisify(execFile)(promtool, ["test", "rules", "alerts.test.yaml"], {
      cwd: files,
    });
    expect(stdout).toContain("SUCCESS");
  });

  it("every audit action is documented", () => {
    for (const action of auditActions) expect(docs).toContain(`\`${action}\``);
  });
});
