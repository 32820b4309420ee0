import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { programFile } from "../../dev/demo/sidecar.ts";
import { configFile } from "../config/config-file.ts";

const run = (file: string) =>
  spawnSync(process.execPath, [programFile, "check-config", "--config", file], { encoding: "utf8" });
const file = (policy: string) =>
  configFile(`issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
listen: {grpc_authentication: none}
routes:
  - {id: notes, from: https://h.example.com, to: http://x, policy: ${policy}, mcp: {server: {request_headers: {}}}}
`);

it("check-config warns about a route that no user can reach, and exits with 0", () => {
  const checked = run(file("{deny: {or: [{accept: true}]}}"));
  expect(checked.stderr).toContain("warning: route notes: there is no allow rule: nobody may use this route");
  expect(checked.stdout).toContain("1 route, no errors, 1 warning");
  expect(checked.status).toBe(0);
});

it("check-config warns about what routes lose without a response path", () => {
  const routes = `routes:
  - {id: notes, from: https://h.example.com, to: http://x, mcp: {server: {request_headers: {}, tools: {deny: [add]}}}}
  - {id: tickets, from: https://t.example.com, to: http://x, policy: {allow: {and: [{mcp_tool: {starts_with: read_}}, {accept: true}]}}, mcp: {server: {request_headers: {}}}}
  - {id: plain, from: https://p.example.com, to: http://x, mcp: {server: {request_headers: {}}}}
  - {id: app, from: https://a.example.com, to: http://x, mcp: {client: {}}}
`;
  const checked = (responsePath: boolean) =>
    run(
      configFile(`issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
listen: {grpc_authentication: none}
envoy: {response_path: ${responsePath}}
policy: {allow: {or: [{accept: true}]}}
${routes}`),
    ).stderr;
  const warnings = checked(false);
  expect(warnings).toContain("warning: route notes: without a response path");
  expect(warnings).toContain("warning: route tickets: without a response path");
  expect(warnings).toMatch(/route app: .* can set the gateway's own cookies/);
  expect(warnings).not.toContain("route plain:");
  expect(checked(true)).not.toContain("response path");
});

it("check-config says that it checks the rest when invalid values are fixed", () => {
  const missing = configFile(`issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c, client_secret: "\${NOT_SET_ANYWHERE}"}]}
policy: {allow: {or: [{accept: true}]}}
routes: [{from: https://h.example.com, to: http://x, mcp: {server: {request_headers: {}}}}]
`);
  const checked = run(missing);
  expect(checked.stderr).toContain("NOT_SET_ANYWHERE");
  expect(checked.stderr).toContain("1 error, 0 warnings; run check-config again when these are fixed");
  const env = { ...process.env, NOT_SET_ANYWHERE: "secret" };
  const rest = spawnSync(process.execPath, [programFile, "check-config", "--config", missing], {
    encoding: "utf8",
    env,
  });
  expect(rest.stderr).toContain("set listen.envoy_secret");
  expect(rest.stderr).toMatch(/1 error, 1 warning\n$/);
});

it("check-config prints all problems and exits with 1", () => {
  const checked = run(file("{allow: {or: [{e_mail: {is: a@b.c}}]}}"));
  expect(checked.stderr).toMatch(/:5:\d+: error: routes\[0\]\.policy/);
  expect(checked.stderr).toContain("fix:");
  expect(checked.status).toBe(1);
});
