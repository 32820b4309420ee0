import { beforeAll, describe, expect, test } from "vitest";
import type { E2e } from "../../../support/e2e.ts";
import { bytesThroughEnvoy, throughEnvoy, throughEnvoyHttp2 } from "../../../support/through-envoy.ts";

/**
 * Envoy and the gateway must agree on the host and path of every request. Alice's token is valid only on
 * open.test, which reveals requests that pass on, or reach, another host.
 */
export function confusionBehavior(running: () => E2e): void {
  let stack: E2e;
  let bearer: string;
  beforeAll(async () => {
    stack = running();
    bearer = `Bearer ${await stack.externalToken("alice", stack.urls.open)}`;
  });

  const elsewhere = () => stack.everything.requests.filter(({ method }) => method === "PATCH").length;
  const here = () => stack.open.requests.filter(({ method }) => method === "PATCH").length;

  describe("host and path confusion between Envoy and the gateway", () => {
    test.each([
      ["x-forwarded-host", "open.test"],
      ["x-forwarded-proto", "http"],
      ["x-forwarded-uri", "/open"],
      ["x-forwarded-prefix", "/open"],
      ["x-host", "open.test"],
      ["x-original-host", "open.test"],
      ["x-original-path", "/"],
      ["x-original-url", "https://open.test/"],
      ["x-rewrite-url", "https://open.test/"],
      ["x-envoy-original-path", "/"],
      ["x-envoy-original-host", "open.test"],
      ["x-envoy-decorator-operation", "open"],
      ["forwarded", "host=open.test"],
    ])("%s: %s does not select another route", async (name, value) => {
      const request = {
        url: "https://everything.test/",
        method: "PATCH",
        headers: { authorization: bearer, [name]: value },
      };
      expect((await throughEnvoy(stack, request)).status).toBe(401);
      expect((await throughEnvoyHttp2(stack, request)).status).toBe(401);
      expect(elsewhere()).toBe(0);
    });

    test.each(["OPEN.test", "open.test:443", "open.test."])(
      "Envoy and the gateway agree on whether %s is open.test",
      async (host) => {
        const before = here();
        const headers = { host, authorization: bearer };
        const { status } = await throughEnvoy(stack, { url: "https://open.test/", method: "PATCH", headers });
        // 405 comes from the upstream.
        expect([404, 405]).toContain(status);
        expect(here() - before).toBe(status === 405 ? 1 : 0);
        const without = await throughEnvoy(stack, {
          url: "https://open.test/",
          method: "PATCH",
          headers: { host },
        });
        expect([401, 404]).toContain(without.status);
      },
    );

    test.each([
      "[::1]",
      "127.0.0.1",
      "open.test@everything.test",
      "everything.test/open.test",
      "open.test%00",
      "open.test:99999",
      "sub.open.test",
      "",
    ])("the host %j has no route", async (host) => {
      const headers = { host, authorization: bearer };
      const { status } = await throughEnvoy(stack, { url: "https://open.test/", method: "PATCH", headers });
      expect([400, 404]).toContain(status);
    });

    test.each(["/%2e%2e/", "/a%2fb", "/a%5cb", "/..%2f", "//open.test/", "/..;/", "/%00", "/\\everything"])(
      "the path %s does not bypass the check",
      async (path) => {
        const before = here();
        const { status } = await throughEnvoy(stack, {
          url: "https://everything.test/",
          path,
          method: "PATCH",
          headers: { authorization: bearer },
        });
        expect([400, 401, 404]).toContain(status);
        expect(here() - before + elsewhere()).toBe(0);
      },
    );

    test.each([
      ["absolute-form", "PATCH https://open.test/ HTTP/1.1\r\nHost: everything.test\r\n"],
      ["absolute-form the other way", "PATCH https://everything.test/ HTTP/1.1\r\nHost: open.test\r\n"],
      ["two hosts", "PATCH / HTTP/1.1\r\nHost: open.test\r\nHost: everything.test\r\n"],
      [
        "two lengths",
        "PATCH / HTTP/1.1\r\nHost: everything.test\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
      ],
      [
        "length and chunks",
        "PATCH / HTTP/1.1\r\nHost: everything.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
      ],
      ["a folded header", "PATCH / HTTP/1.1\r\nHost: everything.test\r\nX-A: b\r\n open.test\r\n"],
    ])("%s: nothing reaches everything.test", async (_name, head) => {
      const bytes = `${head}Authorization: ${bearer}\r\nConnection: close\r\n\r\n`;
      await bytesThroughEnvoy(stack, "everything.test", bytes);
      expect(elsewhere()).toBe(0);
    });

    test("x-envoy-* and identity headers of a client are removed", async () => {
      await throughEnvoy(stack, {
        url: "https://open.test/",
        method: "PATCH",
        headers: {
          authorization: bearer,
          "x-envoy-retry-on": "5xx",
          "x-envoy-max-retries": "9",
          "x-envoy-original-path": "/admin",
          "x-envoy-external-address": "10.0.0.1",
          "x-forwarded-host": "evil.test",
          "x-pomerium-claim-email": "root@example.com",
          x_pomerium_claim_email: "root@example.com",
          "x-forwarded-user": "root",
        },
      });
      const seen = stack.open.requests.findLast(({ method }) => method === "PATCH")?.headers ?? [];
      const text = JSON.stringify(seen).toLowerCase();
      for (const absent of [
        "x-envoy-retry-on",
        "x-envoy-max-retries",
        "/admin",
        "evil.test",
        "root",
        bearer.slice(7).toLowerCase(),
      ])
        expect(text).not.toContain(absent);
    });
  });
}
