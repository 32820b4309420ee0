import type { Config } from "../config/config.ts";

const longest = 512;

/**
 * Why a client may not be known by the document at this URL (F3.9), as a sentence without its end; undefined: it may. It must be
 * https, with a path of its own, on an allowed host. Host patterns: `app.example.com`, or `*.example.com` for every name below it; no
 * patterns: any host.
 */
export function clientIdFault(
  clientId: string,
  {
    clientIdMetadataDocument: enabled,
    allowedClientIdDomains: domains,
  }: Pick<Config["authorizationServer"], "clientIdMetadataDocument" | "allowedClientIdDomains">,
): string | undefined {
  if (!enabled) return "this gateway does not accept applications that are known by a document they publish";
  const url = URL.parse(clientId);
  const usable = url?.protocol === "https:" && url.pathname !== "/" && url.hash === "" && url.username === "";
  if (!usable || clientId.length > longest)
    return `the URL by which the application names itself cannot be a client_id: it must be https, with a path, and no longer than ${longest} characters`;
  const allowed =
    domains.length === 0 ||
    domains.some((domain) =>
      domain.startsWith("*.") ? url.hostname.endsWith(domain.slice(1)) : url.hostname === domain,
    );
  return allowed
    ? undefined
    : `this gateway does not accept applications published by ${url.host}, which its operator has not listed`;
}
