import type { Route } from "../model/route.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { UpstreamRejections } from "./rejections-and-step-up.ts";
import type { Credential, TokenCaller, UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Requests under way; more are skipped: slow upstreams must not collect them. A client can cause one per token request, like a call. */
const maxRunning = 64;

type Deps = Pick<UpstreamTokensDeps, "upstreamOAuth" | "logger" | "metrics"> & {
  readonly rejections: Pick<UpstreamRejections, "handle">;
  readonly find: (
    caller: TokenCaller & { readonly looking: true },
    route: Route,
  ) => Credential | Promise<Credential>;
};

/**
 * Verifies a stored upstream token with one request to the upstream, where no response reaches ext_proc (`envoy.response_path: false`).
 * A 401 counts as one to a call; any other answer, and none, changes nothing.
 */
export class UpstreamVerification {
  readonly #deps: Deps;
  readonly #running = new SingleFlight<void>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Rejects only if the store does. */
  async verify(userId: string, route: Route): Promise<void> {
    const credential = await this.#deps.find({ userId, kind: "person", looking: true }, route);
    // Without a version it is the same for all callers, or none.
    if (credential.kind !== "credential" || credential.version === undefined) return;
    const name = `${credential.connection} ${credential.version}`;
    if (this.#running.size >= maxRunning && !this.#running.get(name)) return;
    await this.#running.run(name, () => this.#ask(userId, route, credential));
  }

  async #ask(
    userId: string,
    route: Route,
    { headers, proof, connection, version }: Extract<Credential, { kind: "credential" }>,
  ): Promise<void> {
    const { upstreamOAuth, rejections, metrics, logger } = this.#deps;
    const answer = await upstreamOAuth.probe(route, async (method, url) => [
      ...headers,
      ...((await proof?.(method, url)) ?? []),
    ]);
    if (answer?.status !== 401) return;
    const outcome = await rejections.handle({
      ...answer,
      status: answer.status,
      userId,
      routeId: route.id,
      upstreamHash: route.upstreamHash,
      askedPath: route.askedPath,
      version,
    });
    metrics.upstreamRejections.inc({ status: "401", outcome: outcome.kind });
    logger.info(
      { outcome: outcome.kind, reason: outcome.reason, route: route.id, userId, connection, version },
      "upstream rejected a token that was verified with it",
    );
  }
}
