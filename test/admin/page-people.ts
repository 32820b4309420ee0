import { randomBytes } from "node:crypto";
import { newCode } from "../../src/admin/page/one-time-code.ts";
import { type CommandContext, withStore } from "../../src/cli/command.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import type { startAdmin } from "./start-admin.ts";

export type AdminStack = Awaited<ReturnType<typeof startAdmin>>;

/** Works on the store as another replica does. */
export async function inStore(
  stack: AdminStack,
  work: (context: CommandContext) => Promise<void>,
): Promise<void> {
  const command = { file: stack.file, env: stack.env, out: () => {}, err: () => {} };
  await withStore(command, async (context) => {
    await work(context);
    return 0;
  });
}

/** Somebody who is signed in at the gateway, and a code that their browser shows. */
export async function shownCode(
  stack: AdminStack,
  given: { readonly expiresAt?: Date; readonly group?: string; readonly email?: string } = {},
): Promise<string> {
  const { expiresAt = new Date(Date.now() + 300_000), group = "platform", email } = given;
  const code = newCode();
  await inStore(stack, async ({ store }) => {
    const subject = group === "platform" ? "carol" : group;
    const userId = `company/${subject}`;
    const checkedAt = new Date();
    const person = { userId, providerId: "id.test", subject, groups: [group], claims: {}, email };
    await store.signInSessions.put({ ...person, tokensAt: checkedAt.getTime(), checkedAt });
    const id = randomBytes(32).toString("base64url");
    const inAnHour = new Date(Date.now() + 3_600_000);
    const session = { id, host: "auth.test", userId, createdAt: checkedAt, expiresAt: inAnHour };
    await store.browserSessions.create(session);
    await store.adminSessions.addCode({ code, sessionName: hashedHandle(id), userId, expiresAt });
  });
  return code;
}
