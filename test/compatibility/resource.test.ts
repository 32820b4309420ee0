import { decodeJwt } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type McpApp, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  app = await registeredApp(stack);
  await stack.reload((yaml) => yaml.replace("https://one.test\n", "https://one.test/team\n"));
});
afterAll(() => stack.close());

const document = async (url: string) => {
  const { origin, pathname } = new URL(url);
  const path = pathname === "/" ? "" : pathname;
  const response = await stack.fetch(`${origin}/.well-known/oauth-protected-resource${path}`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};
const authorized = async (resource: string) => {
  const { params, verifier } = await app.authorize(stack.browser(), "alice", { resource });
  return { code: params.get("code") ?? "", error: params.get("error"), verifier };
};
const audienceAndPath = async (response: Response) => {
  const body = (await response.json()) as { access_token?: string; refresh_token?: string; error?: string };
  if (!body.access_token) throw new Error(`no token: ${body.error}`);
  const { aud, mcp_path: path } = decodeJwt(body.access_token);
  return { aud, path, refreshToken: body.refresh_token ?? "" };
};

describe("the spelling of a resource", () => {
  test.each([
    ["a slash at its end", "https://many.test/a", "https://many.test/a/"],
    ["no slash at its end", "https://many.test/a/", "https://many.test/a"],
    ["its host in another case", "https://many.test/a", "HTTPS://Many.TEST/a"],
    ["the port that is the default", "https://many.test/a", "https://many.test:443/a"],
    ["repeated slashes", "https://many.test/a/mcp", "https://many.test//a//mcp/"],
    ["an escape that is not needed", "https://many.test/a/mcp", "https://many.test/%61/%6Dcp"],
  ])("the token request has %s", async (_name, first, second) => {
    const { code, verifier } = await authorized(first);
    const given = await audienceAndPath(await app.exchange(code, verifier, { resource: second }));
    expect(given.aud).toBe("https://many.test/a");
    expect(given.path).toBe(first.endsWith("mcp") ? "/mcp" : undefined);
    const renewed = await audienceAndPath(await app.refresh(given.refreshToken, { resource: second }));
    expect([renewed.aud, renewed.path]).toEqual([given.aud, given.path]);
  });

  test.each([
    "https://many.test/b",
    "https://many.test/a/other",
    "https://one.test",
    "https://many.test/A",
    "https://many.test/a%2Fmcp",
  ])("%s is another resource", async (other) => {
    const { code, verifier } = await authorized("https://many.test/a/mcp");
    const response = await app.exchange(code, verifier, { resource: other });
    expect(await response.json()).toMatchObject({ error: "invalid_target" });
  });

  test.each([
    ["https://many.test//a//mcp", "https://many.test/a/mcp"],
    ["https://many.test/%61/mcp", "https://many.test/a/mcp"],
    ["https://many.test/a/%6dcp", "https://many.test/a/mcp"],
  ])("the document of %s names %s", async (asked, resource) => {
    expect(await document(asked)).toMatchObject({ status: 200, body: { resource } });
  });

  test.each(["https://many.test/a%2Fmcp", "https://many.test/a/%2e%2e%2fb", "https://many.test/a/%5Cmcp"])(
    "%s is 400 as a document and invalid_target as a resource",
    async (url) => {
      expect(await document(url)).toMatchObject({ status: 400, body: { error: "invalid_request" } });
      expect((await authorized(url)).error).toBe("invalid_target");
    },
  );
});

describe("the origin of a host as a resource", () => {
  test("means the host's only MCP server, whose own name is in the document and the token", async () => {
    for (const asked of ["https://one.test", "https://one.test/"]) {
      const { status, body } = await document(asked);
      expect([status, body.resource]).toEqual([200, "https://one.test/team"]);
      const { code, verifier } = await authorized(asked);
      const given = await audienceAndPath(await app.exchange(code, verifier, { resource: asked }));
      expect(given).toMatchObject({ aud: "https://one.test/team", path: undefined });
      const again = await audienceAndPath(
        await app.refresh(given.refreshToken, { resource: "https://one.test/team" }),
      );
      expect(again.aud).toBe("https://one.test/team");
    }
  });

  test("only the origin does", async () => {
    for (const url of ["https://one.test/x", "https://one.test/teams", "https://one.test/?x=1"]) {
      expect((await authorized(url)).error).toBe("invalid_target");
    }
    expect(await document("https://one.test/x")).toMatchObject({ status: 404 });
  });

  test("is ambiguous if there are two: 404 and invalid_target", async () => {
    expect(await document("https://many.test")).toMatchObject({ status: 404 });
    expect((await authorized("https://many.test")).error).toBe("invalid_target");
  });
});
