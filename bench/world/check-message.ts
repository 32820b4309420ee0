import { envoyService } from "../../test/ext-authz/envoy-service.ts";
import { type Connection, routeUrl } from "./world.ts";

const method = envoyService(
  "envoy/service/auth/v3/external_auth.proto",
  "envoy.service.auth.v3.Authorization",
).Check;
if (!method) throw new Error("Envoy's definitions have no Check");
const { path, requestSerialize, responseDeserialize } = method;

/** Of the method that is measured. */
export const checkPath = path;

/** The check of a `tools/call` with 25 headers as Envoy encodes it with our `envoy-config`; some 2 KB. */
export function checkMessage({ route, externalToken }: Pick<Connection, "route" | "externalToken">): Buffer {
  const url = new URL(routeUrl(route));
  const mcpPath = url.pathname;
  const headers: Record<string, string> = {
    ":authority": url.host,
    ":path": mcpPath,
    ":method": "POST",
    ":scheme": "https",
    "user-agent": "claude-code/2.3.1 (external, cli) node/24.1.0",
    accept: "application/json, text/event-stream",
    "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en-US,en;q=0.9",
    "content-type": "application/json",
    "content-length": "142",
    authorization: `Bearer ${externalToken}`,
    "mcp-protocol-version": "2026-07-28",
    "mcp-session-id": "0b6f6a52-6a5c-4f0e-9c66-1f6a4b7d2c11",
    "mcp-method": "tools/call",
    "mcp-name": "search_repositories",
    "sec-fetch-mode": "cors",
    "cache-control": "no-cache",
    pragma: "no-cache",
    traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate: "vendor=00f067aa0ba902b7",
    "x-forwarded-for": "192.0.2.44",
    "x-forwarded-proto": "https",
    "x-envoy-internal": "true",
    "x-request-id": "4f9bd3a2-54a2-4b0c-9a3c-0d8c5e1f2a6b",
    cookie: "theme=dark; consent=1",
  };
  return requestSerialize({
    attributes: {
      source: { address: { socket_address: { address: "192.0.2.44", port_value: 51234 } } },
      destination: { address: { socket_address: { address: "10.0.0.7", port_value: 443 } } },
      request: {
        time: { seconds: 1_800_000_000, nanos: 123_456_000 },
        http: {
          id: "11604822838229157943",
          method: "POST",
          header_map: {
            headers: Object.entries(headers).map(([key, value]) => ({ key, raw_value: Buffer.from(value) })),
          },
          path: mcpPath,
          host: url.host,
          scheme: "https",
          size: 142,
          protocol: "HTTP/2",
        },
      },
      context_extensions: { route: `route-${route}` },
      metadata_context: {},
    },
  });
}

/** Whether a response allows the request with this upstream token; decodes it with Envoy's definitions. */
export function letsThrough(answer: Buffer, { upstreamToken }: Pick<Connection, "upstreamToken">): boolean {
  const decoded = responseDeserialize(answer) as {
    status?: { code?: number };
    ok_response?: { headers: { header: { key: string; value: string } }[] };
  };
  const set = decoded.ok_response?.headers.find(({ header }) => header.key === "authorization");
  return (decoded.status?.code ?? 0) === 0 && set?.header.value === `Bearer ${upstreamToken}`;
}

/** The HTTP status of a response that denies the request, and its body. */
export function denialOf(answer: Buffer): string {
  const { denied_response: denied } = responseDeserialize(answer) as {
    denied_response?: { status?: { code?: string | number }; body?: string };
  };
  return `${denied?.status?.code ?? "no status"} ${denied?.body?.slice(0, 200) ?? ""}`.trim();
}
