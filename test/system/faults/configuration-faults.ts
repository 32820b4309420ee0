import { writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./fault.ts";
import { rollOver } from "./replica-faults.ts";
import { keyVariables } from "./world-config.ts";

const brokenRoutes: Fault = {
  name: "routes file broken and fixed",
  short: true,
  async run(scene) {
    for (const { file } of scene.replicas) await writeFile(file, "routes: [", { mode: 0o600 });
    const reported = await until(async () => {
      const states = await Promise.all(scene.replicas.map(({ admin }) => configState(admin)));
      return states.every((state) => state !== "ok");
    });
    await scene.pause(3_000);
    await scene.writeRoutes();
    const fixed = await until(async () => {
      const states = await Promise.all(scene.replicas.map(({ admin }) => configState(admin)));
      return states.every((state) => state === "ok");
    });
    return `reported in ${reported} ms, fixed in ${fixed} ms`;
  },
};

async function configState(admin: string): Promise<string> {
  const answer = await fetch(`${admin}/readyz`);
  const { config } = await answer.json();
  return config;
}

async function until(condition: () => Promise<boolean>): Promise<number> {
  const startedAt = Date.now();
  while (!(await condition().catch(() => false))) {
    if (Date.now() - startedAt > 60_000) throw new Error("not reached within 60 s");
    await delay(50);
  }
  return Date.now() - startedAt;
}

/** As documented: distribute the new key, then use it, then re-encrypt everything, then remove the old key. */
const encryptionKey: Fault = {
  name: "encryption key rotated",
  async run(scene) {
    const [k1, k2] = Object.entries(keyVariables).map(([kid, env]) => ({ kid, env }));
    if (!k1 || !k2) return;
    const serveWith = async (...keys: object[]) => {
      await scene.writeRoutes((config) => ({ ...config, encryption: { keys } }));
      await rollOver(scene);
    };
    await serveWith(k1, k2);
    await serveWith(k2, k1);
    const [said] = (await scene.command("rotate-keys")).split("\n");
    scene.encryptWith("k2");
    await serveWith(k2);
    await scene.pause(3_000);
    return `${said}; three rolling restarts`;
  },
};

const signingKey: Fault = {
  name: "signing key rotated",
  async run(scene) {
    await scene.command("rotate-signing-key", "external_token", "--activate-after", "2s");
    await scene.pause(4_000);
    // Half of the people get new tokens; the others keep theirs.
    const renewed = await Promise.all(
      scene.calls.map(async (call, index) => {
        const [userId = "", routeId = ""] = (call.owner ?? "").split(" ");
        return index % 2 ? call : scene.seed.call(userId, scene.grants.get(userId) ?? "", routeId);
      }),
    );
    const kids = new Set(renewed.map(({ token }) => token.split(".")[0]));
    scene.calls = renewed;
    await scene.pause(6_000);
    return `tokens of ${kids.size} keys in use`;
  },
};

export const configurationFaults: readonly Fault[] = [encryptionKey, signingKey, brokenRoutes];
