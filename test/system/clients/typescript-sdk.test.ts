import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listen } from "../../../dev/demo/listen.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { clientProvider, type SignInState } from "../conformance/sign-in-state.ts";
import { installClients } from "./install.ts";
import { loadSdk } from "./typescript-sdk.ts";

/*
 * The OAuth client of every minor version of the SDK released in the twelve months to November 2026, each with only the URL: 401,
 * metadata, registration, sign-in, both consents, and a call.
 */
const folder = import.meta.dirname;
const { dependencies }: { dependencies: Record<string, string> } = JSON.parse(
  readFileSync(join(folder, "package.json"), "utf8"),
);
const versions = Object.keys(dependencies).filter((name) => /^(sdk|client)-/.test(name));
let stack: E2e;
let find: (specifier: string) => string;
beforeAll(async () => {
  find = await installClients();
  stack = await startE2e();
}, 300_000);
afterAll(() => stack.close());

describe("the TypeScript SDK's own OAuth client, unmodified, with only the URL", () => {
  test.each(versions)("%s", async (name) => {
    const { Client, StreamableHTTPClientTransport } = await loadSdk(name, find);
    const memory: SignInState<unknown, { access_token: string }> = {};
    const callback = Promise.withResolvers<URLSearchParams>();
    const listener = await listen((request, response) => {
      callback.resolve(new URL(request.url ?? "/", "http://127.0.0.1").searchParams);
      response.end("done");
    });
    const authProvider = clientProvider(memory, `${listener.url}/callback`);
    const transport = () =>
      new StreamableHTTPClientTransport(new URL(stack.urls.everything), { authProvider, fetch: stack.fetch });
    const first = transport();
    await expect(new Client({ name, version: "1" }).connect(first)).rejects.toThrow();
    const { location } = memory;
    if (!location) throw new Error("nobody was sent to a browser");
    const browser = stack.browser("alice");
    await browser.agree(await browser.open(location), stack.signIn("alice"));
    const params = await callback.promise;
    expect(params.get("state")).toBe(memory.state);
    // The second major version requires the whole response, to check its issuer (RFC 9207).
    await first.finishAuth(name.startsWith("client-") ? params : (params.get("code") ?? ""));
    const client = new Client({ name, version: "1" });
    await client.connect(transport());
    const answer = await client.callTool({ name: "whoami", arguments: {} });
    expect(JSON.stringify(answer)).toContain("ally");
    await client.close();
    await listener.close();
  });
});
