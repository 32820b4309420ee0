import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { secretPaths } from "../../src/admin/route-settings.ts";
import { startAdmin } from "./start-admin.ts";

let stack: Awaited<ReturnType<typeof startAdmin>>;
beforeAll(async () => {
  stack = await startAdmin();
});
afterAll(() => stack?.close());

const call = (...given: Parameters<typeof stack.first.call>) => stack.first.call(...given);
const withAuth = (id: string, auth: object) => ({
  ...{ id, from: `https://${id}.test`, to: "http://127.0.0.1:9/mcp" },
  mcp: { server: { upstream_auth: auth } },
});
const open = (id: string, more: object = {}) => ({ ...withAuth(id, { none: {} }), ...more });
const pathsOf = ({ body }: Awaited<ReturnType<typeof call>>) =>
  (Array.isArray(body.problems) ? body.problems : []).map(({ path }: { path: string }) => path);

describe("labels", () => {
  it("come back in every view, and the named ones as members, too", async () => {
    const labels = { team: "search", "example.com/tier": 1, availability: "default_on" };
    const created = await call("POST", "/routes", open("labelled", { labels }));
    const shown = { team: "search", "example.com/tier": "1", availability: "default_on" };
    expect(created.body).toMatchObject({ labels: shown, availability: "default_on" });
    const viewed = await call("GET", "/routes/labelled", undefined, { token: stack.tokens.viewer });
    expect(viewed.body.labels).toEqual(shown);
    const changed = await call("PATCH", "/routes/labelled", {
      labels: { team: null },
      allow_in_plan_mode: false,
      model_intent: "Look up tickets",
    });
    expect(changed.body).toMatchObject({ allow_in_plan_mode: false, model_intent: "Look up tickets" });
    expect(changed.body.labels).toEqual({
      ...{ "example.com/tier": "1", availability: "default_on" },
      ...{ allow_in_plan_mode: "false", model_intent: "Look up tickets" },
    });
    const removed = await call("PATCH", "/routes/labelled", { availability: null });
    expect(removed.body).not.toHaveProperty("availability");
  });

  it.each([
    [{ " x": "y", "-a": "b" }, "labels.-a"],
    [{ availability: "sometimes" }, "labels.availability"],
    [{ allow_in_plan_mode: "perhaps" }, "labels.allow_in_plan_mode"],
    [{ a: "one\ntwo" }, "labels.a"],
    [{ a: "x".repeat(1025) }, "labels.a"],
    [Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`l${index}`, "x"])), "labels"],
  ])("%j is 400 and names it", async (labels, path) => {
    const answer = await call("POST", "/routes", open("badly", { labels }));
    expect([answer.status, pathsOf(answer)]).toEqual([400, expect.arrayContaining([path])]);
  });
});

describe("names of other admin APIs", () => {
  it("are accepted as input, and answered under the names of the routes file", async () => {
    const { id: _id, ...rest } = open("aliased");
    const given = { slug: "aliased", display_name: "Aliased", icon_url: "https://x.test/i.svg" };
    const { status, body } = await call("POST", "/routes", { ...rest, ...given, availability: "force_on" });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      ...{ id: "aliased", name: "Aliased", logo_url: "https://x.test/i.svg" },
      ...{ availability: "force_on", labels: { availability: "force_on" } },
    });
    expect(
      (await call("PATCH", "/routes/aliased", { slug: "aliased", name: "A", display_name: " A " })).status,
    ).toBe(200);
  });

  it("both with different values are 400 and name both; a transport is detected, not set", async () => {
    const named = await call("POST", "/routes", open("twice", { name: "One", display_name: "Two" }));
    expect([named.status, named.body.error]).toEqual([400, "conflicting_fields"]);
    expect(named.body.error_description).toMatch(/^display_name and name /);
    const labelled = { availability: "force_on", labels: { availability: "default_on" } };
    expect((await call("POST", "/routes", open("twice", labelled))).body.error_description).toMatch(
      /^availability and labels.availability /,
    );
    const transport = await call("POST", "/routes", open("twice", { transport: "sse" }));
    expect([transport.status, pathsOf(transport)]).toEqual([400, ["transport"]]);
  });
});

describe("white space", () => {
  it("around texts is removed, and blank entries of lists are dropped; inside, it stays", async () => {
    const entry = {
      ...{
        id: " spacy ",
        name: " Two words\n",
        from: " https://spacy.test ",
        to: ["http://127.0.0.1:9/mcp ", " "],
      },
      mcp: {
        server: {
          upstream_auth: { headers: { " X-Key ": " a b\n" } },
          request_headers: { pass: ["", " X-Trace "] },
        },
      },
    };
    const { status, body } = await call("POST", "/routes", entry);
    expect([status, body.id, body.name, body.to]).toEqual([
      ...[201, "spacy", "Two words"],
      ["http://127.0.0.1:9/mcp"],
    ]);
    expect(body.settings).toMatchObject({
      mcp: {
        server: {
          upstream_auth: { has_headers: ["X-Key"] },
          request_headers: { pass: ["X-Trace"] },
        },
      },
    });
    expect(
      (await call("PATCH", "/routes/spacy", { allowed_users: [" ", " ann "] })).body.settings,
    ).toMatchObject({
      allowed_users: ["ann"],
    });
  });
});

/** A value for each step of a path: `*` is a header. */
const at = (path: readonly string[], value: unknown) =>
  path.toReversed().reduce<unknown>((below, key) => ({ [key === "*" ? "x-key" : key]: below }), value);

describe("an empty setting of a new route", () => {
  it.each(secretPaths().map((path) => [path.join(".")]))("%s is 400 and named", async (name) => {
    for (const blank of ["", " \n"]) {
      const path = name.split(".");
      const answer = await call("POST", "/routes", { ...open("empty"), ...Object(at(path, blank)) });
      expect(answer.status).toBe(400);
      expect(pathsOf(answer)).toContain(name.replace("*", "x-key"));
    }
    expect((await call("GET", "/routes/empty")).status).toBe(404);
  });

  it.each([
    ["mcp.server.upstream_auth.headers", {}],
    ["mcp.server.request_headers.set", {}],
    ["mcp.server.request_headers.pass", []],
    ["mcp.server.request_headers.pass", [" "]],
  ])("%s: %j is 400 and named", async (name, empty) => {
    const answer = await call("POST", "/routes", { ...open("empty"), ...Object(at(name.split("."), empty)) });
    expect([answer.status, pathsOf(answer)]).toEqual([400, expect.arrayContaining([name])]);
  });
});

describe("a header that breaks a request", () => {
  const names = [
    ":path",
    "host",
    "Content-Length",
    "transfer_encoding",
    "connection",
    "te",
    "upgrade",
    "a b",
    "x\r\ny",
  ];
  const ours = [
    "cookie",
    "x-envoy-retry-on",
    "X-Pomerium-Jwt-Assertion",
    "x-mcp-auth-secret",
    "x-forwarded-for",
    "proxy-authorization",
  ];
  const settings = {
    "mcp.server.upstream_auth.api_key.header": (name: string) => ({ api_key: { header: name, value: "v" } }),
    "mcp.server.upstream_auth.headers": (name: string) => ({ headers: { [name]: "v" } }),
  };
  it.each([...names, ...ours, "accept-encoding"])(
    "%j is refused wherever a header is named",
    async (name) => {
      for (const [path, auth] of Object.entries(settings)) {
        const answer = await call("POST", "/routes", withAuth("header", auth(name)));
        expect(answer.status).toBe(400);
        expect(pathsOf(answer)[0]).toMatch(new RegExp(`^${path}`));
        expect(answer.body.problems).toEqual([
          expect.objectContaining({
            message: expect.stringMatching(/header name|request|reserved|response/),
          }),
        ]);
      }
      for (const given of name === "accept-encoding" ? [] : [{ pass: [name] }, { set: { [name]: "v" } }]) {
        const entry = {
          ...open("header"),
          mcp: { server: { upstream_auth: { none: {} }, request_headers: given } },
        };
        expect((await call("POST", "/routes", entry)).status).toBe(400);
      }
    },
  );

  it("or a value with a line break or NUL is refused, also in request_headers.set", async () => {
    for (const value of ["a\r\nb: c", "a\nb", "a\u0000b"])
      for (const server of [
        { upstream_auth: { headers: { "x-a": value } } },
        { upstream_auth: { api_key: { header: "x-a", value } } },
        { upstream_auth: { none: {} }, request_headers: { set: { "x-a": value } } },
      ]) {
        const answer = await call("POST", "/routes", { ...open("value"), mcp: { server } });
        expect([answer.status, answer.text.includes("control character")]).toEqual([400, true]);
      }
  });

  it("or one that overrides the path or the method is not passed on from clients", async () => {
    for (const name of ["x-http-method-override", "X-Original-URL", "x-real-ip", "forwarded"]) {
      const server = { upstream_auth: { none: {} }, request_headers: { pass: [name] } };
      const answer = await call("POST", "/routes", { ...open("override"), mcp: { server } });
      expect([answer.status, pathsOf(answer)]).toEqual([400, ["mcp.server.request_headers.pass[0]"]]);
    }
  });
});

describe("audit events of routes", () => {
  it("name the fields that have changed, and no value of a secret", async () => {
    await call("POST", "/routes", withAuth("audited", { api_key: { header: "x-key", value: "S3CRET-1" } }));
    await call("PATCH", "/routes/audited", {
      name: "N",
      policy: { allow: { or: [{ accept: true }] } },
      mcp: { server: { upstream_auth: { api_key: { value: "S3CRET-2" } } } },
    });
    const headers = { headers: { "x-a": "S3CRET-3" } };
    await call("PATCH", "/routes/audited", { mcp: { server: { upstream_auth: headers } } });
    await call("DELETE", "/routes/audited");
    const { text } = await call("GET", "/audit?until=2100-01-01&route_id=audited");
    expect(text).not.toContain("S3CRET");
    const events = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
      .map(({ action, detail }) => [action, detail]);
    const url = "https://audited.test";
    expect(events).toEqual([
      ["route.created", { url }],
      ["route.changed", { url, changed: "mcp.server.upstream_auth.api_key.value,name,policy" }],
      [
        "route.changed",
        {
          url,
          changed:
            "mcp.server.upstream_auth.api_key.header,mcp.server.upstream_auth.api_key.value,mcp.server.upstream_auth.headers.x-a",
        },
      ],
      ["route.deleted", { url }],
    ]);
  });
});

describe("the list of routes", () => {
  it("comes in pages in the order of the ids, each route once, whatever comes and goes in the meantime", async () => {
    for (const id of ["page-b", "page-d", "page-a", "page-c"]) await call("POST", "/routes", open(id));
    const all = (await call("GET", "/routes")).body;
    expect(all).not.toHaveProperty("next");
    const seen: string[] = [];
    let after = "";
    for (;;) {
      const { body } = await call("GET", `/routes?limit=2${after && `&after=${after}`}`);
      const routes = body.routes as { id: string }[];
      expect(routes.length).toBeLessThanOrEqual(2);
      seen.push(...routes.map(({ id }) => id));
      if (body.next === undefined) break;
      after = String(body.next);
      if (after === "page-b") await call("DELETE", "/routes/page-a");
    }
    expect(seen).toEqual((all.routes as { id: string }[]).map(({ id }) => id).toSorted());
    for (const wrong of ["limit=0", "limit=x", "limit=-1", "limit=1.5"])
      expect((await call("GET", `/routes?${wrong}`)).body.error).toBe("invalid_parameter");
  });
});
