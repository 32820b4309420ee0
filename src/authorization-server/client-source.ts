import type { Config } from "../config/config.ts";

/** Who vouches for a client: `known`, an operator; `document`, the host its id names; `registered`, nobody but itself. */
export function clientSource(config: Config, clientId: string): "document" | "registered" | "known" {
  if (config.authorizationServer.clients.some((client) => client.clientId === clientId)) return "known";
  return clientId.startsWith("https://") ? "document" : "registered";
}
