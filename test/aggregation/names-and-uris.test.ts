import { describe, expect, it } from "vitest";
import { innerName, type Naming, namingsOf, outerName } from "../../src/aggregation/names.ts";
import { rewritten } from "../../src/aggregation/rewrite.ts";
import { innerUri, outerUri } from "../../src/aggregation/uris.ts";
import { membersOf } from "../../src/config/aggregates.ts";
import { load } from "../config/load.ts";

function namings(ids: readonly string[], prefix = "{route}__"): readonly Naming[] {
  const routes = [
    { id: "all", from: "https://all.test", mcp: { aggregate: { routes: ids, prefix } } },
    ...ids.map((id, index) => ({
      id,
      from: `https://m${index}.test`,
      to: "https://upstream.test",
      mcp: { server: { upstream_auth: "none" } },
    })),
  ];
  const { table } = load(routes.map((route) => `  - ${JSON.stringify(route)}`).join("\n"));
  const all = table.byId("all");
  if (all === undefined) throw new Error("no route");
  return namingsOf(membersOf(table.config, all));
}

const [a, b] = namings(["a", "b"]) as [Naming, Naming];
const hostile = [
  "plain",
  "connect",
  "b__plain",
  "__plain",
  "",
  "x".repeat(61),
  "x".repeat(62),
  "x".repeat(300),
  "dots.and spaces",
  "Ünïcode",
  "x_0123456789",
  outerName(a, "dots.and spaces").slice(3),
  outerName(a, "connect").slice(3),
];

describe("names", () => {
  it("fit clients, and no two are equal, whatever members choose", () => {
    const outer = [a, b].flatMap((naming) => hostile.map((name) => outerName(naming, name)));
    for (const name of outer) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
    expect(new Set(outer).size).toBe(outer.length);
    expect(outer).not.toContain("a__connect");
  });

  it("lead to the member that has them, and to no other", () => {
    for (const naming of [a, b])
      for (const name of hostile) {
        const found = innerName([a, b], outerName(naming, name));
        expect(found?.naming).toBe(naming);
        if (found?.kind === "name") expect(found.name).toBe(name);
        else expect(found?.kind).toBe("shortened");
      }
    expect(innerName([a, b], "a__connect")?.kind).toBe("connect");
    expect(innerName([a, b], "c__plain")).toBeUndefined();
  });

  it("of a single member without a prefix stay as they are", () => {
    const [only] = namings(["a"], "") as [Naming];
    for (const name of hostile) {
      expect(outerName(only, name)).toBe(name);
      expect(innerName([only], name)).toEqual({ kind: "name", naming: only, name });
    }
    expect(outerUri(only, "file:///x")).toBe("file:///x");
    expect(innerUri([only], "file:///x")).toEqual({ naming: only, uri: "file:///x" });
  });
});

describe("URIs", () => {
  const odd = namings(["a", "a.b", "A_b", "m-0123456789abcdef", "ui"]);
  const uris = [
    "file:///x",
    "b+file:///x",
    "ui://app/x",
    "ui://b/x",
    "UI://x",
    "custom+x://y",
    "{+path}",
    "",
    "x",
  ];

  it("lead to the member that has them, and no two are equal", () => {
    const outer = odd.flatMap((naming) => uris.map((uri) => [naming, uri, outerUri(naming, uri)] as const));
    expect(new Set(outer.map(([, , uri]) => uri)).size).toBe(outer.length);
    for (const [naming, uri, mapped] of outer) {
      expect(innerUri(odd, mapped)).toEqual({ naming, uri });
      expect(mapped).toMatch(/^(?:ui:\/\/[a-z0-9.-]+\/|[a-z][a-z0-9.-]*\+)/);
    }
    expect(innerUri(odd, "other+file:///x")).toBeUndefined();
    expect(innerUri(odd, "file:///x")).toBeUndefined();
  });

  it("are mapped wherever results name resources, and nothing else is changed", () => {
    const extra = { futureField: { uri: "file:///x" } };
    expect(
      rewritten.toolResult(a, {
        content: [
          { type: "resource_link", uri: "file:///x", ...extra },
          { type: "resource", resource: { uri: "file:///y", blob: "AA==" } },
          { type: "future", uri: "file:///z" },
        ],
        structuredContent: { uri: "file:///x" },
        _meta: { k: 1 },
        ...extra,
      }),
    ).toEqual({
      content: [
        { type: "resource_link", uri: "a+file:///x", ...extra },
        { type: "resource", resource: { uri: "a+file:///y", blob: "AA==" } },
        { type: "future", uri: "file:///z" },
      ],
      structuredContent: { uri: "file:///x" },
      _meta: { k: 1 },
      ...extra,
    });
    expect(
      rewritten.tool(a, {
        name: "t",
        _meta: { ui: { resourceUri: "ui://x/y", v: 1 }, "ui/resourceUri": "ui://x/y" },
      }),
    ).toEqual({
      name: "a__t",
      _meta: { ui: { resourceUri: "ui://a/x/y", v: 1 }, "ui/resourceUri": "ui://a/x/y" },
    });
  });
});
