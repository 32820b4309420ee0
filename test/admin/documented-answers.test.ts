import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adminSchemas } from "../../src/admin/openapi.ts";
import { connected } from "../support/database-pool.ts";
import { startAdmin } from "./start-admin.ts";

const text = await readFile(new URL("../../docs/admin-api.md", import.meta.url), "utf8");
const blocksOf = (language: string) =>
  [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, name, block = ""]) =>
    name === language ? [block] : [],
  );

/** An example: a request line, headers and a body; an empty line; the status and the body of the answer. */
function read(block: string) {
  const [request = "", answer = ""] = block.split("\n\n");
  const [line = "", ...rest] = request.trim().split("\n");
  const [method = "", path = ""] = line.split(" ");
  const headers = rest.flatMap((one) => {
    const [, name, value] = /^([a-z-]+): (.*)$/.exec(one) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value] as const];
  });
  const body = rest.slice(headers.length).join("\n");
  const [status = "", ...answered] = answer.trim().split("\n");
  return {
    name: `${line} ${status} ${/"error": "(\w+)"/.exec(answer)?.[1] ?? ""}`.trim(),
    ...{ method, path: path.replace(/^\/admin\/v1/, ""), headers: Object.fromEntries(headers) },
    ...{ body: body === "" ? undefined : JSON.parse(body), status: Number(status) },
    answer: answered.length === 0 ? undefined : JSON.parse(answered.join("\n")),
  };
}

/** The answer with what differs every time made equal, and `…` matching any text. */
function asExpected(value: unknown): unknown {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value))
    return expect.stringMatching(/^\d{4}-.*Z$/);
  if (typeof value === "string" && value.includes("…"))
    return expect.stringMatching(
      new RegExp(
        `^${value
          .split("…")
          .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
          .join("[^]*")}$`,
      ),
    );
  if (Array.isArray(value)) return value.map(asExpected);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, asExpected(inner)]));
}

/** Versions begin at a random number: those of the document, which begin at another one, as the gateway has them. */
function withVersions<T>(value: T, offset: number): T {
  const text = JSON.stringify(value) ?? "null";
  return JSON.parse(text.replace(/\b4820917\d\d\b/g, (version) => String(Number(version) + offset)));
}

/** Lets the database fail so that a request is answered with this status. @returns repairs it */
const failures: Readonly<Record<number, (url: string) => Promise<() => Promise<unknown>>>> = {
  async 503(url) {
    const name = new URL(url).pathname.slice(1);
    const server = new URL("/postgres", url).href;
    const accept = (on: boolean) =>
      connected(server, (client) => client.query(`alter database ${name} with allow_connections ${on}`));
    await accept(false);
    await connected(server, (client) =>
      client.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [name]),
    );
    return () => accept(true);
  },
  async 500(url) {
    const rename = (from: string, to: string) =>
      connected(url, (client) => client.query(`alter table ${from} rename to ${to}`));
    await rename("stored_route", "stored_route_elsewhere");
    return () => rename("stored_route_elsewhere", "stored_route");
  },
};

describe("docs/admin-api.md", () => {
  let stack: Awaited<ReturnType<typeof startAdmin>>;
  beforeAll(async () => {
    stack = await startAdmin();
  });
  afterAll(() => stack?.close());
  const examples = blocksOf("http").map(read);
  let offset = 0;

  it.each(examples)("$name", async ({ method, path, headers, body, status, answer }) => {
    const authorization = headers.authorization?.replace("$VIEWER_TOKEN", stack.tokens.viewer);
    const { "content-length": length, ...others } = headers;
    const sent = withVersions(
      { ...others, ...(authorization === undefined ? {} : { authorization }) },
      offset,
    );
    const padded = length === undefined ? body : { ...body, padding: " ".repeat(Number(length)) };
    const repair = await failures[status]?.(stack.env.DATABASE_URL);
    const given = await stack.first.call(method, path, padded, { headers: sent }).finally(repair);
    const found = path.startsWith("/audit") ? JSON.parse(given.text) : given.body;
    if (offset === 0 && answer?.version) offset = Number(found.version) - Number(answer.version);
    expect([given.status, found]).toMatchObject([status, asExpected(withVersions(answer ?? {}, offset))]);
  });

  it("has an answer of each operation and each error code that its table names", () => {
    const shown = (method: string, path: RegExp) =>
      examples.some((one) => one.method === method && path.test(one.path) && one.status < 300);
    for (const [method, path] of [
      ["GET", /^\/routes(\?|$)/],
      ["POST", /^\/routes$/],
      ["GET", /^\/routes\/\w/],
      ["PATCH", /^\/routes\/\w/],
      ["DELETE", /^\/routes\/\w/],
      ["GET", /^\/audit/],
      ["GET", /^\/openapi.json$/],
    ] as const)
      expect([method, path, shown(method, path)]).toEqual([method, path, true]);
    const table = /## Errors\n([\s\S]*?)\n## /.exec(text)?.[1] ?? "";
    const rows = [...table.matchAll(/^\| (\d{3})[^|]*\| ([^|]*)\|/gm)];
    const codes = rows.flatMap(([, , codes = ""]) => [...codes.matchAll(/`(\w+)`/g)].map(([, code]) => code));
    expect(codes.length).toBeGreaterThan(12);
    expect(codes.filter((code) => !examples.some(({ answer }) => answer?.error === code))).toEqual([]);
    for (const expected of [413, 422]) expect(examples.some(({ status }) => status === expected)).toBe(true);
  });

  it("shows a discovery as the schema describes it", () => {
    const shown = blocksOf("json").map((block) => JSON.parse(block));
    const { discovery } = adminSchemas.Route.shape;
    expect(shown.filter((one) => discovery.safeParse(one).success)).toHaveLength(1);
  });
});
