import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";

const root = join(import.meta.dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const manifest = JSON.parse(read("package.json"));
const targets = [...read("Makefile").matchAll(/^([a-z-]+):/gm)].map(([, target]) => target);
/** The target of `make TARGET`; undefined of any other command. */
const made = (command: string) => /^make ([a-z-]+)$/.exec(command.trim())?.[1];

const workflow = z.object({
  name: z.string(),
  permissions: z.strictObject({ contents: z.literal("read") }),
  concurrency: z.object({ group: z.string().includes("github.ref"), "cancel-in-progress": z.literal(true) }),
  jobs: z.record(
    z.string(),
    z.strictObject({
      "runs-on": z.string().startsWith("ubuntu-"),
      "timeout-minutes": z.int().positive(),
      steps: z
        .array(
          z.union([
            z.strictObject({
              // A tag can move.
              uses: z.string().regex(/^[\w-]+\/[\w-]+@[0-9a-f]{40}$/),
              with: z.record(z.string(), z.unknown()).optional(),
            }),
            z.strictObject({ run: z.string(), env: z.record(z.string(), z.string()).optional() }),
          ]),
        )
        .min(1),
    }),
  ),
});

const text = z.string().regex(/\S/);
const id = z
  .string()
  .regex(/^[\w-]+$/)
  .optional();
const validations = z.strictObject({ required: z.boolean() }).optional();
const label = { label: text, description: z.string().optional() };
const written = { ...label, placeholder: z.string().optional(), value: z.string().optional() };
const unique = (values: readonly unknown[]) => new Set(values).size === values.length;
/** GitHub shows no form at all if one of these rules is violated. */
const issueForm = z.strictObject({
  name: text,
  description: text,
  title: z.string().optional(),
  labels: z.array(text).optional(),
  body: z
    .array(
      z.discriminatedUnion("type", [
        z.strictObject({ type: z.literal("markdown"), attributes: z.strictObject({ value: text }) }),
        z.strictObject({ type: z.literal("input"), id, attributes: z.strictObject(written), validations }),
        z.strictObject({
          type: z.literal("textarea"),
          id,
          attributes: z.strictObject({ ...written, render: text.optional() }),
          validations,
        }),
        z.strictObject({
          type: z.literal("dropdown"),
          id,
          attributes: z.strictObject({ ...label, options: z.array(text).min(1).refine(unique) }),
          validations,
        }),
      ]),
    )
    .refine((fields) => fields.some(({ type }) => type !== "markdown"), "nothing to fill in")
    .refine(
      (fields) => unique(fields.flatMap((field) => ("id" in field ? [field.id] : []))),
      "an id stands twice",
    )
    .refine(
      (fields) =>
        unique(fields.flatMap(({ attributes }) => ("label" in attributes ? [attributes.label] : []))),
      "a label stands twice",
    ),
});

describe("the workflow", () => {
  const file: unknown = parse(read(".github/workflows/ci.yml"));
  const jobs = () => Object.values(workflow.parse(file).jobs);

  it("runs on pushes and pull requests with read-only permissions, has timeouts, and pins actions by commit", () => {
    expect(workflow.safeParse(file).error?.issues).toBeUndefined();
    expect(file).toHaveProperty("on.push");
    expect(file).toHaveProperty("on.pull_request");
  });

  it("runs make check and make test, and only targets of the Makefile", () => {
    const steps = jobs().flatMap((job) => job.steps);
    const commands = steps.flatMap((step) => ("run" in step ? [made(step.run) ?? step.run] : []));
    const image = "docker build --tag envoy-mcp-auth .";
    expect(commands.toSorted()).toEqual(["check", image, "release-check", "test"]);
    for (const target of commands.filter((one) => one !== image)) expect(targets).toContain(target);
  });

  it("uses the Node.js version of package.json in every job", () => {
    for (const job of jobs()) {
      const [node] = job.steps.filter(
        (step) => "uses" in step && step.uses.startsWith("actions/setup-node@"),
      );
      expect(node).toMatchObject({ with: { "node-version": Number(manifest.engines.node.slice(2)) } });
    }
  });

  it("names the release of each pinned commit", () => {
    const lines = read(".github/workflows/ci.yml")
      .split("\n")
      .filter((line) => line.includes("uses:"));
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines) expect(line).toMatch(/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });
});

describe("issues", () => {
  const folder = ".github/ISSUE_TEMPLATE";
  const forms = readdirSync(join(root, folder)).filter((file) => file !== "config.yml");

  it("have forms for bugs and for features", () => {
    expect(forms.toSorted()).toEqual(["bug_report.yml", "feature_request.yml"]);
    const names = forms.map((file) => issueForm.parse(parse(read(`${folder}/${file}`))).name);
    expect(unique(names)).toBe(true);
  });

  it.each([
    ["no description", { description: undefined }],
    ["a key that GitHub does not know", { colour: "red" }],
    ["nothing to fill in", { body: [{ type: "markdown", attributes: { value: "Hello." } }] }],
    ["a field without a label", { body: [{ type: "input", attributes: {} }] }],
    ["an id twice", { body: ["A", "B"].map((label) => ({ type: "input", id: "a", attributes: { label } })) }],
    ["a label twice", { body: ["a", "b"].map((id) => ({ type: "input", id, attributes: { label: "A" } })) }],
  ])("a form with %s is detected", (_, fault) => {
    const whole = { name: "A", description: "B", body: [{ type: "input", attributes: { label: "C" } }] };
    expect(issueForm.safeParse(whole).success).toBe(true);
    expect(issueForm.safeParse({ ...whole, ...fault }).success).toBe(false);
  });

  it("direct vulnerability reports to the security policy", () => {
    const link = z.strictObject({ name: text, url: z.url(), about: text });
    const config = z
      .strictObject({ blank_issues_enabled: z.boolean(), contact_links: z.array(link).min(1) })
      .parse(parse(read(`${folder}/config.yml`)));
    expect(config.blank_issues_enabled).toBe(false);
    expect(
      config.contact_links.map(({ url }) => new URL(url).pathname.split("/").slice(3).join("/")),
    ).toContain("security/policy");
    expect(existsSync(join(root, "SECURITY.md"))).toBe(true);
  });
});

it("Dependabot's folders contain what it updates", () => {
  const { version, updates } = z
    .object({
      version: z.number(),
      updates: z.array(
        z.object({
          "package-ecosystem": z.enum(["npm", "docker", "github-actions"]),
          directory: z.literal("/"),
          schedule: z.object({ interval: z.enum(["daily", "weekly", "monthly"]) }),
        }),
      ),
    })
    .parse(parse(read(".github/dependabot.yml")));
  expect(version).toBe(2);
  const files = { npm: "package-lock.json", docker: "Dockerfile", "github-actions": ".github/workflows" };
  for (const update of updates) expect(existsSync(join(root, files[update["package-ecosystem"]]))).toBe(true);
});

it("the pull request template names existing files and targets", () => {
  const template = read(".github/PULL_REQUEST_TEMPLATE.md");
  const code = [...template.matchAll(/`([^`]+)`/g)].map(([, named]) => named ?? "");
  expect(code).toEqual(expect.arrayContaining(["make check", "make test", "CHANGELOG.md"]));
  for (const named of code) {
    const target = made(named);
    if (target === undefined) expect([named, existsSync(join(root, named))]).toEqual([named, true]);
    else expect(targets).toContain(target);
  }
});

it("npm's scripts run existing files and targets", () => {
  const scripts: Record<string, string> = manifest.scripts;
  for (const command of Object.values(scripts).flatMap((line) => line.split(" && "))) {
    const [, file] = /^node (\S+)/.exec(command) ?? [];
    if (file === undefined) expect(targets).toContain(made(command));
    else expect([file, existsSync(join(root, file))]).toEqual([file, true]);
  }
});

it("LICENSE is the unaltered text of the license that package.json and the image name", () => {
  expect(manifest.license).toBe("Apache-2.0");
  expect(read("Dockerfile")).toContain('org.opencontainers.image.licenses="Apache-2.0"');
  expect(createHash("sha256").update(read("LICENSE")).digest("hex")).toBe(
    "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
  );
});

it(".editorconfig matches biome.json", () => {
  const { formatter } = JSON.parse(read("biome.json"));
  const settings = read(".editorconfig");
  expect(settings).toContain(`\n[*]\n`);
  expect(settings).toContain(
    `\nindent_style = ${formatter.indentStyle}\nindent_size = ${formatter.indentWidth}\n`,
  );
  expect(settings).toContain(`\n[*.{ts,js,json}]\nmax_line_length = ${formatter.lineWidth}\n`);
});
