import { agents } from "../long/agents.ts";
import { programs } from "../long/programs.ts";
import type { Scenario } from "../long/scenario.ts";
import { inspector } from "./inspector.ts";
import { sdks } from "./sdks.ts";

/**
 * Every client with one URL for five servers. One of them needs the user's consent, which each scenario asks for anew: during sign-in, or
 * in a call.
 */
export async function aggregated(): Promise<readonly Scenario[]> {
  const small = await programs(({ aggregated: all }) => all);
  return [
    ...(await agents(({ aggregated: all }) => all)),
    // Those with a fixed token as header say nothing more about an aggregated route.
    ...small.filter(({ name }) => !name.endsWith(" as client")),
    ...(await sdks()),
    await inspector(),
  ].map(({ name, steps, ...rest }) => ({
    ...rest,
    name: `${name}, aggregated`,
    async steps(world, worked) {
      await world.disconnect();
      await steps(world, worked);
      worked(await world.declared());
    },
  }));
}
