import { join } from "node:path";
import { envoy } from "../../../../dev/demo/envoy.ts";
import { istioAgent } from "./agent.ts";
import type { IstioControlPlane } from "./control-plane.ts";

/** Not the address of the sidecar's WorkloadEntry: Istio would take the gateway for it. Nothing connects to it. */
const podIp = "10.244.0.10";

/**
 * Istio's ingress gateway: an Envoy that gets listeners, routes, clusters and the Gateway's certificate from pilot-discovery over mutual TLS,
 * with a stand-in for istio-agent. Envoy itself is the one of the other tests, not Istio's build of it.
 * @param options.imageCas the CAs of its image, PEM
 */
export async function istioGateway(
  controlPlane: Pick<IstioControlPlane, "xdsPort" | "ca">,
  options: { readonly folder: string; readonly adminPort: number; readonly imageCas: string },
) {
  const socket = join(options.folder, "sds.sock");
  const agent = await istioAgent(socket, controlPlane.ca, options.imageCas);
  try {
    const bootstrap = JSON.stringify(bootstrapFor(controlPlane, options.adminPort, socket), null, 2);
    const running = await envoy({ bootstrap, folder: options.folder, adminPort: options.adminPort });
    return {
      ...running,
      async close() {
        await running.close();
        await agent.close();
      },
    };
  } catch (error) {
    await agent.close();
    throw error;
  }
}

function bootstrapFor(
  { xdsPort, ca }: Pick<IstioControlPlane, "xdsPort" | "ca">,
  adminPort: number,
  socket: string,
) {
  const grpc = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    },
  };
  const cluster = (name: string, address: object) => ({
    name,
    type: "STATIC",
    connect_timeout: "5s",
    typed_extension_protocol_options: grpc,
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
    },
  });
  const fromPilot = { ads: {}, resource_api_version: "V3", initial_fetch_timeout: "0s" };
  return {
    node: {
      id: `router~${podIp}~istio-ingressgateway-1.istio-system~istio-system.svc.cluster.local`,
      cluster: "istio-ingressgateway.istio-system",
      metadata: {
        NAMESPACE: "istio-system",
        SERVICE_ACCOUNT: "istio-ingressgateway",
        CLUSTER_ID: "Kubernetes",
        ISTIO_VERSION: "1.31.0",
        LABELS: { istio: "ingressgateway", app: "istio-ingressgateway" },
        INSTANCE_IPS: podIp,
      },
    },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: adminPort } } },
    dynamic_resources: {
      lds_config: fromPilot,
      cds_config: fromPilot,
      ads_config: {
        api_type: "GRPC",
        transport_api_version: "V3",
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }],
      },
    },
    static_resources: {
      clusters: [
        {
          ...cluster("xds-grpc", { socket_address: { address: "127.0.0.1", port_value: xdsPort } }),
          transport_socket: {
            name: "tls",
            typed_config: {
              "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
              common_tls_context: {
                tls_certificates: [
                  {
                    certificate_chain: { filename: ca.files.certificate },
                    private_key: { filename: ca.files.key },
                  },
                ],
                validation_context: { trusted_ca: { filename: ca.files.ca } },
              },
            },
          },
        },
        cluster("sds-grpc", { pipe: { path: socket } }),
      ],
    },
  };
}
