import { readFileSync } from "node:fs";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import type { CertificateAuthority } from "../../../../dev/demo/certificate-authority.ts";
import { envoyService } from "../../../ext-authz/envoy-service.ts";

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

interface DiscoveryRequest {
  readonly version_info?: string;
  readonly resource_names?: readonly string[];
  readonly error_detail?: { readonly message: string };
}

/**
 * Stands in for istio-agent, which serves the workload's certificate, the mesh's CA and the CAs of the image (`file-root:system`)
 * to Envoy over SDS.
 * @param socket path of the Unix socket to listen on
 * @param imageCas PEM
 */
export async function istioAgent(socket: string, { files }: CertificateAuthority, imageCas: string) {
  const inline = (file: string) => ({ inline_string: readFileSync(file, "utf8") });
  const identity = {
    tls_certificate: { certificate_chain: inline(files.certificate), private_key: inline(files.key) },
  };
  const secrets: Readonly<Record<string, object>> = {
    default: identity,
    ROOTCA: { validation_context: { trusted_ca: inline(files.ca) } },
    "file-root:system": { validation_context: { trusted_ca: { inline_string: imageCas } } },
  };
  const server = new Server();
  let nonce = 0;
  server.addService(
    envoyService("envoy/service/secret/v3/sds.proto", "envoy.service.secret.v3.SecretDiscoveryService", [
      "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    ]),
    {
      StreamSecrets(stream: ServerDuplexStream<DiscoveryRequest, object>) {
        stream.on("error", () => {});
        stream.on("end", () => stream.end());
        stream.on("data", ({ version_info, resource_names = [], error_detail }: DiscoveryRequest) => {
          // Later requests of a stream acknowledge the answer.
          if (version_info || error_detail) return;
          nonce += 1;
          stream.write({
            version_info: "1",
            type_url: secretType,
            nonce: String(nonce),
            resources: resource_names.flatMap((name) => {
              const secret = secrets[name];
              return secret === undefined ? [] : [{ "@type": secretType, name, ...secret }];
            }),
          });
        });
      },
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  return { close: async () => server.forceShutdown() };
}
