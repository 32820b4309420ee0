import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { suite } from "./scenario.ts";

const requirements = z.object({ server: z.array(z.string()) });

/** Names of the server scenarios that a revision requires; all others are optional. */
export async function requiredServerScenarios(revision: string): Promise<readonly string[]> {
  const file = join(suite, "requirements", `${revision}.yaml`);
  return requirements.parse(parse(await readFile(file, "utf8"))).server;
}
