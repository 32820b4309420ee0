import type { Route } from "../model/route.ts";
import type { Credential } from "./credential.ts";

type Ready = Extract<Credential, { kind: "credential" }>;
const made = new WeakMap<Route, Ready>();
const nothing: Ready = { kind: "credential", headers: [] };

/** The credential that stands in the routes file, the same for every caller (F1.4); undefined where tokens are needed. */
export function staticCredential(route: Route): Ready | undefined {
  if (route.mcp.kind !== "server") return nothing;
  const { auth } = route.mcp;
  if (auth.type === "none") return nothing;
  if (auth.type !== "api_key" && auth.type !== "headers") return undefined;
  let credential = made.get(route);
  if (!credential) {
    const headers = auth.type === "api_key" ? { [auth.header]: auth.value } : auth.headers;
    credential = {
      kind: "credential",
      headers: Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const),
    };
    made.set(route, credential);
  }
  return credential;
}
