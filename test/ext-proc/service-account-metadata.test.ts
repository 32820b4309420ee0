import { expect, it } from "vitest";
import { upstreamResponse } from "../../src/ext-proc/protocol.ts";
import { createMetadataProofs } from "../../src/external-tokens/metadata-proofs.ts";
import type { SigningKey } from "../../src/store/signing-keys.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

type Fields = Record<string, string | number>;
const checked = { route: "notes", user: "service-account/ci", path: "/mcp", request_id: "r" };

/** What a check of any version proves: the value at its position, under the name of this version. */
const proofs = await createMetadataProofs({
  store: {
    signingKeys: { ensure: async (_purpose: string, make: () => Promise<SigningKey>) => [await make()] },
    notifications: { subscribe: () => () => {} },
  } as never,
  logger: createLogger({ level: "silent" }),
});

function received(fields: Fields, proof: string) {
  const response = upstreamResponse({
    metadataContext: {
      filterMetadata: {
        "envoy.filters.http.ext_authz": {
          fields: Object.fromEntries(
            Object.entries({ ...fields, proof }).map(([name, value]) => [
              name,
              typeof value === "number" ? { numberValue: value } : { stringValue: value },
            ]),
          ),
        },
      },
    },
  });
  if (!response) throw new Error("no metadata");
  return [proofs.verify(response.toProve, response.proof), response.metadata.serviceAccount];
}

it.each<[string, Fields]>([
  ["the previous version", { machine: 1 }],
  ["this version", { machine: 1, service_account: 1 }],
  ["a version without the former name", { service_account: 1 }],
])("metadata of a service account from %s is accepted", (_version, sent) => {
  expect(received({ ...checked, ...sent }, proofs.prove({ ...checked, machine: 1 }))).toEqual([true, true]);
});

it("a person cannot be made a service account, nor a service account a person, by either name", () => {
  const person = proofs.prove(checked);
  expect(received({ ...checked, service_account: 1 }, person)).toEqual([false, true]);
  expect(received({ ...checked, machine: 1 }, person)).toEqual([false, true]);
  const account = proofs.prove({ ...checked, machine: 1 });
  expect(received(checked, account)).toEqual([false, false]);
  expect(received({ ...checked, machine: 0, service_account: 1 }, account)).toEqual([false, false]);
});
