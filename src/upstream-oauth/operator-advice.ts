import { consentAuth, type Route, upstreamAuth } from "../model/route.ts";
import type { FailureCode } from "./failures.ts";

/**
 * What an operator can do about a failed discovery or authorization, in one or two sentences that name the keys of the routes file.
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
        `Set \`to\` to the URL of the MCP endpoint (currently ${route.upstream}), or mcp.server.path to its path. ` +
        "If the URL is correct, ask the server's owner why it does not answer there" +
        (consentAuth(route)
          ? "; if it needs no token at all, set mcp.server.upstream_auth: none to skip the probe."
          : ".")
      );
    case "upstream_endpoint_elsewhere":
      return (
        "Configure the server to announce its endpoint as a path or on its own host: most servers have a setting for their public URL. " +
        `If the announced host is the server, set \`to\` to its URL on that host (currently ${route.upstream}).`
      );
    case "credential_missing":
      return (
        "The server requires a credential. Set mcp.server.upstream_auth to api_key or headers, or, if it uses OAuth, " +
        "remove upstream_auth to discover its authorization server."
      );
    case "credential_rejected":
      return "Check the name and value of the header in mcp.server.upstream_auth with the server's owner: the credential is wrong or has expired.";
    case "token_endpoint_unusable":
      return (
        "Check the token URL: the route's token_url if set; otherwise the token_endpoint in the authorization server's metadata, " +
        "which its owner has to correct."
      );
    case "redirect_not_followed":
      return (
        "Redirects are followed only for metadata and within one host. If the server has moved, set `to` (or mcp.server.authorization_server_url, " +
        "or token_url) to its new URL; if its metadata is on another host, ask its owner to serve it without a redirect, " +
        "or set mcp.server.upstream_oauth2.endpoint and client_id by hand."
      );
    case "response_too_large":
      return "Raise upstream_oauth.max_response_bytes if a response of that size is expected; otherwise report it to the server's owner.";
    case "resource_mismatch":
      return (
        "The server's metadata describes a different resource than the route's `to`. Set `to` to the URL in the metadata " +
        `(currently ${route.upstream}), or ask the server's owner to correct \`resource\` in its metadata. ` +
        "If `resource: exact` is set, remove it to accept a URL above `to`."
      );
    case "issuer_mismatch":
      return (
        "The authorization server's metadata has a different issuer than expected. Ask the server's owner which one is correct. If it is the one in the metadata, " +
        "set mcp.server.expected_issuer to exactly that value: it is compared with `iss`, and credentials are bound to it and to the token endpoint."
      );
    case "metadata_invalid":
      return (
        "The authorization server's metadata lacks required members. Report it to its owner. " +
        "Until it is fixed, set mcp.server.upstream_oauth2.endpoint and client_id by hand if you trust the endpoints."
      );
    case "metadata_domain_not_allowed":
      return "Add the authorization server's domain to upstream_oauth.allowed_as_metadata_domains, if you trust it.";
    case "endpoint_not_allowed":
      return (
        "The server's metadata points to an address that is not public https. If the host is yours, add it to " +
        "upstream_oauth.allowed_private_hosts, or name it on the route (mcp.server.authorization_server_url), which needs no such entry; " +
        "otherwise do not connect the server."
      );
    case "issuer_changed":
      return (
        "Ask the server's owner whether it has moved. If it has, register a client at the new authorization server and set its " +
        "client_id; if the same client is registered there too, set authorization_server_url to the new issuer."
      );
    case "issuer_of_other_route":
      return (
        "Ask the server's owner why it names that authorization server. If users of this route may give the server access to their " +
        "accounts there, set mcp.server.authorization_server_url of the route to it."
      );
    case "pkce_not_supported":
      return (
        "The authorization server does not offer PKCE with S256, which MCP requires. Its owner has to enable it; " +
        "if it is enabled but not advertised, set mcp.server.upstream_oauth2.endpoint and client_id."
      );
    case "registration_unavailable":
      return (
        "The authorization server does not support dynamic client registration. Register a client there by hand, with the redirect URI " +
        "given above, and set mcp.server.upstream_oauth2.client_id and client_secret."
      );
    case "registration_rejected":
      return (
        "The authorization server rejected the registration of this gateway. Ask its owner whether this gateway may register, or register by hand " +
        "and set mcp.server.upstream_oauth2.client_id and client_secret."
      );
    case "client_rejected":
      return "The authorization server does not know this gateway's client, or its secret has changed: check client_id and client_secret.";
    case "token_request_rejected":
    case "token_invalid":
    case "response_invalid":
    case "authorization_rejected":
      return "The authorization server rejected the request. Check client_id, client_secret and scopes of this route with its owner.";
    case "rate_limited":
      return "The server limits the rate of requests. Wait and try again.";
    case "server_error":
      return "The server failed. Try again later, or report it to its owner.";
    case "unreachable":
      return (
        "Check that the host resolves and can be reached from here: DNS, firewall, proxy, TLS certificate (for a private " +
        "CA, set tls_custom_ca_file on the route to its file, which both the gateway and Envoy must be able to read)."
      );
    case "storage_unavailable":
      return "The database cannot be reached. The token is stored as soon as the database is back.";
    case "key_unusable":
      return "The private key of this route cannot be read: check its private_key (and workload_identity_file).";
    case "sign_in_token_missing":
      return "The token request needs the user's sign-in token: test it by calling the route as that user.";
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
      return "Start the authorization again in the browser.";
  }
}
