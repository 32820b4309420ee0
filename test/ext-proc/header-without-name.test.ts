import { expect, test } from "vitest";
import { upstreamResponse } from "../../src/ext-proc/protocol.ts";

test("a header without a name, which protobuf allows, is ignored", () => {
  const fields = { route: { stringValue: "everything" } };
  const response = upstreamResponse({
    responseHeaders: {
      headers: { headers: [{ value: "x" }, { key: ":status", rawValue: Buffer.from("401") }] },
    },
    metadataContext: { filterMetadata: { "envoy.filters.http.ext_authz": { fields } } },
  });
  expect(response).toMatchObject({ status: 401, headers: {} });
});
