import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type McpClient, mcpClient } from "../../dev/demo/mcp-client.ts";
import { runProgram } from "../../dev/demo/sidecar.ts";
import { type Stack, type StackOptions, startStack } from "../../dev/demo/stack.ts";
import { copyEmbeddedTestDatabase } from "./embedded-database.ts";
import { type HttpBrowser, httpBrowser, type SignInFor } from "./http-browser.ts";

/** A user with an account at the company and another at the upstream. */
export type User = "alice" | "bob";

const people = {
  alice: {
    company: { login: "alice", password: "wonderland" },
    upstream: { login: "ally", password: "looking-glass" },
  },
  bob: { company: { login: "bob", password: "builder" }, upstream: { login: "bobby", password: "hammer" } },
} as const;

/** A complete stack on test hosts, and users who go through its pages headlessly. */
export interface E2e extends Stack {
  /** The user's browser: one per user, with its cookies. */
  browser(user: User): HttpBrowser;
  /** Accounts of the user by the origin of the sign-in form. */
  signIn(user: User): SignInFor;
  /** An MCP client of the user for `url` (default: the everything route); `connect()` runs the flow. */
  client(user: User, url?: string, options?: { scope?: string; fetch?: typeof fetch }): Promise<McpClient>;
  /** Runs the command line while the sidecar serves, like an operator. @returns its output */
  command(...args: string[]): Promise<string>;
  /** An external token of the user for `url`, obtained by the whole flow. */
  externalToken(user: User, url?: string): Promise<string>;
}

/** As for `startStack`; a test about the embedded database sets this. */
export interface E2eOptions extends Partial<StackOptions> {
  readonly database?: "embedded";
}

/**
 * Starts the stack on `https://auth.test`, `https://everything.test` and `https://open.test` in a separate folder; `close` stops it and
 * removes the folder. Without a `DATABASE_URL` in `env`, the stack of a test file has its own database on the shared Postgres, which
 * starts in half the time of an embedded one; outside Vitest nothing is shared.
 */
export async function startE2e({ database: kind, ...options }: E2eOptions = {}): Promise<E2e> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "e2e-")));
  const closers = [() => rm(folder, { recursive: true, force: true })];
  const closeRest = async () => {
    for (const close of closers.splice(0)) await close();
  };
  const database = kind === undefined && !options.env?.DATABASE_URL ? await sharedDatabase() : undefined;
  if (database) closers.push(database.close);
  const env = { ...(database && { DATABASE_URL: database.url }), ...options.env };
  // Creating one takes most of a stack's start time.
  if (!options.folder && !env.DATABASE_URL) await copyEmbeddedTestDatabase(join(folder, "data"));
  const stack = await startStack({
    urls: { issuer: "https://auth.test", everything: "https://everything.test", open: "https://open.test" },
    ...options,
    env,
    folder,
  }).catch(async (error: unknown) => {
    await closeRest();
    throw error;
  });
  const clients: McpClient[] = [];
  const browsers = new Map<User, HttpBrowser>();

  function browser(user: User): HttpBrowser {
    const known = browsers.get(user);
    if (known) return known;
    const made = httpBrowser({ fetch: stack.fetch });
    browsers.set(user, made);
    return made;
  }
  function signIn(user: User): SignInFor {
    return (origin) => {
      if (origin === stack.openid.issuer) return people[user].company;
      return origin === stack.upstream.issuer ? people[user].upstream : undefined;
    };
  }
  async function client(
    user: User,
    url = stack.urls.everything,
    more: { scope?: string; fetch?: typeof fetch } = {},
  ): Promise<McpClient> {
    const made = await mcpClient({
      url,
      fetch: more.fetch ?? stack.fetch,
      scope: more.scope,
      browse: async (location) => {
        const page = await browser(user).agree(await browser(user).open(location), signIn(user));
        if (page.url.pathname === "/callback") return;
        throw new Error(`the flow ended at ${page.url.href} (${page.status}): ${page.html.slice(0, 1000)}`);
      },
    });
    clients.push(made);
    return made;
  }

  return {
    ...stack,
    browser,
    signIn,
    client,
    async command(...args) {
      const line = [...args, "--config", stack.configFile];
      return runProgram(options.program, line, { ...process.env, ...env });
    },
    async externalToken(user, url) {
      const made = await client(user, url);
      await made.connect();
      const token = made.tokens()?.access_token;
      if (!token) throw new Error("the client connected without a token");
      return token;
    },
    async close() {
      for (const made of clients) await made.close();
      // No requests are in progress: skips draining, which takes seconds.
      stack.sidecar().kill("SIGKILL");
      await stack.close();
      await closeRest();
    },
  };
}

/** Vitest's part exists in its workers only. */
async function sharedDatabase() {
  if (!process.env.VITEST) return undefined;
  const { createTestDatabase } = await import("./postgres.ts");
  return createTestDatabase();
}
