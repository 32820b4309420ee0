import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { envoy } from "../../dev/demo/envoy.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { envoyConfig } from "../../src/cli/envoy-config.ts";

/*
 * A neighbor answers at the sidecar's address (a stolen name or IP address), to configure Envoy and to learn the secret with which it
 * fetches its configuration.
 */
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "imposter-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test.each([
  ["of another CA", "elsewhere", "sidecar.internal"],
  ["of our CA for another name", "ours", "neighbor.internal"],
])(
  "an imposter with a certificate %s gets no request of an Envoy, and cannot configure it",
  async (_which, from, name) => {
    const place = join(folder, `${from}-${name}`);
    const ours = await certificateAuthority(join(place, "ours"), [name]);
    const theirs = from === "ours" ? ours : await certificateAuthority(join(place, "elsewhere"), [name]);
    const requests: string[] = [];
    const imposter = createServer(
      { cert: await readFile(theirs.files.certificate), key: await readFile(theirs.files.key) },
      (request, response) => {
        requests.push(`${request.url} ${JSON.stringify(request.headers)}`);
        response.end("{}");
      },
    );
    let handshakes = 0;
    imposter.on("connection", () => {
      handshakes += 1;
    });
    await new Promise<void>((resolve) => imposter.listen(0, "127.0.0.1", resolve));
    const address = `127.0.0.1:${(imposter.address() as AddressInfo).port}`;
    const adminPort = await freePort();
    const file = join(place, "routes.yaml");
    const credential = join(place, "credential", "xds.yaml");
    const config = {
      issuer: "https://auth.test",
      listen: {
        envoy_secret: "c".repeat(43),
        xds: { address, certificate: "tls.crt", key: "tls.key", secret: "x".repeat(43) },
      },
      envoy: {
        admin: `127.0.0.1:${adminPort}`,
        sidecar: { xds: { ca: ours.files.ca, server_name: "sidecar.internal", credential } },
      },
      sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
      routes: [],
    };
    await writeFile(file, stringify(config), { mode: 0o600 });
    const print = (format: "xds-bootstrap" | "xds-credential") => {
      let printed = "";
      const out = (text: string) => {
        printed += text;
      };
      expect(envoyConfig({ file, env: {}, format, out, err: () => {} })).toBe(0);
      return printed;
    };
    await mkdir(join(place, "credential"));
    await writeFile(credential, print("xds-credential"), { mode: 0o600 });
    const running = envoy({ bootstrap: print("xds-bootstrap"), folder: place, adminPort });
    running.catch(() => {});
    const admin = (path: string) =>
      fetch(`http://127.0.0.1:${adminPort}${path}`).then(
        (answer) => answer.text(),
        () => "",
      );
    try {
      await expect
        .poll(async () =>
          /cluster\.xds\.ssl\.fail_verify_(?:error|san): [1-9]/.test(await admin("/stats?filter=xds")),
        )
        .toBe(true);
      // Without a healthy sidecar, Envoy tries this one.
      await expect
        .poll(async () => /cluster_manager\.cds\.update_failure: [1-9]/.test(await admin("/stats")))
        .toBe(true);
      expect(handshakes).toBeGreaterThan(0);
      expect(requests).toEqual([]);
      expect(await admin("/ready")).toBe("PRE_INITIALIZING\n");
    } finally {
      await stop(adminPort, running);
      imposter.closeAllConnections();
      await new Promise((resolve) => imposter.close(resolve));
    }
  },
);

/** Ends an Envoy that never becomes ready. */
async function stop(adminPort: number, running: Promise<unknown>): Promise<void> {
  await fetch(`http://127.0.0.1:${adminPort}/quitquitquit`, { method: "POST" });
  await running.catch(() => {});
}
