import { isLoopbackName } from "../egress/addresses.ts";
import { hasSecretInUrl, isSecretName, isSecretValue } from "./secret-texts.ts";
import { type Common, NotImportable, type RemoteServer } from "./servers.ts";

/** Set by every client, or by Envoy. */
const ofEveryClient =
  /^(?:accept|content-type|content-length|user-agent|host|connection|mcp-protocol-version|mcp-session-id)$/i;

/**
 * A server with a URL.
 * @param url and the headers `all`: variables are resolved
 * @throws NotImportable
 */
export function remoteServer(
  common: Common,
  url: string,
  all: readonly (readonly [string, string])[],
): RemoteServer {
  const given = all.filter(([header]) => !ofEveryClient.test(header));
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.hash !== "")
    throw new NotImportable("its URL is not an http or https URL", "write the URL of its MCP endpoint");
  if (parsed.username !== "" || hasSecretInUrl(url))
    throw new NotImportable(
      "its URL seems to contain a secret, and URLs of upstreams appear in logs and in the admin API",
      "use a header if the server accepts one; if it is not a secret, add the route by hand",
    );
  const empty = given.find(([, value]) => value === "" || /\p{Cc}/u.test(value));
  if (empty !== undefined)
    throw new NotImportable(
      `its header ${empty[0]} is empty or has control characters`,
      "set it, and import again with --force",
    );
  const secret = ([header, value]: readonly [string, string]) => isSecretName(header) || isSecretValue(value);
  const credentials = given.filter(secret);
  const local = isLoopbackName(parsed.hostname);
  const open = credentials.length === 0 && (local || parsed.protocol === "http:");
  return {
    kind: "remote",
    ...common,
    url,
    credentials,
    headers: given.filter((header) => !secret(header)),
    open,
    notes: [
      ...common.notes,
      ...(local ? ["its URL is on this machine: it must be one that Envoy reaches"] : []),
      ...(open
        ? ["the gateway sends it no credential (upstream_auth: none)"]
        : credentials.length === 0
          ? [
              "each user signs in at the server (OAuth, discovered); if it needs no sign-in, set upstream_auth: none",
            ]
          : ["all users share the credential of the file"]),
    ],
  };
}
