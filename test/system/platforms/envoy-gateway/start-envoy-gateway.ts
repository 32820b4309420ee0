import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { stringify } from "yaml";
import type { Envoy } from "../../../../dev/demo/envoy.ts";
import { freePort } from "../../../../dev/demo/free-port.ts";
import type { GatewaySettings } from "../../../../dev/demo/stack.ts";
import { supervise } from "../../../../dev/demo/supervise.ts";
import { untilReady } from "../../../../dev/demo/until-ready.ts";
import { goTool } from "../../../../dev/go-tools.ts";
import { envoyOfVersion } from "../../../../envoy/envoy-binary.ts";
import { throughEnvoy } from "../../../support/through-envoy.ts";
import { envoyVersion, manifestFor } from "./manifest.ts";

/** Envoy Gateway's own, which no setting moves: probes, xDS, Wasm, admin, metrics. */
const fixedPorts = [8081, 18000, 18002, 19000, 19001];

/**
 * Starts Envoy Gateway on this machine, without Kubernetes, with the sample manifest; it starts Envoy. Waits until the issuer's metadata
 * is served.
 * @throws Error with the end of its log
 */
export async function startEnvoyGateway(settings: GatewaySettings): Promise<Envoy> {
  const binary = await goTool("envoy-gateway");
  if (binary === undefined) throw new Error("Envoy Gateway is not installed: make envoy-gateway");
  for (const port of fixedPorts) await freePort(port, "nothing; end the other Envoy Gateway");
  const home = join(settings.folder, "envoy-gateway");
  const at = (name: string) => join(home, name);
  const bin = at(`data/envoy-versions/${envoyVersion}/bin`);
  for (const folder of [bin, at("resources")]) await mkdir(folder, { recursive: true });
  await symlink(await envoyOfVersion(envoyVersion), join(bin, "envoy"));
  const objects = await manifestFor(settings);
  // They contain the secret that authenticates Envoy, and the key of the certificate.
  await writeFile(at("resources/all.yaml"), objects.map((one) => stringify(one)).join("---\n"), {
    mode: 0o600,
  });
  await writeFile(at("config.yaml"), stringify(configuration(at)));
  await promisify(execFile)(binary, ["certgen", "--local", "--config-home", at("config")]);
  const logFile = at("envoy-gateway.log");
  const child = supervise(binary, ["server", "--config-path", at("config.yaml")], { logFile, cwd: home });
  await untilReady(child, "Envoy Gateway", logFile, () => isServing(settings));
  return { pid: child.pid, logFile, exited: child.exited, close: () => child.stop() };
}

/** Of Envoy Gateway itself. docs/envoy-gateway.md has the same `extensionApis` for a cluster. */
const configuration = (at: (name: string) => string) => ({
  apiVersion: "gateway.envoyproxy.io/v1alpha1",
  kind: "EnvoyGateway",
  gateway: { controllerName: "gateway.envoyproxy.io/gatewayclass-controller" },
  provider: {
    type: "Custom",
    custom: {
      resource: { type: "File", file: { paths: [at("resources")] } },
      infrastructure: {
        type: "Host",
        host: {
          configHome: at("config"),
          dataHome: at("data"),
          stateHome: at("state"),
          runtimeDir: at("run"),
        },
      },
    },
  },
  logging: { level: { default: "info" } },
  extensionApis: { enableBackend: true, enableEnvoyPatchPolicy: true },
});

async function isServing({ port, ca, config }: GatewaySettings): Promise<boolean> {
  const url = new URL("/.well-known/oauth-authorization-server", String(config.issuer)).href;
  return throughEnvoy({ envoyPort: port, ca }, { url }).then(
    ({ status }) => status === 200,
    () => false,
  );
}

/** A statistic of the Envoy that Envoy Gateway started, at an admin address of its choice. */
export async function envoyStatistic({ logFile }: Envoy, name: string): Promise<number> {
  const [file] = globSync(join(dirname(logFile), "run/*/admin-address.txt"));
  if (file === undefined) throw new Error("Envoy's admin address is not there");
  const url = `http://${(await readFile(file, "utf8")).trim()}/stats?filter=${encodeURIComponent(name)}`;
  return Number(/: (\d+)/.exec(await (await fetch(url)).text())?.[1]);
}
