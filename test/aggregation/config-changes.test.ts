import { expect, it } from "vitest";
import { connect } from "../system/aggregation/clients.ts";
import { statelessMember } from "../system/aggregation/members/sessions-member.ts";
import { startReplicas } from "./replicas.ts";

it.each(["2025-11-25", "2026-07-28"] as const)(
  "a client of %s is told when a member is added or removed, and keeps its session",
  async (kind) => {
    const [notes, plain] = await Promise.all([statelessMember("notes"), statelessMember("plain")]);
    const both = [
      { id: "notes", url: notes.url },
      { id: "plain", url: plain.url },
    ];
    const replicas = await startReplicas(both.slice(0, 1));
    const client = await connect(kind, { url: replicas.url(), token: replicas.token, fetch });
    try {
      await client.follow();
      const told = () =>
        client.notified.filter(({ method }) => method === "notifications/tools/list_changed").length > 0;
      expect(await client.toolNames()).not.toContain("plain__whoami");
      await replicas.reload(both);
      await expect.poll(told, { timeout: 60_000 }).toBe(true);
      expect(await client.toolNames()).toContain("plain__whoami");
      client.notified.length = 0;
      await replicas.reload(both.slice(1));
      await expect.poll(told, { timeout: 60_000 }).toBe(true);
      expect(await client.toolNames()).not.toContain("notes__whoami");
      await expect(client.call("notes__whoami")).rejects.toThrow();
    } finally {
      await client.close();
      await replicas.close();
      await notes.close();
      await plain.close();
    }
  },
);

it("the first aggregated route is served as soon as the configuration has it", async () => {
  const notes = await statelessMember("notes");
  const replicas = await startReplicas([]);
  try {
    expect((await fetch(replicas.url(), { method: "POST" })).status).toBe(404);
    await replicas.reload([{ id: "notes", url: notes.url }]);
    const client = await connect("2026-07-28", { url: replicas.url(), token: replicas.token, fetch });
    expect(await client.toolNames()).toContain("notes__whoami");
    await client.close();
  } finally {
    await replicas.close();
    await notes.close();
  }
});
