import { spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockFolder } from "../../src/store/embedded/embedded-database.ts";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "lock-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const gone = 2 ** 22 + 1;

test("of many processes that find a stale lock, one gets the directory", async () => {
  const unlock = await lockFolder(dir);
  const [, here] = (await readFile(join(dir, "lock"), "utf8")).split(" ");
  await unlock();
  await writeFile(join(dir, "lock"), `${gone} ${here}`);
  const code = `import { lockFolder } from ${JSON.stringify(join(import.meta.dirname, "../../src/store/embedded/embedded-database.ts"))};
    process.stdin.once("data", async () => {
      console.log(await lockFolder(${JSON.stringify(dir)}).then(() => "held", (error) => error.code));
    });
    process.stdin.once("end", () => process.exit());
    console.log("ready");`;
  const children = Array.from({ length: 5 }, () =>
    spawn(process.execPath, ["--input-type=module-typescript", "-e", code], {
      stdio: ["pipe", "pipe", "inherit"],
    }),
  );
  const lines = children.map((child) => {
    const told: string[] = [];
    child.stdout.on("data", (chunk) => told.push(...String(chunk).split("\n").filter(Boolean)));
    return told;
  });
  await expect.poll(() => lines.every((told) => told[0] === "ready"), { timeout: 60_000 }).toBe(true);
  for (const child of children) child.stdin.write("go\n");
  await expect.poll(() => lines.every((told) => told.length === 2), { timeout: 60_000 }).toBe(true);
  const answers = lines.map((told) => told[1]);
  for (const child of children) child.stdin.end();
  expect(answers.filter((answer) => answer === "held")).toEqual(["held"]);
  expect(answers.filter((answer) => answer === "embedded_database_in_use").length).toBe(4);
});

test.each([
  ["whose first process has our id", String(process.pid)],
  ["whose id does not exist here", `${gone} elsewhere`],
  ["whose id belongs to another process here", `${process.ppid} elsewhere`],
  ["of an earlier version", String(gone)],
])("a process of another container on the same volume, %s, keeps the directory", async (_, claim) => {
  const path = join(dir, "lock");
  await writeFile(path, claim);
  const touch = setInterval(() => void utimes(path, new Date(), new Date()), 100);
  try {
    await expect(lockFolder(dir, { silentMs: 60_000 })).rejects.toMatchObject({
      code: "embedded_database_in_use",
    });
  } finally {
    clearInterval(touch);
  }
  const unlock = await lockFolder(dir, { silentMs: 500 });
  await unlock();
});

test("a lock of our own container from before its restart is stale", async () => {
  await writeFile(join(dir, "lock"), String(process.pid));
  const unlock = await lockFolder(dir, { silentMs: 500 });
  await unlock();
});

test("a symbolic link at the path of the lock file is not followed", async () => {
  const victim = join(dir, "victim");
  await writeFile(victim, "precious");
  await symlink(victim, join(dir, `lock.${process.pid}`));
  const unlock = await lockFolder(dir);
  expect(await readFile(victim, "utf8")).toBe("precious");
  await unlock();
});

test("an encryption key that is a symbolic link, or readable by others, is rejected", async () => {
  const key = Buffer.alloc(32, 7).toString("base64url");
  const elsewhere = join(dir, "elsewhere");
  await writeFile(elsewhere, key, { mode: 0o600 });
  await symlink(elsewhere, join(dir, "encryption-key"));
  const load = () => loadKeyEncryptionKeys([], { env: {}, embeddedDir: dir });
  await expect(load()).rejects.toMatchObject({ code: "encryption_key_invalid" });
  await rm(join(dir, "encryption-key"));
  await writeFile(join(dir, "encryption-key"), key);
  await chmod(join(dir, "encryption-key"), 0o644);
  await expect(load()).rejects.toMatchObject({ code: "encryption_key_invalid" });
  await chmod(join(dir, "encryption-key"), 0o640);
  await load();
});
