import { expect, it } from "vitest";
import { describeStore } from "./describe-store.ts";

describeStore("issuers of configured clients", (store) => {
  const client = { routeId: "files", upstream: "https://files.example/mcp", clientId: "c" };

  it("keeps the first issuer of several concurrent callers, separately for each client and upstream", async () => {
    const asked = Array.from({ length: 8 }, (_, index) => `https://as${index}.example`);
    const kept = await Promise.all(asked.map((issuer) => store().clientIssuers.keep(client, issuer, false)));
    expect(new Set(kept).size).toBe(1);
    expect(await store().clientIssuers.keep(client, "https://late.example", false)).toBe(kept[0]);
    const moved = { ...client, upstream: "https://new.example/mcp" };
    expect(await store().clientIssuers.keep(moved, "https://late.example", false)).toBe(
      "https://late.example",
    );
  });

  it("accepts the operator's issuer, and keeps it", async () => {
    expect(await store().clientIssuers.keep(client, "https://named.example", true)).toBe(
      "https://named.example",
    );
    expect(await store().clientIssuers.keep(client, "https://late.example", false)).toBe(
      "https://named.example",
    );
  });
});
