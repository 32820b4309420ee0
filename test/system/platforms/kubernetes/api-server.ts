import { generateKeyPairSync, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificateAuthority } from "../../../../dev/demo/certificate-authority.ts";
import { freePort } from "../../../../dev/demo/free-port.ts";
import { type Supervised, supervise } from "../../../../dev/demo/supervise.ts";
import { untilReady } from "../../../../dev/demo/until-ready.ts";
import { goTool } from "../../../../dev/go-tools.ts";
import { executablesOnPath } from "../../../../envoy/executables-on-path.ts";
import { type KubernetesClient, kubernetesClient } from "./client.ts";

/** A Kubernetes API server on loopback: real admission, validation and storage; without a node, nothing runs. */
export interface KubernetesApiServer extends KubernetesClient {
  /** `https://127.0.0.1:PORT`. */
  readonly url: string;
  /** A kubeconfig file of a cluster administrator, for Helm and other programs. */
  readonly kubeconfig: string;
  /** A temporary folder, deleted by `close`; the logs are in it. */
  readonly folder: string;
  readonly version: string;
  close(): Promise<void>;
}

/** What is missing to start one, with what installs it; `undefined` if nothing is. */
export async function missingForKubernetes(): Promise<string | undefined> {
  if (executablesOnPath("etcd").length === 0) return "etcd (apt-get install etcd-server)";
  if ((await goTool("kube-apiserver")) === undefined)
    return "kube-apiserver (needs Go: node dev/go-tools.ts kube-apiserver)";
  return undefined;
}

/**
 * Starts etcd and kube-apiserver on free loopback ports, each with a certificate; client certificates required.
 * @param options.controllers also start kube-controller-manager, which creates Pods for Deployments and Jobs
 * @throws Error with the end of a log if one of them exits or is not ready within 60 s
 */
export async function startKubernetesApiServer(
  options: { readonly controllers?: boolean } = {},
): Promise<KubernetesApiServer> {
  const [etcd = ""] = executablesOnPath("etcd");
  const apiServer = await goTool("kube-apiserver");
  if (apiServer === undefined) throw new Error(`missing: ${await missingForKubernetes()}`);
  const folder = await mkdtemp(join(tmpdir(), "kubernetes-"));
  const { ca, files } = await certificateAuthority(folder);
  const [clientPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
  const url = `https://127.0.0.1:${port}`;
  const token = randomBytes(24).toString("base64url");
  const secret = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const keys = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const serviceAccountKey = secret("service-accounts.key", keys.privateKey);
  const tokens = secret("tokens.csv", `${token},administrator,1,system:masters\n`);
  const kubeconfig = secret("kubeconfig", kubeconfigOf(url, files.ca, token));
  const started: Supervised[] = [];
  const start = (name: string, program: string, args: readonly string[]) => {
    const logFile = join(folder, `${name}.log`);
    const child = supervise(program, args, { logFile, cwd: folder });
    started.unshift(child);
    return (ready: () => Promise<boolean>) => untilReady(child, name, logFile, ready);
  };
  const close = async () => {
    for (const one of started) await one.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const etcdUrl = `https://127.0.0.1:${clientPort}`;
    start("etcd", etcd, [
      ...["--data-dir", join(folder, "etcd"), "--listen-client-urls", etcdUrl],
      ...["--advertise-client-urls", etcdUrl, "--listen-peer-urls", `http://127.0.0.1:${peerPort}`],
      ...["--initial-advertise-peer-urls", `http://127.0.0.1:${peerPort}`],
      ...["--initial-cluster", `default=http://127.0.0.1:${peerPort}`],
      ...["--cert-file", files.certificate, "--key-file", files.key],
      ...["--client-cert-auth", "--trusted-ca-file", files.ca],
    ]);
    const client = kubernetesClient({ url, ca, token });
    const apiServerReady = start("kube-apiserver", apiServer, [
      ...[`--etcd-servers=${etcdUrl}`, `--etcd-cafile=${files.ca}`],
      ...[`--etcd-certfile=${files.certificate}`, `--etcd-keyfile=${files.key}`],
      ...["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", `--secure-port=${port}`],
      ...[`--tls-cert-file=${files.certificate}`, `--tls-private-key-file=${files.key}`],
      ...[`--token-auth-file=${tokens}`, "--authorization-mode=RBAC"],
      ...["--service-account-issuer=https://kubernetes.default.svc"],
      ...[`--service-account-key-file=${secret("service-accounts.pub", keys.publicKey)}`],
      ...[
        `--service-account-signing-key-file=${serviceAccountKey}`,
        "--service-cluster-ip-range=10.96.0.0/16",
      ],
      // Its own endpoint cannot be a loopback address.
      "--endpoint-reconciler-type=none",
    ]);
    await apiServerReady(client.ready);
    if (options.controllers) {
      const manager = await goTool("kube-controller-manager");
      if (manager === undefined) throw new Error("missing: kube-controller-manager");
      start("kube-controller-manager", manager, [
        ...[`--kubeconfig=${kubeconfig}`, "--leader-elect=false", "--bind-address=127.0.0.1"],
        ...[`--secure-port=${await freePort()}`, "--use-service-account-credentials=false"],
        ...[`--service-account-private-key-file=${serviceAccountKey}`, `--root-ca-file=${files.ca}`],
        "--controllers=deployment-controller,replicaset-controller,job-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,garbage-collector-controller,namespace-controller,endpointslice-controller,disruption-controller",
      ]);
    }
    const { gitVersion: version } = await client.get<{ gitVersion: string }>("/version");
    return { ...client, url, kubeconfig, folder, version, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function kubeconfigOf(server: string, caFile: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "local", cluster: { server, "certificate-authority": caFile } }],
    users: [{ name: "administrator", user: { token } }],
    contexts: [{ name: "local", context: { cluster: "local", user: "administrator" } }],
    "current-context": "local",
  });
}
