import { writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./fault.ts";

const brokenRoutes: Fault = {
  name: "routes file broken and mended",
  short: true,
  async run(scene) {
    for (const { file } of scene.replicas) await writeFile(file, "routes: [", { mode: 0o600 });
    const told = await until(async () => {
      const states = await Promise.all(scene.replicas.map(({ admin }) => configState(admin)));
      return states.every((state) => state !== "ok");
    });
    await scene.pause(3_000);
    await scene.writeRoutes();
    const mended = await until(async () => {
      const states = await Promise.all(scene.replicas.map(({ admin }) => configState(admin)));
      return states.every((state) => state === "ok");
    });
    return `told in ${told} ms, mended in ${mended} ms`;
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
    if (Date.now() - startedAt > 10_000) throw new Error("did not come about within 10 s");
    await delay(50);
  }
  return Date.now() - startedAt;
}

export const configurationFaults: readonly Fault[] = [brokenRoutes];
