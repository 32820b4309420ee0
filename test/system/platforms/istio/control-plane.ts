import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import {
  type CertificateAuthority,
  certificateAuthority,
} from "../../../../dev/demo/certificate-authority.ts";
import { freePort } from "../../../../dev/demo/free-port.ts";
import { supervise } from "../../../../dev/demo/supervise.ts";
import { answersOk, untilReady } from "../../../../dev/demo/until-ready.ts";
import { goTool, goToolVersion } from "../../../../dev/go-tools.ts";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import {
  type KubernetesApiServer,
  missingForKubernetes,
  startKubernetesApiServer,
} from "../kubernetes/api-server.ts";
import { installDefinitions } from "../kubernetes/definitions.ts";

/** A Kubernetes API server with Istio's custom resources, and pilot-discovery that serves Envoys from it. */
export interface IstioControlPlane {
  readonly kubernetes: KubernetesApiServer;
  /** On loopback, over mutual TLS. */
  readonly xdsPort: number;
  /** Of pilot-discovery, and of the gateway's identity. */
  readonly ca: CertificateAuthority;
  readonly version: string;
  /** `kubectl apply`, admitted by the API server and by Istio's own validation. @returns warnings of both */
  apply(objects: readonly KubernetesObject[]): Promise<string[]>;
  /** What pilot-discovery has logged. */
  log(): string;
  close(): Promise<void>;
}

/** Of the gateway's pod. */
const gatewayIdentity = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway";
const mesh = join(import.meta.dirname, "../../../../deploy/kubernetes/istio-mesh-config.yaml");

/**
 * Extensions that only Istio's build of Envoy has, and what this machine does without: proxies' metadata exchange, the ALPN filter, and
 * metrics (`defaultProviders`, in the mesh configuration).
 */
const withoutIstiosEnvoy = {
  PILOT_ENABLE_ALPN_FILTER: "false",
  PILOT_ENABLE_METADATA_EXCHANGE: "false",
};

/** What is missing to run it, with what installs it; `undefined` if nothing is. */
export async function missingForIstio(): Promise<string | undefined> {
  const missing = await missingForKubernetes();
  if (missing !== undefined) return missing;
  if ((await goTool("pilot-discovery")) === undefined)
    return "pilot-discovery (needs Go: node dev/go-tools.ts pilot-discovery)";
  return undefined;
}

/** Starts it. @throws Error with the end of a log if a part exits or is not ready within 60 s */
export async function startIstio(): Promise<IstioControlPlane> {
  const kubernetes = await startKubernetesApiServer();
  const folder = await mkdtemp(join(tmpdir(), "istio-"));
  const closers = [() => kubernetes.close(), () => rm(folder, { recursive: true, force: true })];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    const ca = await certificateAuthority(folder, [gatewayIdentity]);
    await installDefinitions(kubernetes, ["istio.io/istio"]);
    for (const name of ["istio-system", "mcp"]) await kubernetes.apply(namespace(name));
    const pilot = await startPilot(kubernetes, folder, ca);
    closers.push(() => pilot.stop());
    await kubernetes.apply(validation(pilot.webhookPort, ca));
    return {
      kubernetes,
      ca,
      xdsPort: pilot.xdsPort,
      version: pilotVersion(),
      async apply(objects) {
        const warnings: string[] = [];
        for (const object of objects) warnings.push(...(await kubernetes.apply(object)).warnings);
        return warnings;
      },
      log: () => readFileSync(pilot.logFile, "utf8"),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startPilot(kubernetes: KubernetesApiServer, folder: string, { files }: CertificateAuthority) {
  const binary = await goTool("pilot-discovery");
  if (binary === undefined) throw new Error(`missing: ${await missingForIstio()}`);
  const [http, webhookPort, xdsPort, monitoring] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const meshFile = join(folder, "mesh.yaml");
  await writeFile(meshFile, stringify(meshConfig()));
  const logFile = join(folder, "pilot-discovery.log");
  const child = supervise(
    binary,
    [
      ...["discovery", "--kubeconfig", kubernetes.kubeconfig, "--meshConfig", meshFile],
      ...["--namespace", "istio-system", "--clusterID", "Kubernetes", "--ctrlz_port", "0"],
      ...["--httpAddr", `127.0.0.1:${http}`, "--httpsAddr", `127.0.0.1:${webhookPort}`],
      ...["--secureGRPCAddr", `127.0.0.1:${xdsPort}`, "--monitoringAddr", `127.0.0.1:${monitoring}`],
      // No plain port.
      ...["--grpcAddr", "", "--log_target", "stderr"],
      ...["--tlsCertFile", files.certificate, "--tlsKeyFile", files.key, "--caCertFile", files.ca],
    ],
    {
      logFile,
      cwd: folder,
      env: {
        ...process.env,
        ...withoutIstiosEnvoy,
        POD_NAME: "istiod-1",
        POD_NAMESPACE: "istio-system",
        // Certificates come from files, and no pods get sidecars.
        ENABLE_CA_SERVER: "false",
        INJECT_ENABLED: "false",
        ENABLE_LEADER_ELECTION: "false",
        PILOT_ENABLE_GATEWAY_API: "false",
      },
    },
  );
  await untilReady(child, "pilot-discovery", logFile, () => answersOk(`http://127.0.0.1:${http}/ready`));
  return { logFile, webhookPort, xdsPort, stop: () => child.stop(1_000) };
}

/** The sample's, without what needs Istio's Envoy. */
function meshConfig(): object {
  return { ...parse(readFileSync(mesh, "utf8")), defaultProviders: {}, accessLogFile: "" };
}

const namespace = (name: string): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name },
});

/** As in Istio's chart, for objects without a revision. */
function validation(port: number, { ca }: CertificateAuthority): KubernetesObject {
  return {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingWebhookConfiguration",
    metadata: { name: "istio-validator-istio-system" },
    webhooks: [
      {
        name: "rev.validation.istio.io",
        clientConfig: {
          url: `https://127.0.0.1:${port}/validate`,
          caBundle: Buffer.from(ca).toString("base64"),
        },
        rules: [
          {
            operations: ["CREATE", "UPDATE"],
            apiGroups: ["security.istio.io", "networking.istio.io"],
            apiVersions: ["*"],
            resources: ["*"],
          },
        ],
        failurePolicy: "Fail",
        sideEffects: "None",
        admissionReviewVersions: ["v1"],
      },
    ],
  };
}

function pilotVersion(): string {
  const version = goToolVersion("pilot-discovery");
  return `1.31 (${version.slice(version.lastIndexOf("-") + 1)})`;
}
