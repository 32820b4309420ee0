import type { Context } from "koa";
import { isLoopback } from "../../config/listeners.ts";

/** Why a request to the admin page is not answered: what is wrong, and what to do. */
export interface Objection {
  readonly code: "insecure_connection" | "unknown_host" | "cross_site";
  readonly happened: string;
  readonly remedy: string;
}

/**
 * Checks of every request to the admin page, before its cookie is read:
 *
 * - TLS, or a peer on this machine: cookies and one-time codes would be sent unencrypted.
 * - `Host` is expected: by DNS rebinding, another site's scripts reach a forwarded port under that site's name.
 * - A form comes from the page itself: another port of the same host is the same site, and gets past `SameSite`.
 *
 * @param hosts `admin_api.hosts`
 */
export function objectionTo(ctx: Context, hosts: readonly string[]): Objection | undefined {
  const { remoteAddress } = ctx.req.socket;
  // Without an address, the peer is on a Unix socket.
  const isLocal = remoteAddress === undefined || isLoopback(`${remoteAddress.replace(/^::ffff:/, "")}:0`);
  if (!ctx.secure && !isLocal)
    return {
      code: "insecure_connection",
      happened:
        "Your browser reaches the private port over the network without TLS. What you enter here could be read on the way.",
      remedy:
        "Forward the port to your machine (kubectl port-forward, or ssh -L) and open it at localhost, or set listen.admin_tls.",
    };
  if (!hosts.includes(hostName(ctx.get("host"))))
    return {
      code: "unknown_host",
      happened: "The administration does not answer under this host name.",
      remedy: `Open it under one of these: ${hosts.join(", ")}, or add the name to admin_api.hosts.`,
    };
  if (ctx.method !== "GET" && ctx.method !== "HEAD" && !isFromItself(ctx))
    return {
      code: "cross_site",
      happened: "The form was not submitted from the administration itself.",
      remedy: "Open the administration in this browser, and press the button there.",
    };
  return undefined;
}

/** Without the port: forwarding may use any. */
function hostName(host: string): string {
  return host.toLowerCase().replace(/:\d*$/, "");
}

function isFromItself(ctx: Context): boolean {
  const site = ctx.get("sec-fetch-site");
  if (site !== "" && site !== "same-origin") return false;
  // Every browser sends it with a form; the page's Referrer-Policy keeps it from being null.
  return ctx.get("origin").toLowerCase() === `${ctx.protocol}://${ctx.get("host").toLowerCase()}`;
}
