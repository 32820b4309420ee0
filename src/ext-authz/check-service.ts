import { type MethodDefinition, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { consentHeader } from "../config/header-names.ts";
import { envoySecretExtension, type PeerProof, provenByMessage, shownBy } from "../config/listeners.ts";
import { type GrpcService, loadGrpcService, Unauthenticated } from "../server/grpc/unary.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { check } from "./check.ts";
import type { CheckDeps, Checked } from "./check-types.ts";
import { cors } from "./cors.ts";
import type { Decision } from "./decision.ts";
import { pageOf, pageOfUnread } from "./error-page.ts";
import { recordDecision } from "./record-decision.ts";
import { type RequestFacts, readRequestFacts } from "./request.ts";
import { type CheckRequest, decodeCheckRequest } from "./wire/decode.ts";
import { type CheckResponse, encodeCheckResponse, response } from "./wire/encode.ts";

/** Time reserved for sending the response when Envoy's deadline is the shorter one, ms. */
const answerMargin = 20;

/**
 * The ext_authz service (`envoy.service.auth.v3.Authorization`). Answers every check: a check that throws, times out or cannot
 * be read is denied, logged once and counted.
 */
export function createCheckService(deps: CheckDeps): GrpcService {
  const { logger, metrics, peers, admission } = deps;

  function handle(
    request: CheckRequest,
    call: { readonly deadline: number; readonly reselects: () => boolean },
    answer: (response: CheckResponse) => void,
  ): void {
    const startedAt = performance.now();
    const { check: settings, envoy } = deps.routes().config;
    const read = readRequestFacts(request, settings.maxHeaderBytes, envoy.xffNumTrustedHops, call.reselects);
    if ("denial" in read) {
      const { denial, requester } = read;
      finish({ decision: denial, reason: denial.code }, requester.requestId, pageOfUnread(denial, requester));
      return;
    }
    const { facts } = read;
    try {
      const checked = check(facts, deps);
      if (!(checked instanceof Promise)) {
        finishKnown(checked, facts);
        return;
      }
      const remaining = Math.min(settings.deadlineMs, call.deadline - Date.now() - answerMargin);
      beforeDeadline(checked, remaining, () =>
        unavailable("deadline_exceeded", "the check took too long; try again"),
      )
        .catch(failed(facts))
        .then((outcome) => finishKnown(outcome, facts));
    } catch (error) {
      finishKnown(failed(facts)(error), facts);
    }

    function finishKnown(checked: Checked, known: RequestFacts): void {
      const page = checked.decision.kind === "allow" ? undefined : pageOf(checked, known, deps.routes());
      finish(checked, known.requestId, page, known);
    }

    function finish(checked: Checked, requestId: string, page?: string, known?: RequestFacts): void {
      const { decision, reason, route, reservedId } = checked;
      const answerHeaders = route?.mcp.kind === "client" ? [] : cors.answer;
      answer(response(decision, requestId, answerHeaders, page));
      const seconds = (performance.now() - startedAt) / 1000;
      metrics.checkDuration.labels(decision.kind).observe(seconds);
      trace.getActiveSpan()?.setAttributes({
        "mcp_auth.decision": decision.kind,
        "mcp_auth.reason": reason,
        "mcp_auth.route": route?.id ?? reservedId ?? "",
      });
      if (decision.kind !== "allow") deps.onDenial?.(checked, requestId);
      // `consent-required.ts` decides, and records that.
      const { kind } = decision;
      if (kind !== "ask")
        recordDecision(deps, { ...checked, kind, status: statusOf(decision), requestId }, known);
    }
  }

  /** Unexpected errors end here: logged once, denied. */
  function failed(facts: RequestFacts): (error: unknown) => Checked {
    return (error) => {
      const code = error instanceof Error && "code" in error ? String(error.code) : "internal";
      metrics.errors.labels("ext-authz", code).inc();
      logger.error({ requestId: facts.requestId, err: error, code }, "check failed");
      return unavailable(
        code === "store_unavailable" ? code : "internal",
        "the request cannot be checked now; try again",
      );
    };
  }

  function unavailable(code: string, message: string): Checked {
    const retryAfter = String(admission.retryAfterSeconds());
    const headers = [["retry-after", retryAfter]] as const;
    return { decision: { kind: "deny", status: 503, code, message, headers }, reason: code };
  }

  /** Removes the secret from the context extensions, where some gateways have to put it, before any other code reads them. */
  function admit(request: CheckRequest, peer: PeerProof, onProven: () => void): CheckRequest {
    const shown = request.contextExtensions[envoySecretExtension];
    if (peer === "wrong" || (peer === "missing" && peers.verify(shown) !== "proven")) {
      peers.rejected();
      throw new Unauthenticated();
    }
    if (peer === "missing") onProven();
    if (shown === undefined) return request;
    const contextExtensions: Record<string, string> = Object.assign(
      Object.create(null),
      request.contextExtensions,
    );
    delete contextExtensions[envoySecretExtension];
    return { ...request, contextExtensions };
  }

  const { Check } = loadGrpcService("envoy/service/auth/v3/external_auth.proto", serviceName);
  if (!Check) throw new Error(`${serviceName} has no Check method`);
  const method: MethodDefinition<CheckRequest, CheckResponse> = {
    ...Check,
    requestDeserialize: decodeCheckRequest,
    responseSerialize: encodeCheckResponse,
  };
  return {
    definition: { Check: method },
    implementation: {
      Check: (call: ServerUnaryCall<CheckRequest, CheckResponse>, callback: sendUnaryData<CheckResponse>) => {
        let request: CheckRequest;
        try {
          request = admit(call.request, peers.verify(shownBy(call.metadata)), () =>
            provenByMessage(call.metadata),
          );
        } catch (error) {
          callback({ code: status.UNAUTHENTICATED, details: String(Object(error).message) });
          return;
        }
        const deadline = Number(call.getDeadline());
        const reselects = () => call.metadata.get(consentHeader).length > 0;
        handle(request, { deadline, reselects }, (answer) => callback(null, answer));
      },
    },
    admits: "unproven",
    unary: {
      [method.path]: (message, deadline, answer, peer, onProven, metadata) => {
        const reselects = () => metadata[consentHeader] !== undefined;
        handle(admit(decodeCheckRequest(message), peer, onProven), { deadline, reselects }, (response) =>
          answer(encodeCheckResponse(response)),
        );
      },
    },
  };
}

const serviceName = "envoy.service.auth.v3.Authorization";

/** Settles with `checked`, or with a denial after `ms`; a later result or error is dropped. */
function beforeDeadline(checked: Promise<Checked>, ms: number, late: () => Checked): Promise<Checked> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(late()), Math.max(0, ms));
    checked.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function statusOf(decision: Decision): number | undefined {
  switch (decision.kind) {
    case "allow":
    case "ask":
      return undefined;
    case "challenge":
      return 401;
    case "redirect":
      return 302;
    case "deny":
    case "reply":
      return decision.status;
    default:
      return decision satisfies never;
  }
}

/** The same denial of the same caller is written at most this often, ms: a client in a loop must not fill the audit trail. */
const quietMs = 60_000;

/** Reasons that imply a valid signature. Forged tokens are only counted: otherwise anyone could fill the audit trail. */
const signedTokens = new Set(["revoked", "wrong_audience", "expired"]);

/**
 * Writes an audit event for each call that policy denies and each external token that is rejected despite a valid signature.
 * The check does not wait for it.
 * @returns listener to call with every check that did not allow the request
 */
export function createDenialAudit(deps: {
  readonly store: Pick<Store, "audit">;
  readonly logger: Logger;
}): (checked: Checked, requestId: string) => void {
  const written = boundedCache<string, true>(10_000, { ttl: quietMs });
  return ({ decision, reason, route, userId, clientId, grantId, rule, via }, requestId) => {
    const byPolicy = userId !== undefined && (decision.kind === "reply" || isForbidden(decision));
    if (!byPolicy && !signedTokens.has(reason)) return;
    // Not by grant: a client that obtains one grant after another would be written each time.
    const key = `${reason} ${route?.id} ${userId} ${clientId}`;
    if (written.has(key)) return;
    written.set(key, true);
    deps.store
      .audit({
        action: byPolicy ? "policy.denied" : "external_token.rejected",
        userId,
        clientId,
        grantId,
        routeId: route?.id,
        reason,
        requestId,
        ...(rule === undefined && via === undefined
          ? {}
          : { detail: { ...(rule !== undefined && { rule }), ...(via !== undefined && { via }) } }),
      })
      .catch((error: Error) =>
        deps.logger.warn({ reason: error.message, requestId }, "cannot write a denial to the audit trail"),
      );
  };
}

function isForbidden(decision: Checked["decision"]): boolean {
  return decision.kind === "deny" && (decision.status === 403 || decision.status === 429);
}
