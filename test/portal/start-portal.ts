import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { parse } from "node-html-parser";
import { listen } from "../../dev/demo/listen.ts";
import { createPortal } from "../../src/compose.ts";
import type { Subject } from "../../src/model/subject.ts";
import { createConsentLinks } from "../../src/portal/consent-links.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { behindEnvoy } from "../support/behind-envoy.ts";
import type { StackOptions } from "../support/stack.ts";
import { startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

/** One response, redirects not followed. */
export interface Answer {
  readonly status: number;
  readonly location?: URL;
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Values of `Set-Cookie`, by name; "" for a removed cookie. */
  readonly cookies: Readonly<Record<string, string>>;
  readonly setCookie: readonly string[];
  readonly body: string;
}
/** A signed-in browser: sends and stores cookies. */
export interface Browser {
  /** The host it is signed in on. */
  readonly cookies: Map<string, string>;
  open(url: string | URL): Promise<Answer>;
  /** Presses a button of the form on a page that `open` got from `url`. */
  press(url: string | URL, page: Answer, decision: "allow" | "deny"): Promise<Answer>;
  /** Opens a connect link and confirms on the issuer's host; returns the last response. */
  connect(url: string | URL): Promise<Answer>;
}

/** The portal with real sign-in sessions, behind a plain HTTP listener. */
export async function startPortal(routesYaml: string, options: Pick<StackOptions, "interruptible"> = {}) {
  const stack = await startOAuthClient(routesYaml, options);
  const { store, beforeClose } = stack;
  const allowed: { readonly grantId: string; readonly routeId: string }[] = [];
  const deps = {
    ...stack,
    endpointPath: stack.upstreamOAuth.endpointPath,
    mayReach: ({ userId }: Subject) => userId !== "company/mallory",
    describeClient: async (id: string) => ({ id, name: `Client <${id}>`, source: "registered" as const }),
    onAllowed: async (one: (typeof allowed)[number]) => void allowed.push(one),
  };
  const portal = createPortal(deps);
  const consentLinks = createConsentLinks(deps);
  portal.use(consentLinks.router.routes());
  const listener = await listen(behindEnvoy().use(portal.routes()).callback());
  beforeClose(listener.close);

  async function send(url: URL, cookie: string, form?: URLSearchParams): Promise<Answer> {
    const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
      const headers = {
        host: url.host,
        ...(cookie && { cookie }),
        ...(form && { "content-type": "application/x-www-form-urlencoded" }),
      };
      const method = form ? "POST" : "GET";
      request(
        { host: "127.0.0.1", port: listener.port, path: url.pathname + url.search, method, headers },
        resolve,
      )
        .on("error", reject)
        .end(form?.toString());
    });
    const setCookie = response.headers["set-cookie"] ?? [];
    const { location } = response.headers;
    return {
      status: response.statusCode ?? 0,
      location: location === undefined ? undefined : new URL(location, url),
      headers: Object.fromEntries(
        Object.entries(response.headers).map(([name, value]) => [name, String(value)]),
      ),
      cookies: Object.fromEntries(setCookie.map((one) => (one.split(";")[0] ?? "").split(/=(.*)/s))),
      setCookie,
      body: await text(response),
    };
  }

  return {
    ...stack,
    createConsentLink: consentLinks.create,
    /** Grants of aggregated routes that users have allowed to use a route. */
    allowed,
    /** A browser of `userId` with a session on `host`, handed over from one on the issuer's host; absent: signed out. */
    async browser(userId?: string, host = "mcp.test"): Promise<Browser & { parentName: string }> {
      const jars = new Map<string, Map<string, string>>();
      const jarOf = (name: string) => jars.get(name) ?? jars.set(name, new Map()).get(name) ?? new Map();
      const cookies = jarOf(host);
      const id = randomBytes(32).toString("base64url");
      const parentId = randomBytes(32).toString("base64url");
      const parentName = hashedHandle(parentId);
      if (userId) {
        const now = new Date();
        const expiresAt = new Date(Date.now() + 3_600_000);
        const person = { providerId: "company", subject: userId, groups: [], claims: {}, checkedAt: now };
        await store.signInSessions.put({ userId, ...person });
        const session = { userId, createdAt: now, expiresAt };
        await store.browserSessions.create({ ...session, id: parentId, host: "auth.test" });
        await store.browserSessions.create({ ...session, id, host, parentName });
        cookies.set("__Host-mcp_session", id);
        jarOf("auth.test").set("__Host-mcp_session", parentId);
      }
      async function go(url: URL, form?: URLSearchParams): Promise<Answer> {
        const jar = jarOf(url.host);
        const answer = await send(url, [...jar].map(([name, value]) => `${name}=${value}`).join("; "), form);
        for (const [name, value] of Object.entries(answer.cookies)) {
          if (value) jar.set(name, value);
          else jar.delete(name);
        }
        return answer;
      }
      const open = (url: string | URL) => go(new URL(url));
      async function press(url: string | URL, page: Answer, decision: string) {
        const form = parse(page.body).querySelector("form");
        const csrf = form?.querySelector("[name=csrf]")?.getAttribute("value") ?? "";
        const action = new URL(form?.getAttribute("action")?.replaceAll("&amp;", "&") ?? "", url);
        const hidden = (form?.querySelectorAll("input[type=hidden]") ?? []).map((field): [string, string] => [
          field.getAttribute("name") ?? "",
          field.getAttribute("value") ?? "",
        ]);
        return go(action, new URLSearchParams({ ...Object.fromEntries(hidden), csrf, decision }));
      }
      return {
        cookies,
        parentName,
        open,
        press,
        async connect(url) {
          const asked = await open(url);
          if (asked.location?.pathname !== "/.pomerium/mcp/connect/confirm") return asked;
          const page = await open(asked.location);
          const answer = page.location ? page : await press(asked.location, page, "allow");
          if (!answer.location) throw new Error(`${answer.status}: ${answer.body}`);
          return open(answer.location);
        },
      };
    },
  };
}
