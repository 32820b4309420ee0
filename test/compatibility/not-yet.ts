/** Upstreams and clients of the zoo that do not work today, and why that is ours to mend. The test says so when one does. */
export const notYet: Readonly<Record<"upstreams" | "clients", Readonly<Record<string, string>>>> = {
  upstreams: {},
  clients: {},
};
