import { consentAuth, type Route, upstreamAuth } from "../model/route.ts";
import type { FailureCode } from "./failures.ts";

/**
 * What an operator should do about a failed discovery or consent, in one or two sentences. Names the keys of
 * the routes file that help.
 */
export function adviceFor(code: FailureCode, route: Route): string {
  switch (code) {
    case "discovery_failed":
      return (
        "The server names no authorization server. If it has one, set mcp.server.authorization_server_url to its issuer, " +
        "or mcp.server.upstream_oauth2.endpoint to its authorization and token URLs. " +
        "If it takes a key instead, set mcp.server.upstream_auth to api_key or headers" +
        (upstreamAuth(route)?.type === "none"
          ? "."
          : "; if it needs no OAuth at all, mcp.server.upstream_auth: none.")
      );
    case "not_an_mcp_server":
      return (
        `Set \`to\` to the URL of the MCP endpoint (it is ${route.upstream} now), or mcp.server.path to its path. ` +
        "If that is where it is, ask the server's owner why it does not answer there" +
        (consentAuth(route)
          ? "; where it needs no token at all, mcp.server.upstream_auth: none says so without asking."
          : ".")
      );
    case "upstream_endpoint_elsewhere":
      return (
        "Let the server name its endpoint by a path, or by its own host: its public URL is a setting of most servers. " +
        `Or set \`to\` to the URL on the host that it names (it is ${route.upstream} now), if that is the server.`
      );
    case "credential_missing":
      return (
        "The server does want a credential. Set mcp.server.upstream_auth to api_key or headers, or, if it uses OAuth, " +
        "remove upstream_auth so that its authorization server is discovered."
      );
    case "credential_rejected":
      return "Check name and value of the header in mcp.server.upstream_auth with the server's owner: it is wrong, or has expired.";
    case "token_endpoint_unusable":
      return (
        "Check the token URL: token_url of the route where it has one; else the token_endpoint in the authorization server's metadata, " +
        "whose owner has to correct it."
      );
    case "redirect_not_followed":
      return (
        "Redirects are followed for metadata and within one host only. If the server has moved, set `to` (or mcp.server.authorization_server_url, " +
        "or token_url) to where it is now; if its metadata is on another host, ask its owner to serve it without a redirect, " +
        "or set mcp.server.upstream_oauth2.endpoint and client_id by hand."
      );
    case "response_too_large":
      return "Raise upstream_oauth.max_response_bytes if an answer of that size is right; else tell the server's owner.";
    case "resource_mismatch":
      return (
        "The server's metadata speaks of another resource than the route's `to`. Set `to` to the URL that the metadata names " +
        `(it is ${route.upstream} now), or have the server's owner correct \`resource\` in its metadata. ` +
        "Where `resource: exact` is set, removing it accepts a URL above `to`."
      );
    case "issuer_mismatch":
      return (
        "The authorization server's metadata is of another issuer than the one named. Ask the server's owner which is right. If the other one is, " +
        "set mcp.server.expected_issuer to exactly that text: it is compared with `iss`, and credentials are bound to it and to the token endpoint."
      );
    case "metadata_invalid":
      return (
        "The authorization server's metadata lacks what is needed. Tell its owner. " +
        "Until then set mcp.server.upstream_oauth2.endpoint and client_id by hand, if you trust the endpoints."
      );
    case "metadata_domain_not_allowed":
      return "Add the authorization server's domain to upstream_oauth.allowed_as_metadata_domains, if you trust it.";
    case "endpoint_not_allowed":
      return (
        "The server points to an address that is not public https. If it is yours, name its host in " +
        "upstream_oauth.allowed_private_hosts; if it is not, do not connect it."
      );
    case "issuer_changed":
      return (
        "Ask the server's owner whether it has moved. If it has, register a client at the new authorization server and set its " +
        "client_id; where the same client is known there, too, name the new issuer as authorization_server_url."
      );
    case "issuer_of_other_route":
      return (
        "Ask the server's owner why it names that authorization server. If this route's people may give the server access to their " +
        "accounts there, name it as mcp.server.authorization_server_url of the route."
      );
    case "pkce_not_supported":
      return (
        "The authorization server does not offer PKCE with S256, which MCP requires. Its owner has to turn it on; " +
        "if it is on and only not published, set mcp.server.upstream_oauth2.endpoint and client_id."
      );
    case "registration_unavailable":
      return (
        "The authorization server registers nobody by itself. Register a client there by hand, with the redirect URI that is " +
        "named above, and set mcp.server.upstream_oauth2.client_id and client_secret."
      );
    case "registration_rejected":
      return (
        "The authorization server refused to register us. Ask its owner whether this gateway may register, or register by hand " +
        "and set mcp.server.upstream_oauth2.client_id and client_secret."
      );
    case "client_rejected":
      return "The authorization server does not know our client, or its secret has changed: check client_id and client_secret.";
    case "token_request_rejected":
    case "token_invalid":
    case "response_invalid":
    case "authorization_rejected":
      return "The authorization server refused. Check client_id, client_secret and scopes of this route with its owner.";
    case "rate_limited":
      return "The server asks us to slow down. Wait and try again.";
    case "server_error":
      return "The server is out of order. Try again later, or tell its owner.";
    case "unreachable":
      return (
        "Check that the host resolves and can be reached from here: DNS, firewall, proxy, TLS certificate (of a private " +
        "authority: tls_custom_ca_file of the route names its file, which the sidecar must be able to read, as Envoy does)."
      );
    case "storage_unavailable":
      return "The database cannot be reached: what the server has granted is stored as soon as it can.";
    case "key_unusable":
      return "The private key of this route cannot be read: check its private_key (and workload_identity_file).";
    case "sign_in_token_missing":
      return "The grant needs the person's sign-in token: it can only be tried by calling the route as that person.";
    case "route_unavailable":
      return "Set enabled: true on the route, or choose another one.";
    case "consent_denied":
    case "disconnected_during_authorization":
    case "state_missing":
    case "notice_needed":
    case "state_of_other_browser":
    case "state_of_other_server":
    case "state_of_other_user":
    case "state_unknown":
      return "Start the consent again in the browser.";
  }
}
