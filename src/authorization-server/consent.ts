import type Provider from "oidc-provider";
import type { Config } from "../config/config.ts";
import type { Route } from "../model/route.ts";
import type { ConsentPage } from "../pages/consent-page.ts";
import type { Person } from "../sign-in/sign-in.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";
import { clientSource, isLoopbackRedirect } from "./clients.ts";

/** What the consent page has to say about a request (F3.4), from what is known of client, person and route. */
export function consentFacts(known: {
  config: Config;
  client: NonNullable<Awaited<ReturnType<Provider["Client"]["find"]>>>;
  interaction: {
    readonly params: Record<string, unknown>;
    readonly prompt: { readonly details: Readonly<Record<string, unknown>> };
  };
  person: Person;
  route: Route;
  /** The connection's. */
  state: string;
  /** Where the upstream's own consent would lead, if that is known. */
  notice?: ConsentNotice;
}): Omit<ConsentPage, "action" | "csrf" | "switchAccount" | "connections"> {
  const { config, client, interaction, person, route, state, notice } = known;
  return {
    client: { name: client.clientName, id: client.clientId, source: clientSource(config, client.clientId) },
    redirect: redirectTarget(String(interaction.params.redirect_uri)),
    route,
    person: person.email ?? person.name ?? person.userId,
    scopes: scopesOfStep(interaction),
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

/** What the request comes to, as the step's check has found it; the client's own list may name anything. */
function scopesOfStep({ prompt }: { prompt: { details: Readonly<Record<string, unknown>> } }): string[] {
  const { scopes } = prompt.details;
  return Array.isArray(scopes) ? scopes.filter((scope) => typeof scope === "string") : [];
}

function redirectTarget(redirectUri: string): ConsentPage["redirect"] {
  const url = new URL(redirectUri);
  if (url.protocol === "https:") return { kind: "web", target: url.host };
  if (isLoopbackRedirect(url)) return { kind: "loopback", target: `this computer (${url.host})` };
  return { kind: "app", target: `the app that opens ${url.protocol}` };
}

function upstreamName(route: Route): string {
  const auth = route.mcp.kind === "server" ? route.mcp.auth : undefined;
  const asked = auth?.type === "oauth" ? auth.endpoint?.authUrl : undefined;
  return new URL(asked ?? route.upstream).host;
}
