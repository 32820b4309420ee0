import { requestedAccount } from "../../external-tokens/requested-account.ts";
import { createServiceAccounts, ServiceAccountExists } from "../../external-tokens/service-accounts.ts";
import { accountTokensContent, serviceAccountsContent } from "../../pages/admin/service-accounts.ts";
import { AdminError } from "../access.ts";
import {
  type AdminPageDeps,
  firstPage,
  given,
  goTo,
  link,
  type PageRequest,
  type PageRoutes,
  queryOf,
  revocationReason,
  showSection,
} from "./page-requests.ts";

const perPage = 50;
const day = 86_400;
const maxDays = 3650;

/** Lists, creates and revokes service accounts. The tokens of a new one are shown once. */
export function addServiceAccountPages(pages: PageRoutes, deps: AdminPageDeps): void {
  const { store, keys, routes } = deps;
  const path = "/admin/service-accounts";
  const accounts = () => createServiceAccounts({ store, keys, issuer: routes().config.issuer });

  pages.get(path, "admin", (request) => show(request));
  pages.post(path, async (request) => {
    const { form, actor } = request;
    const name = given(form, "name") ?? "";
    const ownerId = given(form, "owner");
    const routeIds = (given(form, "routes") ?? "").split(/[\s,]+/).filter(Boolean);
    const days = Number(form.get("days"));
    const { config } = routes();
    const asked = requestedAccount(config, { routeIds, ownerId });
    const fault = !/^[A-Za-z0-9._-]{1,64}$/.test(name)
      ? "a name has letters, digits, dots, dashes and underscores"
      : routeIds.length === 0
        ? "name at least one route"
        : !Number.isInteger(days) || days < 1 || days > maxDays
          ? `the lifetime is from 1 to ${maxDays} days`
          : asked.ok
            ? undefined
            : asked.message;
    if (fault !== undefined || !asked.ok) return show(request, fault);
    const { routes: allowed, members } = asked;
    try {
      const lifetime = days * day;
      const made = await accounts().create({
        name,
        routes: allowed,
        members,
        ownerId,
        lifetime,
        actor: actor.name,
      });
      const { account, tokens } = made;
      const content = accountTokensContent({
        userId: account.userId,
        expiresAt: account.expiresAt,
        tokens: [...tokens].map(([routeId, token]) => ({ routeId, token })),
        back: path,
      });
      showSection(request, "service-accounts", { title: `Tokens of ${name}`, content });
    } catch (error) {
      if (!(error instanceof ServiceAccountExists)) throw error;
      await show(request, error.message);
    }
  });
  pages.post(`${path}/revoke`, async (request) => {
    const name = given(request.form, "name") ?? "";
    const cause = { reason: revocationReason, actor: request.actor.name };
    if (!(await accounts().revoke(name, cause)))
      throw new AdminError(404, "not_found", `there is no service account ${name}`);
    goTo(request, path, "account_revoked");
  });

  async function show(request: PageRequest, fault?: string): Promise<void> {
    const query = queryOf(request.ctx);
    const [user, grant] = [given(query, "after_user"), given(query, "after_grant")];
    const after = user && grant ? { userId: user, grantId: grant } : undefined;
    const { entries, next } = await firstPage(accounts().list(after), perPage);
    const { form } = request;
    const content = serviceAccountsContent({
      accounts: entries,
      csrf: request.actor.csrf,
      first: after && path,
      next: next && link(path, { after_user: next.userId, after_grant: next.grantId }),
      entered: {
        name: form.get("name") ?? "",
        routes: form.get("routes") ?? "",
        owner: form.get("owner") ?? "",
        days: form.get("days") ?? "90",
      },
      now: new Date(),
    });
    showSection(request, "service-accounts", {
      title: "Service accounts",
      content,
      ...(fault !== undefined && { status: 400, problem: `Nothing was created: ${fault}.` }),
    });
  }
}
