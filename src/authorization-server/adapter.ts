import Provider, { type Adapter, type AdapterFactory, type AdapterPayload, errors } from "oidc-provider";
import type { PreRegisteredClient } from "../config/config.ts";
import { nameOf } from "../external-tokens/client-names.ts";
import { browserBinding } from "../sign-in/sessions.ts";
import type { AuditEvent } from "../store/audit-events.ts";
import type { AuthorizationServerRecord } from "../store/authorization-server-records.ts";
import type { AuthorizationServerDeps } from "./authorization-server.ts";
import { orUnavailable } from "./errors.ts";
import { browserRequest } from "./normalize-requests.ts";
import type { RefreshRotation } from "./refresh-rotation.ts";
import { routeOfRequest } from "./resources.ts";

/** An unused registration expires after a week; use extends it (`rememberClient`). */
const unusedClientSeconds = 7 * 86_400;

/** A grant depends on the user's sign-in, the others on their grant: none may outlive what it depends on. */
const dependentModels = new Set(["Grant", "AuthorizationCode", "AccessToken", "RefreshToken"]);

/** Implements oidc-provider's storage with our store. */
export function createRecordAdapter(
  deps: Pick<AuthorizationServerDeps, "routes" | "store" | "signIn">,
  rotation: RefreshRotation,
): AdapterFactory {
  const { routes, store, signIn } = deps;
  const records = store.authorizationServerRecords;

  function grantCreated(grantId: string, { accountId: userId, clientId }: AdapterPayload): AuditEvent {
    const { ctx } = Provider;
    const routeId = ctx && routeOfRequest(ctx, deps)?.id;
    const members = browserRequest.current()?.members?.map((member) => member.routeId);
    const clientName = nameOf(ctx?.oidc.client?.clientName);
    const detail = {
      ...(clientName !== undefined && { client_name: clientName }),
      ...(members && { members: members.join(" ") }),
    };
    const known = Object.keys(detail).length > 0 && { detail };
    return { action: "grant.created", userId, clientId, grantId, routeId, ...known };
  }

  return (model): Adapter => {
    async function found(
      work: Promise<AuthorizationServerRecord | undefined>,
    ): Promise<AdapterPayload | undefined> {
      const record = await orUnavailable(work);
      return record && rotation.seen(record);
    }

    /** Our own session identifies the user: an oidc-provider session of another user is ignored. */
    async function ofThisPerson(session: AdapterPayload | undefined): Promise<AdapterPayload | undefined> {
      if (!session?.accountId) return session;
      const request = browserRequest.current();
      const person = request && (await orUnavailable(signIn.person(request.ctx)));
      return person?.userId === session.accountId ? session : undefined;
    }

    return {
      async upsert(id, payload, expiresIn) {
        const seconds = model === "Client" ? unusedClientSeconds : expiresIn;
        const expiresAt = seconds ? new Date(Date.now() + seconds * 1000) : undefined;
        if (model === "RefreshToken" && (await rotation.store(id, payload, expiresAt))) return;
        // Grants are saved once and never changed.
        const audit = model === "Grant" ? grantCreated(id, payload) : undefined;
        const kept = { ...payload, ...extras(model, id) };
        const record = { model, id, payload: kept, expiresAt };
        const members = model === "Grant" ? browserRequest.current()?.members : undefined;
        if (!dependentModels.has(model)) await orUnavailable(records.upsert(record, audit));
        else if (!(await orUnavailable(records.upsertIfAllowed(record, audit, members))))
          throw new errors.InvalidGrant("the sign-in or the grant behind this request has ended");
      },
      async find(id) {
        if (model === "Client") {
          const known = routes().config.authorizationServer.clients.find(({ clientId }) => clientId === id);
          if (known) return preRegistered(known);
        }
        const payload = await found(records.find(model, id));
        if (model === "Grant") noteBegin(payload);
        if (model === "Interaction") return ofThisBrowser(id, payload);
        return model === "Session" ? ofThisPerson(payload) : payload;
      },
      findByUid: (uid) => found(records.findByUid(model, uid)),
      findByUserCode: (code) => found(records.findByUserCode(model, code)),
      async consume(id) {
        if (model === "RefreshToken" && rotation.deferConsume(id)) return;
        if (await orUnavailable(records.consume(model, id))) return;
        throw new errors.InvalidGrant(`${model} was used by another request at the same time`);
      },
      async destroy(id) {
        // Session ids change with every step; a tab with the previous id must still find its session. They expire soon.
        if (model === "Session" && (await orUnavailable(records.find(model, id)))?.payload.accountId) return;
        if (model === "Grant") return rotation.revokeGrant(id);
        await orUnavailable(records.destroy(model, id));
      },
      // oidc-provider destroys the grant right after, which deletes everything that belongs to it.
      async revokeByGrantId() {},
    };
  };
}

/** Fields that we store with a record and that oidc-provider does not know. */
function extras(model: string, id: string): Record<string, unknown> {
  const request = browserRequest.current();
  switch (model) {
    case "Interaction":
      if (!request) throw new Error("an interaction can only be saved for a browser request");
      return { browser: browserBinding.set(request.ctx, purpose(id)) };
    case "Grant":
      return {
        ...request?.consent,
        begunAt: Provider.ctx?.oidc.result?.begunAt,
        // Present even without a name: only grants of earlier versions lack it.
        clientName: nameOf(Provider.ctx?.oidc.client?.clientName) ?? null,
      };
    default:
      return {};
  }
}

/** For the token endpoint. A flow without a step for the user began when its grant was created. */
function noteBegin(grant: AdapterPayload | undefined): void {
  const request = browserRequest.current();
  const begun = grant?.begunAt ?? grant?.iat;
  if (request && typeof begun === "number") request.begunAt = begun;
}

/** An interaction is bound to the browser that started it: its id is in URLs, and a sibling host can set its cookie. */
function ofThisBrowser(id: string, payload: AdapterPayload | undefined): AdapterPayload | undefined {
  const request = browserRequest.current();
  const browser = payload?.browser;
  if (!request || typeof browser !== "string") return undefined;
  return browserBinding.matches(request.ctx, browser, purpose(id)) ? payload : undefined;
}

const purpose = (uid: string) => `interaction ${uid}`;

function preRegistered(client: PreRegisteredClient): AdapterPayload {
  return {
    client_id: client.clientId,
    client_name: client.clientName,
    ...(client.clientSecret !== undefined && { client_secret: client.clientSecret }),
    redirect_uris: client.redirectUris,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: client.clientSecret === undefined ? "none" : "client_secret_basic",
  };
}
