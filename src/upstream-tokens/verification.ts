import type { Route } from "../model/route.ts";
import { withDeadline } from "../util/deadline.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { UpstreamRejections } from "./rejections-and-step-up.ts";
import type { Credential, TokenCaller, UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Concurrent requests per route; more are skipped, so that a slow upstream does not collect them. A token request causes at most one. */
const maxPerRoute = 16;

type Deps = Pick<UpstreamTokensDeps, "routes" | "upstreamOAuth" | "logger" | "metrics"> & {
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
  readonly #ofRoute = new Map<string, number>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Settles within `upstream_oauth.timeout`; what takes longer ends in the background. Rejects only if the store does. */
  async verify(userId: string, route: Route): Promise<void> {
    const credential = await this.#deps.find({ userId, kind: "person", looking: true }, route);
    // Without a version it is the same for all callers, or none.
    if (credential.kind !== "credential" || credential.version === undefined) return;
    const name = `${credential.connection} ${credential.version}`;
    if (!this.#running.get(name) && (this.#ofRoute.get(route.id) ?? 0) >= maxPerRoute) {
      this.#deps.metrics.limitsReached.inc({ limit: "upstream_verifications" });
      return;
    }
    const asked = this.#running.run(name, () => {
      this.#count(route.id, 1);
      return this.#ask(userId, route, credential).finally(() => this.#count(route.id, -1));
    });
    await withDeadline(asked, this.#deps.routes().config.upstreamOAuth.timeoutMs, () => {});
  }

  #count(routeId: string, change: 1 | -1): void {
    const now = (this.#ofRoute.get(routeId) ?? 0) + change;
    if (now > 0) this.#ofRoute.set(routeId, now);
    else this.#ofRoute.delete(routeId);
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
