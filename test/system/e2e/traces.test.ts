import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";
import { type CollectedSpan, type TraceCollector, traceCollector } from "../../support/trace-collector.ts";

let collector: TraceCollector;
let e2e: E2e;

beforeAll(async () => {
  collector = await traceCollector();
  e2e = await startE2e({
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${collector.address}`, OTEL_BSP_SCHEDULE_DELAY: "100" },
    upstream: { accessTokenTtl: 1 },
    config: (config) => ({
      ...config,
      envoy: { ...Object(config.envoy), tracing: { collector: collector.address } },
    }),
  });
});
afterAll(async () => {
  await e2e?.close();
  await collector?.close();
});

const traceId = "0af7651916cd43dd8448eb211c80319c";

describe("traces", () => {
  it("one trace connects the client, Envoy, our check, Postgres and the upstream's authorization server", async () => {
    const token = await e2e.externalToken("alice");
    const ours = () => collector.spans.filter((span) => span.traceId === traceId);
    // Upstream tokens are valid for a second: eventually a check has to refresh one.
    while (!ours().some(isTokenCall)) {
      const { status } = await throughEnvoy(e2e, {
        url: e2e.urls.everything,
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          traceparent: `00-${traceId}-b7ad6b7169203331-01`,
        },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
      });
      expect(status).toBeLessThan(500);
    }
    const renewal = ours().find(isTokenCall);
    await collector.until(() => way(ours(), renewal).some(isClients));
    const services = way(ours(), renewal).map(({ service, name }) => `${service}: ${name}`);
    expect(services).toEqual([
      "envoy-mcp-auth: POST",
      "envoy-mcp-auth: envoy.service.auth.v3.Authorization/Check",
      expect.stringMatching(/^envoy: .*Authorization/),
      expect.stringMatching(/^envoy: /),
    ]);
    const check = renewal?.parentId;
    const leases = ours().filter(({ parentId, name }) => parentId === check && name.startsWith("postgres "));
    expect(leases.map(({ name }) => name)).toContain("postgres upstream_token.take_lease");
    const spanOfCheck = ours().find(({ spanId }) => spanId === check);
    expect(spanOfCheck?.attributes).toMatchObject({
      "mcp_auth.decision": "allow",
      "mcp_auth.route": "everything",
    });
    // The authorization server could continue the trace.
    expect(renewal?.attributes["server.address"]).toBe("127.0.0.1");
  });
});

function isTokenCall({ name, attributes }: CollectedSpan): boolean {
  return name === "POST" && attributes["url.path"] === "/token";
}

/** Envoy's span for the client's request: its parent is the client's span. */
function isClients({ service, parentId }: CollectedSpan): boolean {
  return service === "envoy" && parentId === "b7ad6b7169203331";
}

/** The spans from a span to the root. */
function way(spans: readonly CollectedSpan[], from: CollectedSpan | undefined): CollectedSpan[] {
  if (from === undefined) return [];
  return [
    from,
    ...way(
      spans,
      spans.find(({ spanId }) => spanId === from.parentId),
    ),
  ];
}
