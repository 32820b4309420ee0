import type { Subject } from "../../src/model/subject.ts";

/** The callers in these tests and in `docs/policy.md`. */
export const people: Readonly<Record<string, Subject>> = {
  ann: {
    userId: "okta/ann",
    email: "ann@example.com",
    name: "Ann",
    groups: ["analysts"],
    claims: {
      department: "data",
      level: 3,
      mfa: true,
      roles: ["reader", "writer"],
      realm_access: { roles: ["auditor"] },
      "https://example.com/tier": "gold",
      empty: "",
      nothing: null,
      nobody: [],
    },
  },
  bob: {
    userId: "okta/bob",
    email: "bob@partner.io",
    groups: ["contractors", "analysts"],
    claims: { department: "sales", roles: ["reader"] },
  },
  cam: { userId: "okta/cam", email: "CAM@Example.COM", groups: ["admins"], claims: { department: "it" } },
  /** Signed in, without any other facts. */
  eve: { userId: "okta/eve", groups: [], claims: {} },
  /** Has every claim, all of them empty. */
  blank: { userId: "okta/blank", email: "", groups: [""], claims: { department: "", roles: [] } },
  /** A quoted local part that two parsers split differently. */
  odd: { userId: "okta/odd", email: '"a@evil.test"@example.com', groups: [], claims: {} },
  /** In more groups than the provider lists. */
  max: { userId: "entra/max", groups: [], claims: { _claim_names: { groups: "src1", roles: "src1" } } },
  robot: { userId: "service-account/nightly", groups: [], claims: {} },
};
