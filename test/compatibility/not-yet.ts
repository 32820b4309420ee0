/** Upstreams and clients of the catalog that do not work today because of the gateway, and why. The test fails when one starts to work. */
export const notYet: Readonly<Record<"upstreams" | "clients", Readonly<Record<string, string>>>> = {
  upstreams: {},
  clients: {},
};
