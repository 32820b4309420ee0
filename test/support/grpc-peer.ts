import { readFile } from "node:fs/promises";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { parse } from "yaml";
import type { Stack } from "../../dev/demo/stack.ts";
import { envoyService } from "../ext-authz/envoy-service.ts";

const check = envoyService(
  "envoy/service/auth/v3/external_auth.proto",
  "envoy.service.auth.v3.Authorization",
).Check;
const process = envoyService(
  "envoy/service/ext_proc/v3/external_processor.proto",
  "envoy.service.ext_proc.v3.ExternalProcessor",
).Process;

/** The metadata that a check left for the upstream's response, as on the wire. */
export type WireMetadata = Record<string, { stringValue?: string; numberValue?: number }>;
/** The result of a check: a gRPC code other than 0, or the changes to the request. */
export interface PeerCheck {
  readonly code: number;
  readonly details: string;
  readonly denied?: number;
  readonly set: Readonly<Record<string, string>>;
  readonly metadata: WireMetadata;
}

/** The addresses of the stack's listeners, and Envoy's secret (`listen` of the routes file). */
export async function listenOf(
  stack: Pick<Stack, "configFile">,
): Promise<{ grpc: string; http: string; admin: string; envoy_secret: string }> {
  return parse(await readFile(stack.configFile, "utf8")).listen;
}

/** A peer that calls the gRPC port directly. */
export function grpcPeer(address: string) {
  const client = new Client(address, credentials.createInsecure());
  return {
    /** Sends a check for `headers` to `host`. */
    check(
      host: string,
      headers: Record<string, string>,
      options: {
        metadata?: Record<string, string>;
        context?: Record<string, string>;
        compressed?: boolean;
      } = {},
    ): Promise<PeerCheck> {
      if (!check) throw new Error("no Check");
      const http = {
        method: "GET",
        host,
        path: "/",
        headers: { ":path": "/", ":method": "GET", ...headers },
      };
      const request = { attributes: { request: { http }, context_extensions: options.context ?? {} } };
      const metadata = metadataOf(options.metadata);
      // Not served without grpc-js.
      if (options.compressed) metadata.set("grpc-internal-encoding-request", "gzip");
      return new Promise((resolve) =>
        client.makeUnaryRequest(
          check.path,
          check.requestSerialize,
          check.responseDeserialize,
          request,
          metadata,
          (error, answer) => resolve(error ? failed(error) : readAnswer(Object(answer))),
        ),
      );
    },
    /** Sends an upstream's response to the request with this metadata; resolves with the result. */
    process(
      fields: WireMetadata | undefined,
      headers: Record<string, string>,
      metadata: Record<string, string> = {},
    ): Promise<string> {
      if (!process) throw new Error("no Process");
      const call = client.makeBidiStreamRequest(
        process.path,
        process.requestSerialize,
        process.responseDeserialize,
        metadataOf(metadata),
      );
      const filterMetadata = fields && { "envoy.filters.http.ext_authz": { fields } };
      call.write({
        response_headers: {
          headers: {
            headers: Object.entries(headers).map(([key, value]) => ({ key, raw_value: Buffer.from(value) })),
          },
        },
        metadata_context: { filter_metadata: filterMetadata ?? {} },
      });
      return new Promise((resolve) => {
        call.on("data", (message) => {
          resolve(Object(message).immediate_response?.details ?? "untouched");
          call.cancel();
        });
        call.on("error", (error: ServiceError) => resolve(`gRPC ${error.code}`));
      });
    },
    close: () => client.close(),
  };
}

function metadataOf(entries: Record<string, string> = {}): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(entries)) metadata.set(name, value);
  return metadata;
}

function failed({ code, details }: ServiceError): PeerCheck {
  return { code, details, set: {}, metadata: {} };
}

function readAnswer(answer: {
  denied_response?: { status: { code: number } };
  ok_response?: { headers: { header: { key: string; value: string } }[] };
  dynamic_metadata?: { fields: WireMetadata };
}): PeerCheck {
  return {
    code: 0,
    details: "",
    denied: answer.denied_response?.status.code,
    set: Object.fromEntries(
      (answer.ok_response?.headers ?? []).map(({ header }) => [header.key, header.value]),
    ),
    metadata: answer.dynamic_metadata?.fields ?? {},
  };
}
