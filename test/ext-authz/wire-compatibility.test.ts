import type { MethodDefinition } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeCheckRequest } from "../../src/ext-authz/wire/decode.ts";
import { type CheckResponse, encodeCheckResponse } from "../../src/ext-authz/wire/encode.ts";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { envoyService } from "./envoy-service.ts";

type Method = MethodDefinition<object, object>;
const files = {
  check: ["envoy/service/auth/v3/external_auth.proto", "envoy.service.auth.v3.Authorization", "Check"],
  process: [
    "envoy/service/ext_proc/v3/external_processor.proto",
    "envoy.service.ext_proc.v3.ExternalProcessor",
    "Process",
  ],
} as const;

function both(which: keyof typeof files): { envoy: Method; ours: Method } {
  const [file, service, method] = files[which];
  return {
    envoy: envoyService(file, service)[method] as Method,
    ours: loadGrpcService(file, service)[method] as Method,
  };
}
const struct = { fields: { a: { stringValue: "b" }, n: { numberValue: 2 } } };

describe("our definitions match Envoy's on the wire", () => {
  test("Check: path and request, unknown fields skipped", () => {
    const { envoy, ours } = both("check");
    expect(ours.path).toBe(envoy.path);
    const bytes = envoy.requestSerialize({
      attributes: {
        source: {
          address: { socket_address: { address: "192.0.2.1", port_value: 4711 } },
          principal: "spiffe://x",
        },
        destination: { service: "skipped" },
        request: {
          time: { seconds: 5 },
          http: {
            id: "skipped",
            method: "POST",
            headers: { a: "1", b: "2" },
            header_map: {
              headers: [
                { key: "c", value: "3" },
                { key: "d", raw_value: Buffer.from("4") },
              ],
            },
            path: "/p?q",
            host: "h",
            scheme: "https",
            size: 5,
            protocol: "HTTP/2",
            body: "text",
            raw_body: Buffer.from("body"),
          },
        },
        context_extensions: { route: "r" },
        metadata_context: { filter_metadata: { "envoy.filters.http.mcp": struct } },
        tls_session: { sni: "skipped" },
      },
    });
    expect(decodeCheckRequest(bytes)).toEqual({
      http: {
        method: "POST",
        path: "/p?q",
        host: "h",
        // Separate headers, where Envoy sends them separately.
        headers: ["c", "3", "d", "4"],
        headersAreText: false,
        rawBody: Buffer.from("body"),
        textBody: Buffer.from("text"),
      },
      sourceIp: "192.0.2.1",
      contextExtensions: { route: "r" },
    });
  });

  test("Check: every encoding that Envoy may use is read correctly", () => {
    const { envoy } = both("check");
    const ascii = fc.string({ maxLength: 300 });
    const text = fc.string({ unit: "binary", maxLength: 40 });
    const request = fc.record({
      method: ascii,
      path: ascii,
      host: ascii,
      headers: fc.array(fc.tuple(ascii, ascii), { maxLength: 40 }),
      rawBody: fc.option(fc.uint8Array({ minLength: 1, maxLength: 100_000 }), { nil: undefined }),
      textBody: fc.option(fc.string({ unit: "grapheme", minLength: 1 }), { nil: undefined }),
      sourceIp: fc.string({ minLength: 1 }),
      contextExtensions: fc.dictionary(text, text, { maxKeys: 5, noNullPrototype: true }),
    });
    const hostile = {
      ...{
        method: "",
        path: "",
        host: "",
        headers: [],
        rawBody: undefined,
        textBody: undefined,
        sourceIp: "::1",
      },
      contextExtensions: JSON.parse('{"__proto__": "a", "constructor": "b"}'),
    };
    fc.assert(
      fc.property(
        request,
        ({ method, path, host, headers, rawBody, textBody, sourceIp, contextExtensions }) => {
          const bytes = envoy.requestSerialize({
            attributes: {
              source: { address: { socket_address: { address: sourceIp, port_value: 1 } } },
              request: {
                http: {
                  method,
                  path,
                  host,
                  header_map: {
                    headers: headers.map(([key, value]) => ({
                      key,
                      raw_value: Buffer.from(value, "latin1"),
                    })),
                  },
                  raw_body: rawBody,
                  body: textBody,
                },
              },
              context_extensions: contextExtensions,
            },
          });
          const read = decodeCheckRequest(bytes);
          expect(read.http).toEqual({
            method,
            path,
            host,
            headers: headers.flat(),
            headersAreText: headers.length === 0,
            rawBody: rawBody && Buffer.from(rawBody),
            textBody: textBody === undefined ? undefined : Buffer.from(textBody),
          });
          expect(read.sourceIp).toBe(sourceIp);
          expect(read.contextExtensions).toEqual(contextExtensions);
        },
      ),
      { examples: [[hostile]] },
    );
  });

  test("Check: bytes that are not a CheckRequest are rejected, and decoding never hangs or reads beyond the end", () => {
    const { envoy } = both("check");
    const good = envoy.requestSerialize({
      attributes: { request: { http: { method: "GET", path: "/", host: "h", headers: { a: "1" } } } },
    });
    for (let length = 1; length < good.length; length++) {
      expect(() => decodeCheckRequest(good.subarray(0, length))).toThrow(RangeError);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeCheckRequest(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });

  test("Check: both kinds of response", () => {
    const { envoy } = both("check");
    const read = (answer: CheckResponse) => envoy.responseDeserialize(encodeCheckResponse(answer));
    const long = "v".repeat(30_000);
    const overwrite = (value: string) => ({
      header: { key: "k", value },
      // False, the default of the wrapped value.
      append: {},
      append_action: 2,
    });
    const decoded = read({
      status: { code: 0 },
      okResponse: {
        headers: [
          ["k", "v"],
          ["k", "\u00fcber \u{1f511}"],
          ["k", long],
        ],
        headersToRemove: ["x", "y"],
        responseHeadersToAdd: [["vary", "Origin"]],
      },
      dynamicMetadata: struct,
    });
    expect(decoded).toMatchObject({
      status: {},
      ok_response: {
        headers: [overwrite("v"), overwrite("\u00fcber \u{1f511}"), overwrite(long)],
        headers_to_remove: ["x", "y"],
        response_headers_to_add: [{ header: { key: "vary", value: "Origin" }, append: { value: true } }],
      },
      dynamic_metadata: struct,
    });
    // Across every boundary of the buffer.
    const headersToRemove = Array.from({ length: 20_000 }, (_, index) => `x-${index}`);
    const many = {
      status: { code: 0 },
      okResponse: { headers: [], headersToRemove, responseHeadersToAdd: [] },
    };
    expect(read(many)).toMatchObject({ ok_response: { headers_to_remove: headersToRemove } });
    // The next message starts with an empty buffer.
    expect(
      read({
        status: { code: 7 },
        deniedResponse: { status: { code: 403 }, headers: [["k", "v"]], body: "no" },
      }),
    ).toEqual({
      status: { code: 7 },
      denied_response: { status: { code: 403 }, headers: [overwrite("v")], body: "no" },
    });
  });

  test("Process: requests of the phases that we process", () => {
    const { envoy, ours } = both("process");
    expect(ours.path).toBe(envoy.path);
    const headers = { headers: [{ key: ":status", raw_value: Buffer.from("401") }] };
    const metadata = {
      filter_metadata: { "envoy.filters.http.ext_authz": { fields: { route: { stringValue: "r" } } } },
    };
    const read = (message: object) => ours.requestDeserialize(envoy.requestSerialize(message));
    const heard = {
      headers: { headers: [{ key: ":status", rawValue: Buffer.from("401") }] },
      endOfStream: true,
    };
    expect(
      read({
        response_headers: { headers, end_of_stream: true },
        metadata_context: metadata,
        observability_mode: true,
      }),
    ).toEqual({
      responseHeaders: heard,
      metadataContext: { filterMetadata: metadata.filter_metadata },
    });
    expect(read({ request_headers: { headers, end_of_stream: true } })).toEqual({ requestHeaders: heard });
    expect(read({ response_body: { body: Buffer.from("x"), end_of_stream: true } })).toEqual({
      responseBody: { body: Buffer.from("x"), endOfStream: true },
    });
  });

  test("Process: responses", () => {
    const { envoy, ours } = both("process");
    const read = (message: object) => envoy.responseDeserialize(ours.responseSerialize(message));
    const setHeaders = [
      { header: { key: "k", rawValue: Buffer.from("v") }, appendAction: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ];
    const set = [{ header: { key: "k", raw_value: Buffer.from("v") }, append_action: 2 }];
    expect(
      read({
        responseHeaders: {
          response: { status: "CONTINUE_AND_REPLACE", headerMutation: { setHeaders, removeHeaders: ["x"] } },
        },
        modeOverride: { responseBodyMode: "BUFFERED", responseHeaderMode: "SKIP" },
        dynamicMetadata: struct,
      }),
    ).toEqual({
      response_headers: {
        response: { status: 1, header_mutation: { set_headers: set, remove_headers: ["x"] } },
      },
      mode_override: { response_body_mode: 2, response_header_mode: 2 },
      dynamic_metadata: struct,
    });
    expect(
      read({
        immediateResponse: {
          status: { code: 401 },
          headers: { setHeaders },
          body: Buffer.from("b"),
          details: "d",
        },
      }),
    ).toEqual({
      immediate_response: {
        status: { code: 401 },
        headers: { set_headers: set },
        body: Buffer.from("b"),
        details: "d",
      },
    });
    expect(read({ responseBody: { response: { bodyMutation: { body: Buffer.from("n") } } } })).toEqual({
      response_body: { response: { body_mutation: { body: Buffer.from("n") } } },
    });
  });
});
