import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type Program, programFile } from "../../dev/demo/sidecar.ts";
import { flagsToAdd, heapFlags } from "../../src/workers/heap-shape.ts";
import { startedWith } from "../support/started-with.ts";

const mebibyte = 1024 ** 2;
const flags = (mebibytes: number, workers?: number) =>
  heapFlags({ memoryBytes: mebibytes * mebibyte, ...(workers !== undefined && { workers }) }).join(" ");

describe("the heap of a process", () => {
  it("is half of a small container, and leaves a quarter of a large one", () => {
    expect(flags(128)).toBe(
      "--max-old-space-size=64 --initial-old-space-size=32 --max-semi-space-size=1 --expose-gc",
    );
    expect(flags(512)).toBe(
      "--max-old-space-size=256 --initial-old-space-size=128 --max-semi-space-size=4 --expose-gc",
    );
    expect(flags(4096)).toBe(
      "--max-old-space-size=3072 --initial-old-space-size=400 --max-semi-space-size=4 --expose-gc",
    );
  });

  it("is never larger than what V8 supports well, and shares the container with other workers", () => {
    expect(flags(64 * 1024)).toContain("--max-old-space-size=4096 --initial-old-space-size=400");
    expect(flags(2048, 4)).toBe(flags(512));
  });

  it("is the operator's where they have chosen, with dashes or underscores", () => {
    const ours = heapFlags({ memoryBytes: 512 * mebibyte });
    expect(flagsToAdd(ours, ["--max_semi_space_size=16"], undefined)).not.toContain(
      "--max-semi-space-size=4",
    );
    expect(flagsToAdd(ours, [], "--max-old-space-size=100  --no-warnings")).toEqual([
      "--max-semi-space-size=4",
      "--expose-gc",
    ]);
    expect(flagsToAdd(ours, [], "--max-old-space-size-percentage=40")).toEqual([
      "--max-semi-space-size=4",
      "--expose-gc",
    ]);
    expect(flagsToAdd(ours, ours, undefined)).toEqual([]);
  });
});

describe("serve, started without flags,", () => {
  const folder = mkdtempSync(join(tmpdir(), "heap-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const program: Program = [process.execPath, programFile];

  it("restarts itself with flags once, as the same process", () => {
    const { starts, status, stderr } = startedWith(folder, program, ["serve", "--config", "absent.yaml"]);
    expect(starts).toHaveLength(2);
    expect(starts[0]).toMatchObject({ execArgv: [] });
    expect(starts[1]).toMatchObject({ pid: starts[0]?.pid, args: ["serve", "--config", "absent.yaml"] });
    expect(starts[1]?.execArgv.join(" ")).toMatch(
      /^--max-old-space-size=\d+ --initial-old-space-size=\d+ --max-semi-space-size=\d --expose-gc$/,
    );
    // What it prints and how it ends reach whoever started it.
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining("absent.yaml") });
  });

  it("keeps the operator's flags of NODE_OPTIONS", () => {
    const { starts } = startedWith(folder, program, ["serve", "--config", "absent.yaml"], {
      options: "--max-old-space-size=100 --max-semi-space-size=2",
    });
    expect(starts.map(({ execArgv }) => execArgv)).toEqual([[], ["--expose-gc"]]);
    // V8 counts three halves of the young generation on top.
    expect(starts[1]?.heapLimit).toBe((100 + 3 * 2) * mebibyte);
  });

  it("and other commands are not restarted", () => {
    expect(startedWith(folder, program, ["--version"]).starts).toHaveLength(1);
  });
});
