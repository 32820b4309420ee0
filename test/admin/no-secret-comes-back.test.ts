import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changedEntry, secretPaths, withoutSecrets } from "../../src/admin/route-settings.ts";
import { startAdmin } from "./start-admin.ts";

let stack: Awaited<ReturnType<typeof startAdmin>>;
beforeAll(async () => {
  stack = await startAdmin();
});
afterAll(() => stack?.close());

const mark = "S3CRET";
const secret = fc.stringMatching(/^[ -~]{0,20}$/).map((text) => mark + text);
/** Values for a secret field: the secret, nothing, or the secret in an invalid type. */
const written = fc.oneof(
  { weight: 6, arbitrary: secret },
  fc.constant(""),
  fc.tuple(secret),
  secret.map((value) => ({ value })),
  secret.map((value) => ({ has_client_secret: value })),
);
const optional = fc.option(written, { nil: undefined });
const url = "https://login.vendor.test/token";
const auth = fc.oneof(
  fc.record({ client_secret: optional }).map((rest) => ({
    upstream_oauth2: { client_id: "c", endpoint: { auth_url: url, token_url: url }, ...rest },
  })),
  fc.record({ value: written }).map((rest) => ({ upstream_auth: { api_key: { header: "x-key", ...rest } } })),
  fc
    .dictionary(fc.stringMatching(/^[a-z][a-z_-]{0,8}$/), written, { minKeys: 1, maxKeys: 3 })
    .map((headers) => ({ upstream_auth: { headers } })),
  fc.record({ client_secret: optional }).map((rest) => ({
    upstream_auth: { token_exchange: { token_url: url, client_id: "c", ...rest } },
  })),
  fc.record({ client_secret: optional, private_key: optional }).map((rest) => ({
    upstream_auth: { client_credentials: { token_url: url, client_id: "c", ...rest } },
  })),
  fc.record({ client_secret: optional, idp_client_secret: optional }).map((rest) => ({
    upstream_auth: { id_jag: { idp_client_id: "i", client_id: "c", ...rest } },
  })),
);
const step = fc.oneof(
  auth.map((server) => ({
    method: "POST",
    path: "/routes",
    body: { id: "r", from: "https://r.test", to: "https://u.test", mcp: { server } },
  })),
  auth.map((server) => ({ method: "PATCH", path: "/routes/r", body: { mcp: { server } } })),
  auth.map((server) => ({
    method: "PATCH",
    path: "/routes/r",
    body: { mcp: { server, upstream_oauth2: server } },
  })),
  fc.constantFrom(
    { method: "GET", path: "/routes" },
    { method: "GET", path: "/routes/r" },
    { method: "DELETE", path: "/routes/r" },
    { method: "GET", path: "/audit?until=2100-01-01" },
    { method: "GET", path: "/openapi.json" },
  ),
);

describe("secrets are write-only", () => {
  it("for every request and every role", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        for (const one of steps) {
          for (const token of [stack.tokens.viewer, stack.tokens.admin]) {
            const answer = await stack.first.call(
              one.method,
              one.path,
              "body" in one ? one.body : undefined,
              { token },
            );
            expect(answer.status).toBeLessThan(500);
            expect(answer.text + JSON.stringify([...answer.headers])).not.toContain(mark);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("every secret of the routes file's schema is known and hidden", () => {
    for (const path of secretPaths()) {
      const entry = [...path]
        .reverse()
        .reduce<unknown>((below, key) => ({ [key === "*" ? "x-key" : key]: below }), mark);
      const shown = JSON.stringify(withoutSecrets(Object(entry)));
      expect(shown).not.toContain(mark);
      expect(shown).toContain("has_");
    }
    expect(secretPaths().length).toBeGreaterThanOrEqual(9);
  });
});

describe("a change", () => {
  const oauth = (rest: object) => ({ mcp: { server: { upstream_oauth2: rest } } });
  const stored = oauth({ client_id: "c", client_secret: "old", scopes: ["a"] });

  it("keeps an omitted secret, empties one for an empty text, removes one for null, stores a new one", () => {
    expect(changedEntry(stored, oauth({ scopes: ["b"] }))).toEqual(
      oauth({ client_id: "c", client_secret: "old", scopes: ["b"] }),
    );
    expect(changedEntry(stored, oauth({ client_secret: " " }))).toEqual(
      oauth({ client_id: "c", client_secret: "", scopes: ["a"] }),
    );
    expect(changedEntry(stored, oauth({ client_secret: null }))).toEqual(
      oauth({ client_id: "c", scopes: ["a"] }),
    );
    expect(changedEntry(stored, oauth({ client_secret: "new" }))).toEqual(
      oauth({ client_id: "c", client_secret: "new", scopes: ["a"] }),
    );
  });

  it("may be an unchanged response", () => {
    expect(changedEntry(stored, withoutSecrets(stored))).toEqual(stored);
    const headers = { mcp: { server: { upstream_auth: { headers: { "x-a": "1", "x-b": "2" } } } } };
    expect(changedEntry(headers, withoutSecrets(headers))).toEqual(headers);
  });

  it("to another authentication method removes the previous one and its secrets", () => {
    const key = { mcp: { server: { upstream_auth: { api_key: { header: "x-key", value: "v" } } } } };
    expect(changedEntry(stored, key)).toEqual(key);
    expect(changedEntry(key, oauth({ client_id: "c" }))).toEqual(oauth({ client_id: "c" }));
    const none = { mcp: { server: { upstream_auth: "none" } } };
    expect(changedEntry(key, none)).toEqual(none);
    expect(changedEntry(none, key)).toEqual(key);
  });

  it("of one header keeps the others", () => {
    const headers = (given: object) => ({ mcp: { server: { upstream_auth: { headers: given } } } });
    expect(changedEntry(headers({ "x-a": "1", "x-b": "2" }), headers({ "x-a": null, "x-c": "3" }))).toEqual(
      headers({ "x-b": "2", "x-c": "3" }),
    );
  });
});
