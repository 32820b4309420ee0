import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLiveConfig } from "../../src/config/live-config.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { startAdmin } from "../admin/start-admin.ts";
import { configFile } from "../config/config-file.ts";
import { problemsOf } from "../config/problems-of.ts";

const head = `issuer: https://auth.test
sign_in: {providers: [{id: company, issuer: https://id.test, client_id: c}]}
policy: {allow: {and: [{authenticated_user: true}]}}
routes:
`;
const application = (from: string, settings = "{}") =>
  `  - {id: app, from: "${from}", to: http://app.internal, mcp: {client: ${settings}}}\n`;
const server =
  "  - {id: notes, from: https://notes.test/mcp, to: http://notes.internal, mcp: {server: {}}}\n";

describe("an application on the host of another trust domain", () => {
  it.each([
    "https://auth.test",
    "https://auth.test/chat",
    "https://auth.test:8443",
    "https://AUTH.test/chat",
  ])("on the issuer's host, where its script could click Allow: the routes file is rejected (%s)", (from) => {
    const refused = [
      expect.stringMatching(/error routes\[0\]\.from: auth\.test is the issuer's host: .* -> give the app/),
    ];
    expect(problemsOf(head + application(from))).toEqual(refused);
    expect(problemsOf(head + application(from, "{shares_host: true}"))).toEqual(refused);
  });

  it.each(["https://notes.test/chat", "https://notes.test:8443"])(
    "on the host of an MCP route, where its script could connect: rejected unless the operator allows it (%s)",
    (from) => {
      const told = /from: notes\.test is the host of the .*shares_host: true/;
      const reported = [expect.stringMatching(told)];
      expect(problemsOf(head + application(from) + server)).toEqual(reported);
      expect(problemsOf(head + server + application(from))).toEqual(reported);
      expect(problemsOf(head + application(from, "{shares_host: true}") + server)).toEqual([]);
      expect(problemsOf(head + server + application(from, "{shares_host: true}"))).toEqual([]);
    },
  );

  it("on the host of an MCP route with its own client: check-config names the redirect URI to register", () => {
    const known = server.replace(
      "server: {}",
      "server: {upstream_oauth2: {client_id: known, client_secret: s}}",
    );
    const uri =
      /register exactly https:\/\/auth\.test\/\.pomerium\/mcp\/client\/oauth\/callback\/[\w-]{33} for the client known/;
    expect(problemsOf(head + known)).toEqual([]);
    expect(problemsOf(head + known + application("https://notes.test", "{shares_host: true}"))).toEqual([
      expect.stringMatching(uri),
    ]);
  });

  it("by an edit of the file while serving: the old configuration stays active", async () => {
    const file = configFile(head + application("https://app.test") + server);
    const live = createLiveConfig({ file, env: {}, metrics: createMetrics() });
    try {
      const problem = new Promise<string>((resolve) => live.onProblem(resolve));
      writeFileSync(file, head + application("https://auth.test/chat") + server);
      expect(await problem).toContain("auth.test is the issuer's host");
      expect(live.current().find("auth.test", "/chat")).toBeUndefined();
      expect(live.current().find("app.test", "/")?.id).toBe("app");
    } finally {
      live.close();
    }
  });

  describe("through the admin API", () => {
    let admin: Awaited<ReturnType<typeof startAdmin>>;
    beforeAll(async () => {
      const to = "http://127.0.0.1:1";
      admin = await startAdmin({
        settings: {
          routes: [
            { id: "notes", from: "https://notes.test", to, mcp: { server: {} } },
            { id: "chat", from: "https://chat.test", to, mcp: { client: {} } },
          ],
        },
      });
    });
    afterAll(() => admin?.close());
    const create = (from: string, mcp: object) =>
      admin.replicas[0]?.call("POST", "/routes", { id: "new", from, to: "http://127.0.0.1:1", mcp });

    it.each([
      ["an application on the issuer's host", "https://auth.test/chat", { client: { shares_host: true } }],
      ["an application on the host of an MCP route", "https://notes.test/chat", { client: {} }],
      ["an MCP route on the host of an application", "https://chat.test/notes", { server: {} }],
    ])("%s is a 400 that names the field", async (_what, from, mcp) => {
      const answer = await create(from, mcp);
      expect([answer?.status, answer?.body.error]).toEqual([400, "invalid_route"]);
      expect(answer?.body.problems).toEqual([expect.objectContaining({ path: "from" })]);
    });

    it("a valid route cannot be moved there, either", async () => {
      expect((await create("https://other.test", { client: {} }))?.status).toBe(201);
      const moved = await admin.replicas[0]?.call("PATCH", "/routes/new", { from: "https://auth.test/chat" });
      expect([moved?.status, moved?.body.error]).toEqual([400, "invalid_route"]);
    });
  });
});
