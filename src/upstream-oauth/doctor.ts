import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { redirectUriByHand } from "../config/upstream-callback.ts";
import type { ClientRegistration } from "../store/store.ts";
import { clientPlaces, documentClientId, publishedPlaces } from "./client-metadata-document.ts";
import type { Discovery } from "./discovery.ts";
import { checkIssuer } from "./issuer-of-route.ts";
import { checkNamedIssuer } from "./keep-to-issuer.ts";
import { notesOf } from "./register-client.ts";
import type { DiscoveryStep, Discovery as Outcome } from "./upstream-oauth.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/** Runs discovery for an operator and says what each step found (F7.4). Registers nothing, stores nothing. */
export async function doctor(
  deps: {
    routes: CurrentRoutes;
    discovery: Discovery;
    /** The client that is registered there by now; absent: nobody here can tell. */
    registration?: (issuer: string, redirectUri: string) => Promise<ClientRegistration | undefined>;
  },
  route: Route,
  onStep: (step: DiscoveryStep) => void,
): Promise<Outcome> {
  const auth = route.mcp.kind === "server" ? route.mcp.auth : undefined;
  const say = (step: Omit<DiscoveryStep, "name">) => onStep({ name: "result", ...step });
  const granted = auth?.type === "id_jag" || (auth?.type === "client_credentials" && !auth.tokenUrl);
  if (auth?.type !== "oauth" && !granted) {
    say({
      ok: true,
      finding: "this route's upstream credentials come from the routes file: nothing to discover",
    });
    return { ok: true, needed: false, scopes: [] };
  }
  if (auth.type === "oauth" && auth.endpoint) {
    const url = auth.endpoint.tokenUrl;
    say({ url, ok: true, finding: "the endpoints stand in the routes file: nothing to discover" });
    return { ok: true, needed: true, issuer: new URL(url).origin, scopes: auth.scopes ?? [] };
  }
  try {
    const { authorizationServerUrl } = auth;
    if (granted) {
      const { as, resource } = await deps.discovery.server(route, { authorizationServerUrl, onStep });
      checkIssuer(deps.routes().config, route, { authorizationServerUrl }, as);
      checkNamedIssuer(route, auth, as.issuer);
      if (!as.token_endpoint)
        throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no token endpoint`);
      onStep({ name: "client", ok: true, finding: `the client id of the routes file: ${auth.clientId}` });
      say({ url: as.token_endpoint, ok: true, finding: `tokens are asked for here, for ${resource}` });
      return { ok: true, needed: true, issuer: as.issuer, scopes: auth.scopes ?? [] };
    }
    if (!auth.clientId && !(await deps.discovery.needed(route))) {
      await deps.discovery.needed(route, onStep);
      say({ ok: true, finding: "the upstream asks for no token: callers reach it without one" });
      return { ok: true, needed: false, scopes: [] };
    }
    const server = await deps.discovery.server(route, { authorizationServerUrl, onStep });
    const { as } = server;
    if (auth.type === "oauth") checkIssuer(deps.routes().config, route, auth, as);
    if (auth.clientId !== undefined)
      checkNamedIssuer(route, { clientId: auth.clientId, authorizationServerUrl }, as.issuer);
    if (server.hasMetadata && !as.code_challenge_methods_supported?.includes("S256")) {
      throw new UpstreamOAuthError(
        "pkce_not_supported",
        `${as.issuer} does not list S256 in code_challenge_methods_supported; if it does support PKCE, set upstream_oauth2.endpoint on the route`,
      );
    }
    onStep({
      name: "capabilities",
      url: as.token_endpoint,
      ok: true,
      finding: capabilities(server.hasMetadata, as),
    });
    const table = deps.routes();
    const published = table.config.upstreamOAuth.clientIdMetadataUrl;
    const places =
      published === undefined
        ? clientPlaces(table, route, as.issuer)
        : publishedPlaces(table, route, published);
    const byHand = redirectUriByHand(table.config, route);
    const mode = deps.routes().config.upstreamOAuth.clientIdMetadataDocument;
    const byDocument =
      mode === "always" || (mode === "auto" && as.client_id_metadata_document_supported === true);
    if (auth.clientId) {
      onStep({
        name: "client",
        ok: true,
        finding: `the client id of the routes file: ${auth.clientId}; its redirect URI there: ${byHand}`,
      });
    } else if (byDocument) {
      onStep({
        name: "client",
        url: documentClientId(places, as),
        ok: true,
        finding: "our client document, if the server can reach it",
      });
    } else if (as.registration_endpoint) {
      onStep({
        name: "client",
        url: as.registration_endpoint,
        ok: true,
        finding: "registers clients by itself",
      });
      const ours = await deps.registration?.(as.issuer, places.redirectUri);
      if (ours?.secretExpiresAt) onStep({ name: "client", ok: true, finding: secretEnds(ours) });
    } else {
      throw new UpstreamOAuthError(
        "registration_unavailable",
        `${as.issuer} registers no clients by itself: register one by hand with redirect URI ${byHand}, then set upstream_oauth2.client_id and client_secret on the route`,
      );
    }
    say({ ok: true, finding: "a person who connects is sent to this server; nothing to do" });
    return { ok: true, needed: true, issuer: as.issuer, scopes: auth.scopes ?? server.scopes };
  } catch (thrown) {
    const failure = UpstreamOAuthError.from(thrown, "discovery").toFailure();
    say({ ok: false, finding: failure.message });
    return failure;
  }
}

/** What an operator should know of a secret that ends. */
function secretEnds(ours: ClientRegistration): string {
  const end = `the secret of our client ${ours.clientId} there ends on ${ours.secretExpiresAt?.toISOString()}`;
  return notesOf(ours).management
    ? `${end} and is renewed before (RFC 7592)`
    : `${end}, and the server offers no renewal (RFC 7592): people who are connected by then must connect again`;
}

function capabilities(
  hasMetadata: boolean,
  as: { authorization_response_iss_parameter_supported?: boolean; revocation_endpoint?: string },
): string {
  if (!hasMetadata) return "unknown: no metadata; S256 is sent all the same";
  const iss = as.authorization_response_iss_parameter_supported
    ? "names itself in answers"
    : "does not name itself in answers";
  return `supports PKCE with S256, ${iss}, ${as.revocation_endpoint ? "can revoke" : "cannot revoke"}`;
}
