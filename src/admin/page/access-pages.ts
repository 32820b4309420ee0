import { withClientNames } from "../../external-tokens/client-names.ts";
import { connectionsContent, grantsContent } from "../../pages/admin/access.ts";
import { endGrants } from "../../store/end-grants.ts";
import { AdminError } from "../access.ts";
import {
  type AdminPageDeps,
  firstPage,
  given,
  goTo,
  link,
  type PageRoutes,
  queryOf,
  revocationReason as reason,
  showSection,
} from "./page-requests.ts";

const perPage = 50;

/** Connections of users, and grants of MCP clients, each with a button that ends it as the command line does. */
export function addAccessPages(pages: PageRoutes, deps: AdminPageDeps): void {
  const { store, upstreamTokens } = deps;

  pages.get("/admin/connections", "admin", async (request) => {
    const query = queryOf(request.ctx);
    const [userId, routeId] = [given(query, "user"), given(query, "route")];
    const [user, route, upstream] = ["after_user", "after_route", "after_upstream"].map((name) =>
      given(query, name),
    );
    const after = user && route && upstream ? { userId: user, routeId: route, upstream } : undefined;
    const listing = store.upstreamTokens.pages({ userId, routeId }, after);
    const { entries, next } = await firstPage(listing, perPage);
    const filter = { user: userId, route: routeId };
    const content = connectionsContent({
      connections: entries,
      filter: { userId, routeId },
      csrf: request.actor.csrf,
      first: after && link("/admin/connections", filter),
      next:
        next &&
        link("/admin/connections", {
          ...filter,
          after_user: next.userId,
          after_route: next.routeId,
          after_upstream: next.upstream,
        }),
      now: new Date(),
    });
    showSection(request, "connections", { title: "Connections", content });
  });
  pages.post("/admin/connections/revoke", async (request) => {
    const [userId, routeId, upstream] = ["user", "route", "upstream"].map((name) =>
      given(request.form, name),
    );
    if (!userId || !routeId || !upstream)
      throw new AdminError(400, "invalid_parameter", "the form names no connection");
    const { name: actor } = request.actor;
    const ended = await upstreamTokens.end({ userId, routeId, upstream }, { reason, actor });
    if (!ended) throw new AdminError(404, "not_found", "there is no such connection");
    goTo(request, "/admin/connections", ended.revoked ? "connection_revoked" : "connection_deleted");
  });

  pages.get("/admin/grants", "admin", async (request) => {
    const query = queryOf(request.ctx);
    const [userId, clientId] = [given(query, "user"), given(query, "client")];
    const [user, grant] = ["after_user", "after_grant"].map((name) => given(query, name));
    const after = user && grant ? { userId: user, grantId: grant } : undefined;
    const listing = store.authorizationServerRecords.grantPages({ userId, clientId }, after);
    const { entries, next } = await firstPage(listing, perPage);
    const grants = await withClientNames(deps, entries);
    const filter = { user: userId, client: clientId };
    const content = grantsContent({
      grants,
      filter: { userId, clientId },
      csrf: request.actor.csrf,
      first: after && link("/admin/grants", filter),
      next: next && link("/admin/grants", { ...filter, after_user: next.userId, after_grant: next.grantId }),
      now: new Date(),
    });
    showSection(request, "grants", { title: "Grants", content });
  });
  pages.post("/admin/grants/revoke", async (request) => {
    const grantId = given(request.form, "grant");
    const { name: actor } = request.actor;
    let any = false;
    if (grantId !== undefined)
      for await (const _ended of endGrants(store, { grantId }, { reason, actor })) any = true;
    if (!any) throw new AdminError(404, "not_found", "there is no such grant");
    goTo(request, "/admin/grants", "grant_revoked");
  });
}
