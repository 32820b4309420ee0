import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { throughCompany } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { problemsOf } from "../config/problems-of.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());

/** The URL that sign-in redirects to, with these lines in the provider's entry. */
async function asked(lines: string, query = ""): Promise<URLSearchParams> {
  const scopes = "      scopes: [openid, email, profile, groups, offline_access]\n";
  await stack.reload((yaml) => yaml.replace(scopes, lines));
  const response = await stack.fetch(`https://auth.test/.pomerium/sign_in?return_to=/whoami${query}`, {
    redirect: "manual",
  });
  await stack.reload((yaml) => yaml.replace(lines, scopes));
  const location = new URL(response.headers.get("location") ?? "");
  expect(location.origin).toBe(stack.company.issuer);
  return location.searchParams;
}

describe("authorization_url_params of a sign-in provider", () => {
  const offline = "      scopes: [openid, offline_access]\n";
  const params = (text: string) => `      authorization_url_params: ${text}\n`;

  test("Google's: access_type=offline and prompt=consent without the scope offline_access", async () => {
    const sent = await asked(
      `      scopes: [openid, email]\n${params("{access_type: offline, prompt: consent}")}`,
    );
    expect(Object.fromEntries(sent)).toMatchObject({
      access_type: "offline",
      prompt: "consent",
      scope: "openid email",
      state: expect.any(String),
      nonce: expect.any(String),
      code_challenge_method: "S256",
      redirect_uri: "https://auth.test/.pomerium/sign_in/callback",
    });
  });

  test.each([
    ["offline_access asks for consent where nothing else is said", offline, "", "consent"],
    ["an empty prompt takes that back", offline + params('{prompt: ""}'), "", null],
    ["another prompt takes its place", offline + params("{prompt: select_account}"), "", "select_account"],
    [
      "the account is switched by a new sign-in all the same",
      offline + params('{prompt: ""}'),
      "&switch=1",
      "login",
    ],
    [
      "nor does prompt=none wave anybody through then",
      offline + params("{prompt: none}"),
      "&switch=1",
      "login",
    ],
    ["both are asked for", offline + params("{prompt: consent}"), "&switch=1", "login consent"],
  ])("%s", async (_name, lines, query, prompt) => {
    expect((await asked(lines, query)).get("prompt")).toBe(prompt);
  });

  test("a user signs in with the settings of the recipe for Google, at a stand-in for it", async () => {
    const page = readFileSync(join(import.meta.dirname, "../../docs/recipes.md"), "utf8");
    const recipe = /^## Google sign-in\n.*?^```yaml\n(.*?)^```/ms.exec(page)?.[1] ?? "";
    const { sign_in } = parse(recipe) as { sign_in: { providers: Record<string, unknown>[] } };
    const { scopes, authorization_url_params: extra } = sign_in.providers[0] ?? {};
    expect(extra).toEqual({ access_type: "offline", prompt: "consent" });
    const usual = "      scopes: [openid, email, profile, groups, offline_access]\n";
    const lines = `      scopes: ${JSON.stringify(scopes)}\n      authorization_url_params: ${JSON.stringify(extra)}\n`;
    await stack.reload((yaml) => yaml.replace(usual, lines));
    const browser = stack.browser();
    const start = await browser.open(new URL("https://auth.test/.pomerium/sign_in?return_to=/whoami"));
    const end = await throughCompany(stack, browser, start, "alice");
    await stack.reload((yaml) => yaml.replace(lines, usual));
    expect(JSON.parse(end.html)).toMatchObject({ userId: "company/alice" });
  });

  test("an empty value omits a parameter", async () => {
    expect((await asked(offline + params('{hd: ""}'))).has("hd")).toBe(false);
  });

  const file = (line: string) =>
    `issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c, ${line}}]}\nroutes: [{id: t, from: https://t.example.com, to: http://x, mcp: {}, policy: [{allow: {and: [{accept: true}]}}]}]\n`;

  test.each([
    "state",
    "nonce",
    "redirect_uri",
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "response_type",
    "response_mode",
    "request",
    "request_uri",
    "scope",
    "client_secret",
    "State",
  ])("%s is rejected at load, by name", (name) => {
    expect(problemsOf(file(`authorization_url_params: {${name}: x}`))).toEqual([
      expect.stringContaining(
        `sign_in.providers[0].authorization_url_params.${name}: ${name} is set by the gateway`,
      ),
    ]);
  });

  test("Pomerium's idp_request_params has the same meaning", async () => {
    const pomerium = (params: string) =>
      `authenticate_service_url: https://auth.example.com\nidp_provider: google\nidp_client_id: c\nidp_client_secret: \${S}\nidp_request_params: ${params}\nroutes: [{id: t, from: https://t.example.com, to: http://x, mcp: {}, policy: [{allow: {and: [{accept: true}]}}]}]\n`;
    expect(problemsOf(pomerium("{access_type: offline, prompt: consent}"), { S: "s" })).toEqual([]);
    expect(problemsOf(pomerium("{state: x}"), { S: "s" })).toEqual([
      expect.stringContaining("state is set by the gateway"),
    ]);
  });
});
