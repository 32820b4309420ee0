import Router from "@koa/router";
import { createConnectRouter } from "./connect.ts";
import { createConnectionsRouter } from "./connections.ts";
import { createListingRouter } from "./listing.ts";
import type { PortalDeps } from "./portal.ts";

/** The endpoints for connections, for users and for applications. Paths use `paths.prefix` at startup. */
export function createPortal(deps: PortalDeps): Router {
  const router = new Router();
  for (const part of [createConnectRouter(deps), createListingRouter(deps), createConnectionsRouter(deps)])
    router.use(part.routes());
  return router;
}
