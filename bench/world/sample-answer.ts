const set = (key: string, value: string) =>
  ({
    header: { key, value },
    append: { value: false },
    appendAction: "OVERWRITE_IF_EXISTS_OR_ADD",
  }) as const;
const text = (stringValue: string) => ({ stringValue });

/** What our Check answers to the request that is measured, but for the values: the servers without work answer this. */
export const sampleAnswer = {
  // OK, as Envoy and we write it: the default is left out.
  status: {},
  okResponse: {
    headers: [
      set("authorization", `Bearer ${"t".repeat(800)}`),
      set("x-pomerium-jwt-assertion", "a".repeat(380)),
      set("x-pomerium-assertion", "a".repeat(380)),
    ],
    headersToRemove: ["cookie"],
    responseHeadersToAdd: [
      set("access-control-allow-origin", "*"),
      set("access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"),
      { ...set("vary", "Origin"), append: { value: true }, appendAction: "APPEND_IF_EXISTS_OR_ADD" },
    ],
  },
  dynamicMetadata: {
    fields: {
      route: text("route-0"),
      user: text("company/user-0"),
      client: text("https://client.example.com/client.json"),
      connection: text("c".repeat(43)),
      version: { numberValue: 1 },
      refreshable: { numberValue: 1 },
      path: text("/mcp"),
      request_id: text("4f9bd3a2-54a2-4b0c-9a3c-0d8c5e1f2a6b"),
    },
  },
};
