import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { afterEach, expect, test, vi } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { httpBrowser } from "../../support/http-browser.ts";
import { clientProvider, type SignInState } from "../conformance/sign-in-state.ts";
import { installClients, installPythonSdk } from "./install.ts";

const redirectUri = "http://127.0.0.1:33418/callback";
let stack: E2e | undefined;
afterEach(() => {
  vi.unstubAllGlobals();
  return stack?.close();
});

/** The final redirect of the user's browser: the client's redirect URI with its parameters. */
async function walk(location: string | URL, { fetch, signIn }: E2e): Promise<URL> {
  const browser = httpBrowser({ fetch, stopAt: (url) => url.href.startsWith(redirectUri) });
  return (await browser.agree(await browser.open(location), signIn("alice"))).url;
}

test("a client of the 2025-03-26 revision, from before protected-resource metadata", {
  timeout: 300_000,
}, async () => {
  const find = await installClients();
  const running = await startE2e();
  stack = running;
  const from = (path: string) => import(pathToFileURL(find(path)).href);
  const { Client } = await from("old-sdk/dist/esm/client/index.js");
  const { StreamableHTTPClientTransport } = await from("old-sdk/dist/esm/client/streamableHttp.js");
  const asked: string[] = [];
  // That version does not support a custom fetch.
  vi.stubGlobal("fetch", (input: URL | string, init?: RequestInit) => {
    asked.push(new URL(input).pathname);
    return running.fetch(input, init);
  });
  const memory: SignInState<unknown, { access_token: string }> = {};
  const options = { authProvider: clientProvider(memory, redirectUri) };
  // It names no resource either: the host determines it, so it must have only one route.
  const url = new URL(running.urls.open);
  const transport = new StreamableHTTPClientTransport(url, options);
  await expect(new Client({ name: "old", version: "1" }).connect(transport)).rejects.toThrow();
  expect(asked.filter((path) => path.includes("oauth-protected-resource"))).toEqual([]);
  expect(asked).toContain("/.well-known/oauth-authorization-server");
  const { location } = memory;
  if (!location) throw new Error("nobody was sent to a browser");
  const { searchParams } = await walk(location, running);
  await transport.finishAuth(searchParams.get("code"));
  const client = new Client({ name: "old", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(url, options));
  const answer = await client.callTool({ name: "greet", arguments: { name: "Ada" } });
  expect(JSON.stringify(answer)).toContain("Hello, Ada!");
  await client.close();
});

test("the Python SDK", { timeout: 300_000 }, async () => {
  const python = await installPythonSdk();
  // It resolves names itself, so this uses localhost.
  const running = await startE2e({ urls: undefined });
  stack = running;
  const child = spawn(
    python,
    [
      join(import.meta.dirname, "python_client.py"),
      running.urls.everything,
      redirectUri,
      running.ca.files.ca,
    ],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk;
  });
  let answered = "";
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("authorize "))
      child.stdin.write(`${await walk(line.slice("authorize ".length), running)}\n`);
    if (line.startsWith("answered ")) answered = line;
  }
  expect(answered, errors.slice(-3000)).toBe("answered ally");
});
