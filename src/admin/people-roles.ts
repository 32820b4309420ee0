import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Subject } from "../model/subject.ts";
import { compilePersonPolicy, type PersonPolicy } from "../policy/person-policy.ts";
import type { AdminRole } from "./access.ts";

/** The role of a signed-in person by the policies of the current configuration, if any. */
export type RoleOf = (person: Subject) => AdminRole | undefined;

/** Compiles `admin_api.admins` and `viewers` once per configuration. */
export function createPeopleRoles(routes: CurrentRoutes): RoleOf {
  let compiled:
    | { readonly from: Config; readonly admins: PersonPolicy; readonly viewers: PersonPolicy }
    | undefined;
  return (person) => {
    const { config } = routes();
    if (compiled?.from !== config) {
      const { admins, viewers } = config.adminApi;
      compiled = {
        from: config,
        admins: compilePersonPolicy(admins),
        viewers: compilePersonPolicy(viewers),
      };
    }
    const now = Date.now();
    if (compiled.admins(person, now)) return "admin";
    return compiled.viewers(person, now) ? "viewer" : undefined;
  };
}
