import Router from "@koa/router";
import { createConnectRouter } from "./connect.ts";
import { createConnectionsRouter } from "./connections.ts";
import { createListingRouter } from "./listing.ts";
import type { PortalDeps } from "./portal.ts";

/** All that a signed-in person, or an application for one, does with connections. Paths follow `paths.prefix` as configured now. */
export function createPortal(deps: PortalDeps): Router {
  const router = new Router();
  for (const part of [createConnectRouter(deps), createListingRouter(deps), createConnectionsRouter(deps)])
    router.use(part.routes());
  return router;
}
