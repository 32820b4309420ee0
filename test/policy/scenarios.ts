/** Policies with requests to them. Read by `decisions.test.ts`. */
export const scenarios: Readonly<Record<string, { readonly route: string; readonly table: string }>> = {
  "without a policy: all requests are denied": {
    route: "",
    table: `
      ann   | initialize  | deny  | no rule
      cam   | GET         | deny  | no rule
      robot | call search | deny  | no rule`,
  },
  "accept: everyone with a token": {
    route: "policy: {allow: {and: [{accept: true}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      eve   | GET        | allow | .allow.and
      robot | DELETE     | allow | .allow.and`,
  },
  "reject: nobody": {
    route: "policy: {allow: {or: [{reject: true}]}}",
    table: `
      ann | initialize | deny | no rule
      cam | GET        | deny | no rule`,
  },
  authenticated_user: {
    route: "policy: {allow: {and: [{authenticated_user: true}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      robot | initialize | allow | .allow.and`,
  },
  "email, bare value": {
    route: "policy: {allow: {or: [{email: ann@example.com}]}}",
    table: `
      ann   | initialize | allow | .allow.or
      bob   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "email, case-insensitive": {
    route: "policy: {allow: {or: [{email: {is: cam@example.com}}]}}",
    table: `
      cam | initialize | allow | .allow.or
      ann | initialize | deny  | no rule`,
  },
  "email, in": {
    route: "policy: {allow: {or: [{email: {in: [ann@example.com, BOB@partner.io]}}]}}",
    table: `
      ann | initialize | allow | .allow.or
      bob | initialize | allow | .allow.or
      cam | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "email, not_in under allow: an absent address is not allowed": {
    route: "policy: {allow: {and: [{email: {not_in: [bob@partner.io]}}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      bob   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule
      robot | initialize | deny  | no rule`,
  },
  "email, not_in under deny: an absent address is not on the list": {
    route: "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{email: {not_in: [ann@example.com]}}]}",
    table: `
      ann   | initialize | allow | .allow.and
      bob   | initialize | deny  | .deny.and
      eve   | initialize | deny  | .deny.and
      blank | initialize | deny  | .deny.and`,
  },
  "email, starts_with, ends_with, contains": {
    route: `policy:
  - allow: {and: [{email: {starts_with: ann@}}]}
  - allow: {and: [{email: {ends_with: "@PARTNER.io"}}]}
  - allow: {and: [{email: {contains: m@e}}]}`,
    table: `
      ann | initialize | allow | [0].allow.and
      bob | initialize | allow | [1].allow.and
      cam | initialize | allow | [2].allow.and
      odd | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "email, two matchers: both": {
    route: "policy: {allow: {and: [{email: {starts_with: ann, ends_with: example.com}}]}}",
    table: `
      ann | initialize | allow | .allow.and
      cam | initialize | deny  | no rule`,
  },
  "email, not": {
    route: "policy: {allow: {and: [{email: {not: bob@partner.io}}]}}",
    table: `
      ann | initialize | allow | .allow.and
      bob | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "domain: the part after the only @": {
    route: "policy: {allow: {and: [{domain: example.com}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      cam   | initialize | allow | .allow.and
      bob   | initialize | deny  | no rule
      odd   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "domain, matchers": {
    route: `policy:
  - allow: {and: [{domain: {ends_with: .io}}]}
  - allow: {and: [{domain: {in: [example.com, example.org]}}]}`,
    table: `
      bob | initialize | allow | [0].allow.and
      ann | initialize | allow | [1].allow.and
      odd | initialize | deny  | no rule`,
  },
  "user: the whole user id": {
    route: "policy: {allow: {or: [{user: okta/ann}, {user: {starts_with: service-account/}}]}}",
    table: `
      ann   | initialize | allow | .allow.or
      robot | initialize | allow | .allow.or
      bob   | initialize | deny  | no rule`,
  },
  "groups, has": {
    route: "policy: {allow: {and: [{groups: {has: analysts}}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      bob   | initialize | allow | .allow.and
      cam   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "groups, bare value": {
    route: "policy: {allow: {and: [{groups: admins}]}}",
    table: `
      cam | initialize | allow | .allow.and
      ann | initialize | deny  | no rule`,
  },
  "groups, is: exactly that one": {
    route: "policy: {allow: {and: [{groups: {is: analysts}}]}}",
    table: `
      ann | initialize | allow | .allow.and
      bob | initialize | deny  | no rule`,
  },
  "groups, in and not_in": {
    route: `policy:
  - allow: {and: [{groups: {in: [admins, auditors]}}]}
  - allow: {and: [{groups: {not_in: [contractors]}}]}`,
    table: `
      cam   | initialize | allow | [0].allow.and
      ann   | initialize | allow | [1].allow.and
      bob   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "groups, exclude: without groups, not allowed": {
    route: "policy: {allow: {and: [{groups: {exclude: contractors}}]}}",
    table: `
      ann | initialize | allow | .allow.and
      bob | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "claim, bare value": {
    route: "policy: {allow: {and: [{claim/department: data}]}}",
    table: `
      ann   | initialize | allow | .allow.and
      bob   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "claim, numbers and booleans": {
    route: `policy:
  - allow: {and: [{claim/level: 3}, {claim/mfa: true}]}`,
    table: `
      ann | initialize | allow | [0].allow.and
      bob | initialize | deny  | no rule`,
  },
  "claim, a list: has, is, in, not_in": {
    route: `policy:
  - allow: {and: [{claim/roles: {is: reader}}]}
  - allow: {and: [{claim/roles: {has: writer}}]}
  - deny: {and: [{claim/roles: {in: [owner, root]}}]}`,
    table: `
      bob   | initialize | allow | [0].allow.and
      ann   | initialize | allow | [1].allow.and
      blank | initialize | deny  | no rule`,
  },
  "claim, slashes name nested members; a name may contain slashes": {
    route: `policy:
  - allow: {and: [{claim/realm_access/roles: auditor}, {claim/https://example.com/tier: gold}]}`,
    table: `
      ann | initialize | allow | [0].allow.and
      bob | initialize | deny  | no rule`,
  },
  "claim, inherited members are not claims": {
    route: "policy: {allow: {or: [{claim/constructor/name: Object}, {claim/__proto__: x}]}}",
    table: `
      ann | initialize | deny | no rule`,
  },
  "claim, empty ones are absent": {
    route: `policy:
  allow: {or: [{claim/empty: {not_in: [x]}}, {claim/nothing: {not_in: [x]}}, {claim/nobody: {not_in: [x]}}]}`,
    table: `
      ann | initialize | deny | no rule`,
  },
  "claim, the caller's e-mail, groups and subject are fallbacks": {
    route:
      "policy: {allow: {and: [{claim/email: ann@example.com}, {claim/groups: analysts}, {claim/sub: okta/ann}]}}",
    table: `
      ann | initialize | allow | .allow.and
      bob | initialize | deny  | no rule`,
  },
  "groups and claims that the provider withholds: unknown, so they never allow, and always deny": {
    route: `policy:
  - allow: {or: [{groups: analysts}, {groups: {not_in: [x]}}, {claim/groups: x}, {claim/roles: {exclude: x}}, {domain: example.com}]}
  - allow: {nor: [{groups: contractors}]}
  - allow: {and: [{http_method: GET}]}
  - deny: {and: [{http_method: GET}, {groups: contractors}]}`,
    table: `
      max | initialize | deny  | no rule
      max | GET        | deny  | [3].deny.and
      cam | GET        | allow | [0].allow.or`,
  },
  "the same with claims, and a not around them": {
    route: `policy:
  - allow: {and: [{accept: true}]}
  - deny: {and: [{http_method: GET}, {claim/roles: writer}]}
  - deny: {not: [{groups: analysts}]}`,
    table: `
      ann | initialize | allow | [0].allow.and
      max | GET        | deny  | [1].deny.and
      max | initialize | deny  | [2].deny.not`,
  },
  "not around an absent claim does not allow": {
    route: "policy: {allow: {not: [{claim/department: sales}]}}",
    table: `
      ann   | initialize | allow | .allow.not
      bob   | initialize | deny  | no rule
      eve   | initialize | deny  | no rule
      blank | initialize | deny  | no rule`,
  },
  "not around an absent claim denies": {
    route: "policy:\n  allow: {and: [{accept: true}]}\n  deny: {not: [{claim/mfa: true}]}",
    table: `
      ann   | initialize | allow | .allow.and
      bob   | initialize | deny  | .deny.not
      robot | initialize | deny  | .deny.not`,
  },
  and: {
    route: "policy: {allow: {and: [{domain: example.com}, {groups: admins}]}}",
    table: `
      cam | initialize | allow | .allow.and
      ann | initialize | deny  | no rule`,
  },
  or: {
    route: "policy: {allow: {or: [{domain: example.com}, {groups: contractors}]}}",
    table: `
      ann | initialize | allow | .allow.or
      bob | initialize | allow | .allow.or
      eve | initialize | deny  | no rule`,
  },
  "not: none of them": {
    route: "policy: {allow: {not: [{domain: partner.io}, {groups: admins}]}}",
    table: `
      ann | initialize | allow | .allow.not
      bob | initialize | deny  | no rule
      cam | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "nor: not all of them": {
    route: "policy: {allow: {nor: [{domain: example.com}, {groups: admins}]}}",
    table: `
      ann | initialize | allow | .allow.nor
      bob | initialize | allow | .allow.nor
      cam | initialize | deny  | no rule
      eve | initialize | deny  | no rule`,
  },
  "operators within operators": {
    route:
      "policy: {allow: {and: [{domain: example.com}, {or: [{groups: admins}, {not: [{claim/mfa: false}]}]}]}}",
    table: `
      ann | initialize | allow | .allow.and
      cam | initialize | allow | .allow.and
      bob | initialize | deny  | no rule`,
  },
  "several operators in one rule are alternatives": {
    route: "policy: {allow: {and: [{domain: example.com}], or: [{groups: contractors}]}}",
    table: `
      ann | initialize | allow | .allow.and
      bob | initialize | allow | .allow.or
      eve | initialize | deny  | no rule`,
  },
  "deny takes precedence, in any order": {
    route: `policy:
  - deny: {or: [{groups: contractors}]}
  - allow: {and: [{accept: true}]}
  - deny: {or: [{email: cam@example.com}]}`,
    table: `
      ann | initialize | allow | [1].allow.and
      bob | initialize | deny  | [0].deny.or
      cam | initialize | deny  | [2].deny.or`,
  },
  "the first matching rule is reported": {
    route: `policy:
  - allow: {and: [{groups: admins}]}
  - allow: {and: [{domain: example.com}]}
  - allow: {and: [{accept: true}]}`,
    table: `
      cam | initialize | allow | [0].allow.and
      ann | initialize | allow | [1].allow.and
      eve | initialize | allow | [2].allow.and`,
  },
  http_method: {
    route: `policy:
  allow: {and: [{domain: example.com}]}
  deny: {and: [{http_method: {in: [delete, PUT]}}]}`,
    table: `
      ann | GET        | allow | .allow.and
      ann | initialize | allow | .allow.and
      ann | DELETE     | deny  | .deny.and
      ann | PUT        | deny  | .deny.and`,
  },
  http_path: {
    route: `policy:
  allow: {and: [{domain: example.com}, {http_path: {starts_with: /mcp}}]}
  deny: {and: [{http_path: {contains: /internal}}]}`,
    table: `
      ann | initialize                   | allow | .allow.and
      ann | initialize path=/other       | deny  | no rule
      ann | initialize path=/mcp/internal| deny  | .deny.and
      ann | GET path=/MCP                | deny  | no rule`,
  },
  "source_ip under allow": {
    route: "policy: {allow: {and: [{source_ip: [10.0.0.0/8, 2001:db8::/32, 192.0.2.9]}]}}",
    table: `
      ann | initialize ip=10.1.2.3        | allow | .allow.and
      ann | initialize ip=::ffff:10.1.2.3 | allow | .allow.and
      ann | initialize ip=2001:db8::1     | allow | .allow.and
      ann | initialize ip=192.0.2.9       | allow | .allow.and
      ann | initialize ip=192.0.2.10      | deny  | no rule
      ann | initialize ip=2001:db9::1     | deny  | no rule
      ann | initialize ip=none            | deny  | no rule
      ann | initialize ip=10.1.2          | deny  | no rule
      ann | initialize ip=@socket         | deny  | no rule`,
  },
  "source_ip under deny: an address that cannot be read is denied": {
    route: "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{source_ip: 203.0.113.0/24}]}",
    table: `
      ann | initialize ip=192.0.2.1   | allow | .allow.and
      ann | initialize ip=203.0.113.9 | deny  | .deny.and
      ann | initialize ip=none        | deny  | .deny.and
      ann | initialize ip=unknown     | deny  | .deny.and`,
  },
  "source_ip under not": {
    route: `policy:
  - allow: {not: [{source_ip: 203.0.113.0/24}]}`,
    table: `
      ann | initialize ip=192.0.2.1   | allow | [0].allow.not
      ann | initialize ip=203.0.113.9 | deny  | no rule
      ann | initialize ip=none        | deny  | no rule`,
  },
  date: {
    route: "policy: {allow: {and: [{date: {after: 2026-03-01T00:00:00, before: 2026-04-01}}]}}",
    table: `
      ann | initialize at=2026-03-15T12:00:00Z | allow | .allow.and
      ann | initialize at=2026-02-28T23:59:59Z | deny  | no rule
      ann | initialize at=2026-03-01T00:00:00Z | deny  | no rule
      ann | initialize at=2026-04-01T00:00:00Z | deny  | no rule`,
  },
  "time_of_day, in a time zone with daylight saving time": {
    route: 'policy: {allow: {and: [{time_of_day: {timezone: Europe/Berlin, after: "8:00", before: 6 PM}}]}}',
    table: `
      ann | initialize at=2026-01-15T07:30:00Z | allow | .allow.and
      ann | initialize at=2026-01-15T06:30:00Z | deny  | no rule
      ann | initialize at=2026-07-15T06:30:00Z | allow | .allow.and
      ann | initialize at=2026-07-15T16:30:00Z | deny  | no rule
      ann | initialize at=2026-01-15T17:00:00Z | deny  | no rule`,
  },
  "time_of_day under deny": {
    route: `policy:
  allow: {and: [{accept: true}]}
  deny: {or: [{time_of_day: {timezone: UTC, after: "22:00:00"}}, {time_of_day: {timezone: UTC, before: "06:00"}}]}`,
    table: `
      ann | initialize at=2026-01-15T12:00:00Z | allow | .allow.and
      ann | initialize at=2026-01-15T23:00:00Z | deny  | .deny.or
      ann | initialize at=2026-01-15T05:59:59Z | deny  | .deny.or`,
  },
  "mcp_tool under deny, is": {
    route: "policy:\n  allow: {and: [{domain: example.com}]}\n  deny: {and: [{mcp_tool: {is: drop_table}}]}",
    table: `
      ann | call query                   | allow  | .allow.and
      ann | call drop_table              | refuse | .deny.and
      ann | call Drop_Table              | allow  | .allow.and
      ann | initialize                   | allow  | .allow.and
      ann | list                         | allow  | .allow.and
      ann | ping                         | allow  | .allow.and
      ann | notify notifications/initialized | allow | .allow.and
      ann | answer                       | allow  | .allow.and
      ann | GET                          | allow  | .allow.and
      ann | DELETE                       | allow  | .allow.and
      ann | PUT                          | deny   | readable body
      ann | call-silently drop_table     | deny   | .deny.and
      bob | call query                   | deny   | no rule
      bob | call drop_table              | deny   | no rule`,
  },
  "mcp_tool under deny, starts_with, ends_with, contains, in": {
    route: `policy:
  - allow: {and: [{accept: true}]}
  - deny: {and: [{mcp_tool: {starts_with: admin_}}]}
  - deny: {and: [{mcp_tool: {ends_with: _all}}]}
  - deny: {and: [{mcp_tool: {contains: secret}}]}
  - deny: {and: [{mcp_tool: {in: [purge, wipe]}}]}`,
    table: `
      eve | call admin_users | refuse | [1].deny.and
      eve | call delete_all  | refuse | [2].deny.and
      eve | call get_secrets | refuse | [3].deny.and
      eve | call wipe        | refuse | [4].deny.and
      eve | call badmin_     | allow  | [0].allow.and`,
  },
  "mcp_tool under deny, not_in: an allowlist": {
    route:
      "policy:\n  allow: {and: [{accept: true}]}\n  deny: {and: [{mcp_tool: {not_in: [query, list_tables]}}]}",
    table: `
      ann | call query       | allow  | .allow.and
      ann | call list_tables | allow  | .allow.and
      ann | call anything    | refuse | .deny.and
      ann | initialize       | allow  | .allow.and
      ann | list             | allow  | .allow.and`,
  },
  "mcp_tool under deny for some": {
    route: `policy:
  allow: {and: [{accept: true}]}
  deny: {and: [{groups: contractors}, {mcp_tool: {starts_with: write_}}]}`,
    table: `
      ann | call write_file | allow  | .allow.and
      bob | call write_file | refuse | .deny.and
      bob | call read_file  | allow  | .allow.and
      bob | list            | allow  | .allow.and`,
  },
  "mcp_tool under allow: as in Pomerium, only that tool call is allowed": {
    route: "policy: {allow: {and: [{domain: example.com}, {mcp_tool: {in: [query]}}]}}",
    table: `
      ann | call query       | allow  | .allow.and
      ann | call drop_table  | refuse | no rule
      ann | initialize       | refuse | no rule
      ann | list             | refuse | no rule
      ann | notify notifications/initialized | deny | no rule
      ann | GET              | deny   | no rule
      bob | call query       | deny   | no rule`,
  },
  "mcp_tool under allow, not_in: still false on requests that are not tool calls": {
    route: "policy: {allow: {and: [{mcp_tool: {not_in: [drop_table]}}]}}",
    table: `
      ann | call query      | allow  | .allow.and
      ann | call drop_table | refuse | no rule
      ann | initialize      | refuse | no rule`,
  },
  "mcp_tool under not: true on requests that are not tool calls": {
    route: "policy: {allow: {not: [{mcp_tool: drop_table}]}}",
    table: `
      ann | call query      | allow  | .allow.not
      ann | call drop_table | refuse | no rule
      ann | initialize      | allow  | .allow.not
      ann | GET             | allow  | .allow.not`,
  },
  "tools.allow and tools.deny": {
    route:
      'policy: {allow: {and: [{domain: example.com}]}}\ntools: {allow: ["get_*", search, "*_report_*"], deny: [get_secret]}',
    table: `
      ann | call get_user        | allow  | .allow.and
      ann | call search          | allow  | .allow.and
      ann | call new_report_pdf  | allow  | .allow.and
      ann | call get_secret      | refuse | tools.deny
      ann | call set_user        | refuse | tools.allow
      ann | call forget_user     | refuse | tools.allow
      ann | call searching       | refuse | tools.allow
      ann | call Get_user        | refuse | tools.allow
      ann | initialize           | allow  | .allow.and
      ann | list                 | allow  | .allow.and
      bob | call search          | deny   | no rule`,
  },
  "tools under mcp.server with a deny rule: the rule is reported first": {
    route: `mcp: {server: {tools: {deny: [wipe]}}}
policy:
  allow: {and: [{accept: true}]}
  deny: {and: [{mcp_tool: {in: [wipe, purge]}}]}`,
    table: `
      eve | call wipe  | refuse | .deny.and
      eve | call purge | refuse | .deny.and
      eve | call other | allow  | .allow.and`,
  },
  "an empty tools.allow allows none": {
    route: "policy: {allow: {and: [{accept: true}]}}\ntools: {allow: []}",
    table: `
      ann | call search | refuse | tools.allow
      ann | list        | allow  | .allow.and`,
  },
  "batches that hide a forbidden call": {
    route: "policy:\n  allow: {and: [{domain: example.com}]}\n  deny: {and: [{mcp_tool: {is: drop_table}}]}",
    table: `
      ann | batch call query, ping                  | allow  | .allow.and
      ann | batch call query                        | allow  | .allow.and
      ann | batch call drop_table                   | refuse | .deny.and
      ann | batch call query, call drop_table       | refuse | .deny.and
      ann | batch call drop_table, call query       | refuse | .deny.and
      ann | batch ping, list, ping, call drop_table | refuse | .deny.and
      ann | batch ping, call-silently drop_table    | refuse | .deny.and
      ann | batch notify x, call-silently drop_table| deny   | .deny.and
      ann | batch answer, call drop_table           | refuse | .deny.and
      bob | batch ping, ping                        | deny   | no rule`,
  },
  "on a client route a tool is never called": {
    route:
      "mcp: {client: {}}\npolicy:\n  allow: {and: [{domain: example.com}]}\n  deny: {and: [{mcp_tool: {not_in: [x]}}]}",
    table: `
      ann | GET         | allow | .allow.and
      ann | PUT         | allow | .allow.and
      ann | call search | allow | .allow.and
      bob | GET         | deny  | no rule`,
  },
};
