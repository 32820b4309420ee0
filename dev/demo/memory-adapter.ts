import type { Adapter, AdapterFactory, AdapterPayload } from "oidc-provider";

/** In-memory storage of one provider of the demo. oidc-provider's own keeps only 1,000 entries. */
export function memoryAdapter(): AdapterFactory {
  const models = new Map<string, Map<string, { payload: AdapterPayload; until: number }>>();
  return (model) => {
    const entries = models.get(model) ?? new Map<string, { payload: AdapterPayload; until: number }>();
    models.set(model, entries);

    async function find(id: string): Promise<AdapterPayload | undefined> {
      const entry = entries.get(id);
      if (!entry || entry.until < Date.now()) return undefined;
      return entry.payload;
    }
    async function findBy(field: "uid" | "userCode", value: string): Promise<AdapterPayload | undefined> {
      for (const [id, { payload }] of entries) if (payload[field] === value) return find(id);
      return undefined;
    }
    const adapter: Adapter = {
      find,
      findByUid: (uid) => findBy("uid", uid),
      findByUserCode: (code) => findBy("userCode", code),
      async upsert(id, payload, expiresIn) {
        entries.set(id, {
          payload,
          until: expiresIn ? Date.now() + expiresIn * 1000 : Number.POSITIVE_INFINITY,
        });
      },
      async consume(id) {
        const entry = entries.get(id);
        if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
      },
      async destroy(id) {
        entries.delete(id);
      },
      async revokeByGrantId(grantId) {
        for (const [id, { payload }] of entries) if (payload.grantId === grantId) entries.delete(id);
      },
    };
    return adapter;
  };
}
