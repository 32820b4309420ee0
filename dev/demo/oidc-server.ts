import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import Router from "@koa/router";
import { html } from "ghtml";
import { exportJWK, generateKeyPair } from "jose";
import Provider, { type Configuration } from "oidc-provider";
import { demoPage } from "./demo-page.ts";
import { listen } from "./listen.ts";
import { memoryAdapter } from "./memory-adapter.ts";

/** An account at one of the demo's servers. Changes to `groups` and `more` take effect with the next token. */
export interface DemoAccount {
  readonly login: string;
  readonly password: string;
  readonly sub: string;
  readonly email: string;
  readonly name: string;
  groups: readonly string[];
  /** Additional claims for the scopes `groups` and `email`: `employment`, another `email_verified`. */
  more?: Readonly<Record<string, unknown>>;
}

/** Counters since the start. */
export interface Counts {
  authorizations: number;
  /** Successful token responses by grant type. */
  readonly tokens: Record<string, number>;
  /** Rejected token requests by OAuth error code. */
  readonly refusals: Record<string, number>;
  registrations: number;
  revocations: number;
  /** Requests for its key set. */
  keySets: number;
}

/** A running oidc-provider with its pages. */
export interface OidcServer {
  readonly provider: Provider;
  readonly issuer: string;
  readonly port: number;
  readonly accounts: readonly DemoAccount[];
  readonly counts: Counts;
  /** Every access, refresh and ID token it has issued. */
  issuedTokens(): readonly string[];
  /** Every authorization code it has issued. */
  issuedCodes(): readonly string[];
  /** Removes the account: no sign-in, no refresh. */
  dismiss(login: string): void;
  /** Answers every request (or only those to the token endpoint) with `status`; undefined: works again. */
  outage(status: number | undefined, where?: "everywhere" | "token"): void;
  close(): Promise<void>;
}

/**
 * Starts a real oidc-provider on loopback with a sign-in page (fields `login`, `password`) and, if
 * `consent` is `ask`, a consent page (buttons `decision=allow` and `decision=deny`). `configure` receives
 * the issuer once the port is known.
 */
export async function oidcServer(options: {
  title: string;
  /** Separates the cookies of several servers on 127.0.0.1. */
  cookiePrefix: string;
  accounts: readonly DemoAccount[];
  consent: "ask" | "first_party";
  port?: number;
  portSetting?: string;
  configure: (issuer: string) => Configuration;
}): Promise<OidcServer> {
  let handle: ReturnType<Provider["callback"]> | undefined;
  let down: { status: number; where: "everywhere" | "token" } | undefined;
  const listener = await listen(
    (request, response) => {
      if (down && (down.where === "everywhere" || request.url?.split("?")[0] === "/token")) {
        response.writeHead(down.status, { "content-type": "text/plain" }).end("out of order\n");
        return;
      }
      if (request.url === "/jwks") counts.keySets += 1;
      handle?.(request, response);
    },
    options.port,
    options.portSetting,
  );
  const accounts = options.accounts.map((account) => ({ ...account }));
  const dismissed = new Set<string>();
  const known = (matches: (account: DemoAccount) => boolean) =>
    accounts.find((account) => matches(account) && !dismissed.has(account.login));

  const provider = new Provider(listener.url, {
    adapter: memoryAdapter(),
    jwks: { keys: [await signingKey("RS256"), await signingKey("ES256")] },
    cookies: {
      keys: [randomBytes(32).toString("base64url")],
      names: {
        session: `${options.cookiePrefix}_session`,
        interaction: `${options.cookiePrefix}_interaction`,
        resume: `${options.cookiePrefix}_resume`,
      },
    },
    pkce: { required: () => true },
    claims: {
      openid: ["sub"],
      profile: ["name"],
      email: ["email", "email_verified"],
      groups: ["groups", "employment", "hasgroups", "department", "roles", "badge"],
    },
    conformIdTokenClaims: false,
    async findAccount(_ctx, sub) {
      const account = known((one) => one.sub === sub);
      if (!account) return undefined;
      const { email, name, groups, more } = account;
      return { accountId: sub, claims: () => ({ sub, email, email_verified: true, name, groups, ...more }) };
    },
    async loadExistingGrant(ctx) {
      const { client, session, result } = ctx.oidc;
      const id = result?.consent?.grantId ?? (client && session?.grantIdFor(client.clientId));
      if (id) return provider.Grant.find(id);
      if (options.consent === "ask" || !client || !session?.accountId) return undefined;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope([...ctx.oidc.requestParamScopes].join(" "));
      await grant.save();
      return grant;
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    rotateRefreshToken: true,
    renderError(ctx, out) {
      ctx.type = "html";
      ctx.body = demoPage("Request failed", html`<p>${out.error}: ${out.error_description ?? ""}</p>`);
    },
    ...options.configure(listener.url),
  });
  const counts = count(provider);
  const issued: string[] = [];
  const codes: string[] = [];
  provider.on("authorization_code.saved", ({ jti }) => codes.push(jti));
  provider.on("grant.success", ({ body }) => {
    for (const name of ["access_token", "refresh_token", "id_token"]) {
      if (isRecord(body) && typeof body[name] === "string") issued.push(body[name]);
    }
  });
  provider.use(pages(provider, options.title, known).routes());
  handle = provider.callback();

  return {
    provider,
    issuer: listener.url,
    port: listener.port,
    accounts,
    counts,
    issuedTokens: () => issued,
    issuedCodes: () => codes,
    dismiss: (login) => dismissed.add(login),
    outage: (status, where = "everywhere") => {
      down = status === undefined ? undefined : { status, where };
    },
    close: listener.close,
  };
}

function pages(
  provider: Provider,
  title: string,
  known: (matches: (account: DemoAccount) => boolean) => DemoAccount | undefined,
): Router {
  const router = new Router();
  router.get("/interaction/:uid", async (ctx) => {
    const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
    ctx.type = "html";
    if (prompt.name === "login") {
      ctx.body = signInPage(title);
      return;
    }
    const client = await provider.Client.find(String(params.client_id));
    ctx.body = consentPage(title, {
      client: client?.clientName ?? String(params.client_id),
      account: known((one) => one.sub === session?.accountId)?.login ?? "",
      scopes: String(params.scope ?? "")
        .split(" ")
        .filter(Boolean),
    });
  });
  router.post("/interaction/:uid", async (ctx) => {
    const { prompt, params, session, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
    const form = new URLSearchParams(await text(ctx.req));
    ctx.respond = false;
    if (prompt.name === "login") {
      const account = known(
        (one) => one.login === form.get("login") && one.password === form.get("password"),
      );
      if (!account) {
        ctx.respond = true;
        ctx.status = 401;
        ctx.type = "html";
        ctx.body = signInPage(title, "The name or the password is wrong.");
        return;
      }
      await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: account.sub } });
      return;
    }
    if (form.get("decision") !== "allow") {
      const refusal = { error: "access_denied", error_description: "the user refused" };
      await provider.interactionFinished(ctx.req, ctx.res, refusal);
      return;
    }
    const grant =
      (grantId && (await provider.Grant.find(grantId))) ||
      new provider.Grant({ clientId: String(params.client_id), accountId: session?.accountId });
    const { missingOIDCScope, missingResourceScopes } = prompt.details;
    if (isStrings(missingOIDCScope)) grant.addOIDCScope(missingOIDCScope.join(" "));
    for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
      if (isStrings(scopes)) grant.addResourceScope(resource, scopes.join(" "));
    }
    const consent = { grantId: await grant.save() };
    await provider.interactionFinished(ctx.req, ctx.res, { consent }, { mergeWithLastSubmission: true });
  });
  return router;
}

function signInPage(title: string, error = ""): string {
  return demoPage(
    title,
    html`<p>Sign in to go on.</p>
<p class="error" role="alert">${error}</p>
<form method="post">
<label>Name <input name="login" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button type="submit">Sign in</button>
</form>`,
  );
}

function consentPage(title: string, facts: { client: string; account: string; scopes: string[] }): string {
  return demoPage(
    title,
    html`<p><strong>${facts.client}</strong> asks to act for <strong>${facts.account}</strong> here.</p>
<ul>!${facts.scopes.map((scope) => html`<li>${scope}</li>`).join("")}</ul>
<form method="post">
<button type="submit" name="decision" value="allow">Allow</button>
<button type="submit" name="decision" value="deny">Deny</button>
</form>`,
  );
}

function count(provider: Provider): Counts {
  const counts: Counts = {
    authorizations: 0,
    tokens: {},
    refusals: {},
    registrations: 0,
    revocations: 0,
    keySets: 0,
  };
  const add = (record: Record<string, number>, key: string) => {
    record[key] = (record[key] ?? 0) + 1;
  };
  provider.on("authorization.success", () => {
    counts.authorizations += 1;
  });
  provider.on("grant.success", (ctx) => add(counts.tokens, String(ctx.oidc.params?.grant_type)));
  provider.on("grant.error", (_ctx, error) => add(counts.refusals, error.message));
  provider.on("registration_create.success", () => {
    counts.registrations += 1;
  });
  provider.on("grant.revoked", () => {
    counts.revocations += 1;
  });
  return counts;
}

async function signingKey(alg: "RS256" | "ES256") {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: "sig", kid: alg };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
