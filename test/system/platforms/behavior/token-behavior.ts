import {
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  exportJWK,
  generateKeyPair,
  jwtVerify,
  SignJWT,
} from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import type { E2e } from "../../../support/e2e.ts";
import { rejectedWithinASecond } from "../../../support/rejected-within-a-second.ts";
import {
  openThroughEnvoy,
  type RawAnswer,
  throughEnvoy,
  throughEnvoyHttp2,
} from "../../../support/through-envoy.ts";

const ping = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
export const initialize = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "raw", version: "1" } },
});
export const mcpHeaders = {
  "content-type": "application/json",
  accept: "application/json, text/event-stream",
};

/** The caller's token in, the upstream token out, nothing else through; event streams unbroken. `nobody.test` leads to the gateway, too. */
export function tokenBehavior(running: () => E2e): void {
  describe("calls with tokens", () => {
    let stack: E2e;
    let alice: string;
    let bob: string;
    let openToken: string;
    const url = "https://everything.test/";

    const call = (
      token: string | undefined,
      more: Record<string, string | readonly string[]> = {},
      body = initialize,
    ) =>
      throughEnvoy(stack, {
        url,
        method: "POST",
        headers: { ...mcpHeaders, ...(token && { authorization: `Bearer ${token}` }), ...more },
        body,
      });
    /** Repeats a call that was not answered in time: the machine may stall. */
    const served: typeof call = async (...request) => {
      for (;;) {
        const answer = await call(...request);
        if (answer.status !== 503) return answer;
      }
    };
    const arrived = () => stack.everything.requests.length;

    beforeAll(async () => {
      stack = running();
      alice = await stack.externalToken("alice");
      bob = await stack.externalToken("bob");
      openToken = await stack.externalToken("alice", stack.urls.open);
    });

    function expectChallenge(answer: RawAnswer, error?: string) {
      expect(answer.status).toBe(401);
      const challenge = answer.header("www-authenticate") ?? "";
      expect(challenge).toMatch(/^Bearer /);
      expect(challenge).toContain(
        'resource_metadata="https://everything.test/.well-known/oauth-protected-resource"',
      );
      if (error) expect(challenge).toContain(`error="${error}"`);
      else expect(challenge).not.toContain("error=");
      const body = JSON.parse(answer.body) as { error_description: string };
      expect(body.error_description).toContain("Unauthorized");
      expect(answer.header("access-control-allow-origin")).toBe("*");
    }

    it("challenges a request without a token, which does not reach the upstream", async () => {
      const before = arrived();
      expectChallenge(await call(undefined));
      expect(arrived()).toBe(before);
    });

    it("challenges a forged, an expired and a revoked token, and a token for another route", async () => {
      const before = arrived();
      const { privateKey, publicKey } = await generateKeyPair("ES256");
      const claims = decodeJwt(alice);
      const forge = (payload: object, header: object) =>
        new SignJWT({ ...claims, ...payload })
          .setProtectedHeader({ alg: "ES256", typ: "at+jwt", ...header })
          .sign(privateKey);
      const kid = JSON.parse(Buffer.from(alice.split(".")[0] ?? "", "base64url").toString()).kid as string;
      const [header, payload] = alice.split(".");
      const refused = [
        await forge({}, { kid }),
        await forge({}, { kid: "unknown" }),
        await forge({}, { jwk: await exportJWK(publicKey) }),
        `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url")}.${payload}.`,
        `${header}.${payload}.${"A".repeat(86)}`,
        openToken,
        "not-a-token",
      ];
      for (const token of refused) expectChallenge(await call(token), "invalid_token");
      expect(arrived()).toBe(before);
    });

    it("accepts only one Bearer token, only in the Authorization header", async () => {
      const before = arrived();
      const answers = [
        await call(undefined, { authorization: [`Bearer ${alice}`, `Bearer ${bob}`] }),
        await call(undefined, { authorization: `Basic ${Buffer.from(`x:${alice}`).toString("base64")}` }),
        await throughEnvoy(stack, {
          url: `${url}?access_token=${alice}`,
          method: "POST",
          headers: mcpHeaders,
          body: ping,
        }),
      ];
      for (const answer of answers) expect([400, 401]).toContain(answer.status);
      expect(arrived()).toBe(before);
    });

    it("sends the upstream exactly one Authorization, with the upstream token, and none of our headers", async () => {
      const before = arrived();
      const answer = await call(alice, {
        cookie: "__Host-mcp_session=stolen; other=1",
        "x-pomerium-jwt-assertion": "forged",
        "x-pomerium-claim-email": "root@company.example",
        "x-forwarded-access-token": alice,
        "x-my-token": `prefix ${alice} suffix`,
        "proxy-authorization": `Bearer ${alice}`,
      });
      expect(answer.status).toBe(200);
      const request = stack.everything.requests[before];
      const authorizations =
        request?.headers.filter(([name]) => name.toLowerCase() === "authorization") ?? [];
      expect(authorizations).toHaveLength(1);
      const injected = authorizations[0]?.[1].replace("Bearer ", "") ?? "";
      expect(stack.upstream.issuedTokens()).toContain(injected);
      expect(JSON.stringify(request)).not.toContain(alice);
      expect(JSON.stringify(request)).not.toContain("forged");
      const names = request?.headers.map(([name]) => name.toLowerCase()) ?? [];
      expect(names).not.toContain("cookie");
      expect(names.filter((name) => name.startsWith("x-pomerium-")).sort()).toEqual([
        "x-pomerium-assertion",
        "x-pomerium-jwt-assertion",
      ]);
      // The client never sees the upstream token either.
      expect(JSON.stringify(answer)).not.toContain(injected);
    });

    it("identifies the caller to the upstream with an assertion that verifies against our JWKS", async () => {
      const before = arrived();
      await call(alice);
      const assertion = stack.everything.requests[before]?.headers.find(
        ([name]) => name.toLowerCase() === "x-pomerium-jwt-assertion",
      )?.[1];
      const jwks = createRemoteJWKSet(new URL("https://everything.test/.well-known/pomerium/jwks.json"), {
        [customFetch]: stack.fetch,
      });
      const { payload, protectedHeader } = await jwtVerify(assertion ?? "", jwks, {
        issuer: "everything.test",
        audience: "everything.test",
      });
      expect(protectedHeader.alg).toBe("ES256");
      expect(payload).toMatchObject({ sub: "company/alice", email: "alice@example.com" });
      expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(300);
    });

    it("never uses one user's upstream token for another, even with interleaved calls", async () => {
      const before = arrived();
      const answers = await Promise.all(
        Array.from({ length: 60 }, (_, index) =>
          served(index % 2 ? alice : bob, { "user-agent": index % 2 ? "alice" : "bob" }),
        ),
      );
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
      const seen = new Map<string, Set<string>>();
      for (const { headers } of stack.everything.requests.slice(before)) {
        const value = (name: string) => headers.find(([one]) => one.toLowerCase() === name)?.[1] ?? "";
        seen.set(
          value("user-agent"),
          (seen.get(value("user-agent")) ?? new Set()).add(value("authorization")),
        );
      }
      const [first, second] = [seen.get("alice") ?? new Set(), seen.get("bob") ?? new Set()];
      expect([first.size, second.size]).toEqual([1, 1]);
      expect(first).not.toEqual(second);
    });

    it("streams server-sent events one by one", async () => {
      const session = (await call(alice)).header("mcp-session-id") ?? "";
      const stream = await openThroughEnvoy(stack, {
        url,
        method: "POST",
        headers: { ...mcpHeaders, authorization: `Bearer ${alice}`, "mcp-session-id": session },
        body: JSON.stringify({
          jsonrpc: "2.0",
          id: 7,
          method: "tools/call",
          params: { name: "follow", arguments: {}, _meta: { progressToken: "p" } },
        }),
      });
      expect(stream.headers["content-type"]).toContain("text/event-stream");
      await stack.everything.followed();
      const chunks = stream.setEncoding("utf8")[Symbol.asyncIterator]();
      let text = "";
      const until = async (wanted: string) => {
        while (!text.includes(wanted)) {
          const { value, done } = await chunks.next();
          if (done) throw new Error(`the stream ended before ${wanted}`);
          text += value;
        }
      };
      // Each event is sent only after the previous one has arrived: a buffering hop would hang.
      for (const message of ["first", "second", "third"]) {
        stack.everything.emit(message);
        await until(message);
      }
      stack.everything.finish();
      await until('"id":7');
      expect(text.indexOf("first")).toBeLessThan(text.indexOf("third"));
    });

    it("answers preflights without a token, and does not repeat CORS headers", async () => {
      const preflight = await throughEnvoy(stack, {
        url,
        method: "OPTIONS",
        headers: {
          origin: "https://inspector.example",
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization,mcp-protocol-version",
        },
      });
      expect(preflight.status).toBe(204);
      expect(preflight.header("access-control-allow-headers")?.toLowerCase()).toContain(
        "mcp-protocol-version",
      );
      expect(preflight.header("access-control-allow-methods")).toContain("DELETE");
      const answer = await call(alice, { origin: "https://inspector.example" });
      expect(answer.headers.filter(([name]) => name === "access-control-allow-origin")).toEqual([
        ["access-control-allow-origin", "*"],
      ]);
      expect(answer.header("access-control-expose-headers")?.toLowerCase()).toContain("mcp-session-id");
    });

    it("answers unknown hosts and paths with a 404 that names them", async () => {
      const host = await throughEnvoy(stack, { url: "https://nobody.test/mcp", headers: {} });
      expect(host.status).toBe(404);
      expect(host.body).toContain("nobody.test");
      const http2 = await throughEnvoyHttp2(stack, { url: "https://nobody.test/mcp", headers: {} });
      expect(http2.status).toBe(404);
    });

    it("rejects encoded slashes, and dot segments cannot leave the route", async () => {
      const before = arrived();
      const get = (path: string) =>
        throughEnvoy(stack, { url, path, headers: { authorization: `Bearer ${alice}` } });
      for (const path of ["/a%2fb", "/a%5cb", "/x/..%2f..%2fetc"])
        expect((await get(path)).status, path).toBe(400);
      expect(arrived()).toBe(before);
      for (const path of ["/../secret", "/%2e%2e/secret", "/x/../../secret", "/x\\..\\secret"])
        await get(path);
      for (const { url: reached } of stack.everything.requests.slice(before))
        expect(reached).toBe("/mcp/secret");
    });

    it("a token revoked at our revocation endpoint is rejected from then on", async () => {
      const client = await stack.client("alice");
      await client.connect();
      const tokens = client.tokens();
      const token = tokens?.access_token ?? "";
      expect((await call(token)).status).toBe(200);
      const revocation = await stack.fetch("https://auth.test/oauth/revoke", {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({
          token,
          client_id: decodeJwt<{ client_id: string }>(token).client_id,
        }),
      });
      expect(revocation.status).toBe(200);
      await rejectedWithinASecond(() => call(token));
      expectChallenge(await call(token), "invalid_token");
      expect((await call(alice)).status).toBe(200);
    });
  });
}
