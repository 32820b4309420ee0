import type { MethodDefinition } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { loadGrpcService } from "../../src/check/load-grpc-service.ts";
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

describe("Envoy's definitions and ours are the same on the wire", () => {
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
            body: "skipped",
            raw_body: Buffer.from("body"),
          },
        },
        context_extensions: { route: "r" },
        metadata_context: { filter_metadata: { "envoy.filters.http.mcp": struct } },
        tls_session: { sni: "skipped" },
      },
    });
    expect(ours.requestDeserialize(bytes)).toEqual({
      attributes: {
        source: { address: { socketAddress: { address: "192.0.2.1" } } },
        request: {
          http: {
            method: "POST",
            headers: { a: "1", b: "2" },
            headerMap: {
              headers: [
                { key: "c", value: "3" },
                { key: "d", rawValue: Buffer.from("4") },
              ],
            },
            path: "/p?q",
            host: "h",
            rawBody: Buffer.from("body"),
          },
        },
        contextExtensions: { route: "r" },
      },
    });
  });

  test("Check: both kinds of answer", () => {
    const { envoy, ours } = both("check");
    const header = { header: { key: "k", value: "v" }, append: { value: false } };
    const option = { ...header, appendAction: "OVERWRITE_IF_EXISTS_OR_ADD" };
    const read = (answer: object) => envoy.responseDeserialize(ours.responseSerialize(answer));
    expect(
      read({
        status: { code: 0 },
        okResponse: {
          headers: [option],
          headersToRemove: ["x"],
          responseHeadersToAdd: [{ ...option, appendAction: "APPEND_IF_EXISTS_OR_ADD" }],
        },
        dynamicMetadata: struct,
      }),
    ).toMatchObject({
      status: {},
      ok_response: {
        headers: [{ ...header, append_action: 2 }],
        headers_to_remove: ["x"],
        response_headers_to_add: [header],
      },
      dynamic_metadata: struct,
    });
    expect(
      read({ status: { code: 7 }, deniedResponse: { status: { code: 403 }, headers: [option], body: "no" } }),
    ).toMatchObject({
      status: { code: 7 },
      denied_response: { status: { code: 403 }, headers: [{ ...header, append_action: 2 }], body: "no" },
    });
  });

  test("Process: requests of the phases we look at", () => {
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

  test("Process: answers", () => {
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
