import type Provider from "oidc-provider";
import type { Config } from "../config/config.ts";
import type { Route } from "../config/route.ts";
import type { ConsentPage } from "../pages/consent-page.ts";
import type { Person } from "../sign-in/sign-in.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import { clientSource } from "./client-source.ts";

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** What the consent page has to say about a request (F3.4), from what is known of client, person and route. */
export function consentFacts(known: {
  config: Config;
  client: NonNullable<Awaited<ReturnType<Provider["Client"]["find"]>>>;
  interaction: { readonly params: Record<string, unknown> };
  person: Person;
  route: Route;
  /** The connection's. */
  state: string;
  /** Where the upstream's own consent would lead, if that is known. */
  notice?: ConsentNotice;
}): Omit<ConsentPage, "action" | "csrf" | "switchAccount" | "connections"> {
  const { config, client, interaction, person, route, state, notice } = known;
  const scope = interaction.params.scope;
  return {
    client: { name: client.clientName, id: client.clientId, source: clientSource(config, client.clientId) },
    redirect: redirectTarget(String(interaction.params.redirect_uri)),
    route: {
      name: route.name,
      description: route.description,
      url: route.resource,
      logoUrl: route.logoUrl,
    },
    person: person.email ?? person.name ?? person.userId,
    scopes: typeof scope === "string" ? scope.split(" ").filter(Boolean) : [],
    upstream:
      state === "missing"
        ? {
            scopes: [],
            ...notice,
            server: notice?.server ?? upstreamName(route),
            foreign: notice?.foreign === true,
          }
        : undefined,
  };
}

function redirectTarget(redirectUri: string): ConsentPage["redirect"] {
  const url = new URL(redirectUri);
  if (url.protocol === "https:") return { kind: "web", target: url.host };
  if (url.protocol === "http:" && loopback.has(url.hostname)) {
    return { kind: "loopback", target: `this computer (${url.host})` };
  }
  return { kind: "app", target: `the app that opens ${url.protocol}` };
}

function upstreamName(route: Route): string {
  const auth = route.mcp.kind === "server" ? route.mcp.auth : undefined;
  const asked = auth?.type === "oauth" ? auth.endpoint?.authUrl : undefined;
  return new URL(asked ?? route.upstream).host;
}
