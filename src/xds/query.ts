import type { Context } from "koa";
import type { XdsType } from "../envoy-config/xds-resources.ts";

/** Longest request of an Envoy, bytes: it lists its extensions, about 80 KiB. */
const maxBytes = 1024 * 1024;
/** Longest name, version or node id, characters. */
const maxLength = 200;
const types: readonly XdsType[] = ["clusters", "routes", "listeners"];

/** An Envoy's request for resources (`DiscoveryRequest`). */
export interface XdsQuery {
  readonly type: XdsType;
  /** Of the route configuration, for routes. */
  readonly name?: string;
  /** In effect at Envoy; empty: none yet. */
  readonly version: string;
  /** `node.id`: as the operator named this Envoy. */
  readonly node: string;
  readonly address: string;
}

/** The type of resources that a path requests; undefined for another path. */
export function requestedType(path: string): XdsType | undefined {
  const type = /^\/v3\/discovery:([a-z]+)$/.exec(path)?.[1];
  return types.find((one) => one === type);
}

/**
 * Reads a request of an authenticated Envoy.
 * @throws HTTP error 413 if it is too long, 400 if it is not a `DiscoveryRequest` in JSON.
 */
export async function readQuery(ctx: Context, type: XdsType): Promise<XdsQuery> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // A request that is too long still gets its response.
  for await (const chunk of ctx.req.iterator({ destroyOnReturn: false })) {
    bytes += chunk.length;
    if (bytes > maxBytes) ctx.throw(413, `the request is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  const { version_info: version, resource_names: names, node } = parsed(ctx, Buffer.concat(chunks));
  const name: unknown = Array.isArray(names) && names.length === 1 ? names[0] : undefined;
  if (type === "routes" && typeof name !== "string")
    ctx.throw(400, "routes are requested by the name of one route configuration");
  const id = typeof node === "object" && node !== null && "id" in node ? node.id : undefined;
  return {
    type,
    ...(type === "routes" ? { name: short(ctx, name) } : {}),
    version: short(ctx, version),
    node: short(ctx, id),
    address: ctx.req.socket.remoteAddress ?? "",
  };
}

function parsed(ctx: Context, body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    if (typeof value === "object" && value !== null) return { ...value };
  } catch {
    // Answered like any other body that is not a request.
  }
  return ctx.throw(400, "the body is not a DiscoveryRequest in JSON");
}

/** These are remembered for each Envoy. A cut string would keep the whole request in memory. */
function short(ctx: Context, value: unknown): string {
  if (typeof value !== "string") return "";
  if (value.length > maxLength) ctx.throw(400, `a name, a version or a node id is longer than ${maxLength}`);
  return Buffer.from(value).toString();
}
