import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { loadConfig } from "../../src/config/load-config.ts";
import { upstreamPath } from "../../src/config/paths.ts";
import { ownPaths } from "../../src/config/route-table.ts";
import { checkContext } from "../../src/envoy-config/routes.ts";
import { unmatched } from "../../src/model/route.ts";
import { manifestsIn } from "../deploy/manifests.ts";

/*
 * Evaluates the samples for Istio and Envoy Gateway: whether a request is checked, and where it goes. The list of unchecked paths
 * comes from the code.
 */
const kubernetes = join(import.meta.dirname, "../../deploy/kubernetes");
const ofKind = <T>(file: string, kind: string, schema: z.ZodType<T>) =>
  manifestsIn(readFileSync(join(kubernetes, file), "utf8"))
    .filter((one) => one.kind === kind)
    .map((one) => schema.parse(one));

interface Fate {
  /** Whether ext_authz is called. */
  readonly asked: boolean;
  readonly goesTo: "sidecar" | "server" | "nowhere";
  /** The path that the server sees. */
  readonly as?: string;
}
type Gateway = (host: string, path: string) => Fate;

const issuer = "mcp.example.com";
const route = "notes.example.com";
const destination = (name: string | undefined): Fate["goesTo"] =>
  name === undefined ? "nowhere" : name.startsWith("gateway-envoy-mcp-auth") ? "sidecar" : "server";

function istio(): Gateway {
  const file = "istio.yaml";
  const strings = z.array(z.string());
  const policies = ofKind(
    file,
    "AuthorizationPolicy",
    z.object({
      spec: z.object({
        action: z.literal("CUSTOM"),
        rules: z.array(
          z.object({
            to: z.array(
              z.object({
                operation: z.strictObject({
                  hosts: strings.optional(),
                  notHosts: strings.optional(),
                  notPaths: strings.optional(),
                }),
              }),
            ),
          }),
        ),
      }),
    }),
  );
  const services = ofKind(
    file,
    "VirtualService",
    z.object({
      spec: z.object({
        hosts: strings,
        http: z.array(
          z.object({
            match: z
              .array(
                z.strictObject({
                  uri: z.union([
                    z.strictObject({ exact: z.string() }),
                    z.strictObject({ prefix: z.string() }),
                  ]),
                }),
              )
              .default([{ uri: { prefix: "/" } }]),
            // None: a response of Envoy itself.
            route: z.tuple([z.object({ destination: z.object({ host: z.string() }) })]).optional(),
            rewrite: z.strictObject({ uri: z.string().optional(), authority: z.string() }).optional(),
          }),
        ),
      }),
    }),
  );
  /** Exact, `prefix*`, `*suffix`, `*`. */
  const fits = (pattern: string, value: string) => {
    if (pattern.endsWith("*")) return value.startsWith(pattern.slice(0, -1));
    return pattern.startsWith("*") ? value.endsWith(pattern.slice(1)) : pattern === value;
  };
  return (host, target) => {
    // Neither reads the query; hosts are compared in lower case, and a virtual host includes its host with any port.
    const path = target.replace(/\?.*/, "");
    const name = host.toLowerCase();
    const operations = policies.flatMap(({ spec }) => spec.rules.flatMap(({ to }) => to));
    const asked = operations.some(
      ({ operation: { hosts, notHosts = [], notPaths = [] } }) =>
        hosts?.some((pattern) => fits(pattern, name)) !== false &&
        !notHosts.some((pattern) => fits(pattern, name)) &&
        !notPaths.some((pattern) => fits(pattern, path)),
    );
    const service =
      services.find(({ spec }) => spec.hosts.includes(name.replace(/:\d+$/, ""))) ??
      services.find(({ spec }) => spec.hosts.includes("*"));
    const [taken] = (service?.spec.http ?? []).flatMap(({ match, route, rewrite }) => {
      const by = match.find(({ uri }) => ("exact" in uri ? uri.exact === path : path.startsWith(uri.prefix)));
      if (by === undefined) return [];
      const matched = "exact" in by.uri ? path : by.uri.prefix;
      const as = rewrite?.uri === undefined ? path : rewrite.uri + path.slice(matched.length);
      return [{ host: route?.[0].destination.host, as }];
    });
    return { asked, goesTo: destination(taken?.host), as: taken?.as };
  };
}

function envoyGateway(): Gateway {
  const file = "envoy-gateway.yaml";
  // Not a prefix replacement: its result depends on the gateway's version.
  const fullPath = z.strictObject({ type: z.literal("ReplaceFullPath"), replaceFullPath: z.string() });
  const routes = ofKind(
    file,
    "HTTPRoute",
    z.object({
      metadata: z.object({ name: z.string() }),
      spec: z.object({
        hostnames: z.array(z.string()).optional(),
        rules: z.array(
          z.object({
            matches: z
              .array(
                z.strictObject({
                  path: z.strictObject({ type: z.enum(["Exact", "PathPrefix"]), value: z.string() }),
                }),
              )
              .default([{ path: { type: "PathPrefix", value: "/" } }]),
            backendRefs: z.tuple([z.object({ name: z.string() })]),
            filters: z
              .array(
                z.object({
                  urlRewrite: z.object({ path: fullPath.optional() }).optional(),
                  extensionRef: z.object({ name: z.string() }).optional(),
                }),
              )
              .default([]),
          }),
        ),
      }),
    }),
  );
  const policies = ofKind(
    file,
    "SecurityPolicy",
    z.object({
      spec: z.object({
        targetRefs: z.array(z.object({ kind: z.literal("HTTPRoute"), name: z.string() })),
        extAuth: z.object({
          failOpen: z.literal(false),
          contextExtensions: z.array(z.object({ name: z.string(), value: z.string().optional() })),
        }),
      }),
    }),
  );
  const filters = ofKind(
    file,
    "HTTPRouteFilter",
    z.object({
      metadata: z.object({ name: z.string() }),
      spec: z.object({
        urlRewrite: z
          .object({
            path: z.object({
              replaceRegexMatch: z.object({ pattern: z.string(), substitution: z.string() }),
            }),
          })
          .optional(),
      }),
    }),
  );
  /** The id in the context of each checked HTTPRoute. */
  const checked = new Map(
    policies.flatMap(({ spec }) =>
      spec.targetRefs.map((target) => [
        target.name,
        spec.extAuth.contextExtensions.find(({ name }) => name === "route")?.value,
      ]),
    ),
  );
  const rewritten = (path: string, name: string | undefined) => {
    const found = filters.find(({ metadata }) => metadata.name === name)?.spec.urlRewrite?.path;
    const { pattern, substitution } = found?.replaceRegexMatch ?? {};
    return pattern === undefined || substitution === undefined
      ? undefined
      : path.replace(new RegExp(pattern), substitution.replace("\\1", "$1"));
  };
  return (host, target) => {
    const path = target.replace(/\?.*/, "");
    const name = host.toLowerCase().replace(/:\d+$/, "");
    const named = routes.filter(({ spec }) => spec.hostnames?.includes(name));
    const others = routes.filter(({ spec }) => spec.hostnames === undefined);
    // An exact path before prefixes, longer prefixes before shorter ones, whichever object they are in.
    const [taken] = (named.length > 0 ? named : others)
      .flatMap(({ metadata, spec }) =>
        spec.rules.flatMap((rule) =>
          rule.matches.map(({ path: match }) => ({
            name: metadata.name,
            match,
            to: rule.backendRefs[0].name,
            as: rule.filters.flatMap(
              ({ urlRewrite, extensionRef }) =>
                urlRewrite?.path?.replaceFullPath ?? rewritten(path, extensionRef?.name) ?? [],
            )[0],
          })),
        ),
      )
      .filter(({ match: { type, value } }) =>
        type === "Exact" ? path === value : value === "/" || path === value || path.startsWith(`${value}/`),
      )
      .toSorted(
        (a, b) =>
          Number(b.match.type === "Exact") - Number(a.match.type === "Exact") ||
          b.match.value.length - a.match.value.length,
      );
    const asked = taken !== undefined && checked.has(taken.name);
    // No route can have this id: the check denies everything. It denies `//`, too, without `slashes: merged`.
    const denied = asked && (checked.get(taken.name) === unmatched || path === "//");
    return { asked, goesTo: denied ? "nowhere" : destination(taken?.to), as: taken?.as ?? path };
  };
}

/** The route of the samples, with a tool policy. */
const sample = (() => {
  const folder = mkdtempSync(join(tmpdir(), "sample-"));
  const to = "https://notes.vendor.example/mcp";
  const notes = { id: "notes", from: `https://${route}`, to, tools: { deny: ["x"] }, mcp: { server: {} } };
  const config = {
    issuer: `https://${issuer}`,
    listen: { grpc_authentication: "none" },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    policy: [{ allow: { and: [{ accept: true }] } }],
    routes: [notes],
  };
  const file = join(folder, "routes.yaml");
  writeFileSync(file, JSON.stringify(config));
  const loaded = loadConfig(file, {}, { listeners: {} });
  rmSync(folder, { recursive: true });
  const found = loaded.ok ? loaded.config.routes.find(({ id }) => id === "notes") : undefined;
  if (found === undefined) throw new Error(JSON.stringify(loaded.problems));
  return found;
})();
const own = (host: string, target: string) => {
  const path = target.replace(/\?.*/, "");
  return ownPaths(
    { paths: { prefix: "/.pomerium" } },
    { issuer: host === issuer, route: host === route },
  ).some((one) => path === one.path || (one.match === "prefix" && path.startsWith(`${one.path}/`)));
};
const bases = ownPaths({ paths: { prefix: "/.pomerium" } }, { issuer: true, route: true }).map(
  ({ path }) => path,
);
const paths = [
  "/",
  "/mcp",
  "/x?/oauth/token",
  "/oauth-x",
  "/.well-known/oauth-",
  "/.well-known/",
  ...bases.flatMap((base) => [
    base,
    `${base}/`,
    `${base}/x`,
    `${base}/x/y?z`,
    `${base}?x`,
    `${base}x`,
    `${base}-x/y`,
    `${base};x`,
    `${base}%2fx`,
    base.toUpperCase() === base ? base : base.toUpperCase(),
    `/x${base}`,
    base.slice(0, -1),
  ]),
];

describe.each([
  ["istio.yaml", istio],
  ["envoy-gateway.yaml", envoyGateway],
])("%s", (file, read) => {
  const gateway = read();

  test.each([issuer, route, `${issuer}:443`, `${route}:443`, `${route}:8443`, "NOTES.example.com"])(
    "no path of %s reaches a server without a check, and only the gateway's own endpoints reach the sidecar unchecked",
    (host) => {
      const name = host.toLowerCase().replace(/:\d+$/, "");
      for (const path of paths) {
        const { asked, goesTo } = gateway(host, path);
        if (own(name, path)) expect([path, asked, goesTo]).toEqual([path, false, "sidecar"]);
        else {
          expect([path, goesTo]).not.toEqual([path, "sidecar"]);
          expect([path, asked || goesTo === "nowhere"]).toEqual([path, true]);
        }
      }
    },
  );

  test("a request to a server's host reaches the server after the check", () => {
    expect(gateway(route, "/")).toMatchObject({ asked: true, goesTo: "server" });
    expect(gateway(`${route}:443`, "/mcp/oauth/token")).toMatchObject({ asked: true, goesTo: "server" });
  });

  test("a server sees the checked path, and no path outside its route", () => {
    for (const path of [
      ...paths,
      "//",
      "/-admin",
      "/mcp-admin",
      "/mcp/",
      "/mcp/x",
      "/mcp/mcp",
      "/x",
      "/x/",
      // Istio's sample does not rewrite these.
      ...(file === "envoy-gateway.yaml" ? ["/.upstream/proof/x"] : []),
    ]) {
      const { goesTo, as } = gateway(route, path);
      const bare = path.replace(/\?.*/, "");
      if (goesTo === "server")
        expect([path, as]).toEqual([path, upstreamPath(sample, bare.replace(/\/{2,}/g, "/"))]);
    }
  });

  test("the checks of a route name the route and its upstream", () => {
    const text = readFileSync(join(kubernetes, file), "utf8");
    const said = [
      ...text.matchAll(/context_extensions: \{ route: (\w+), upstream: (\w+), body: (\w+) \}/g),
      ...text.matchAll(
        /name: route, type: Value, value: (\w+) \}\n.*name: upstream, type: Value, value: (\w+) \}\n.*name: body, type: Value, value: (\w+) \}/g,
      ),
    ];
    expect(said.length).toBe(1);
    const { route: id, upstream, body } = checkContext(sample);
    expect(said[0]?.slice(1)).toEqual([id, upstream, body]);
    if (file !== "istio.yaml") return;
    // One patch for each route to the server.
    const names = [...text.matchAll(/^ {4}- name: (notes[\w-]*)$/gm)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) expect(text).toContain(`vhost: { route: { name: ${name} } }`);
  });

  test.each(["stranger.example.com", "mcp.example.com.evil.example", "xnotes.example.com"])(
    "%s is not routed",
    (host) => {
      for (const path of paths) {
        const { asked, goesTo } = gateway(host, path);
        expect([path, goesTo]).toEqual([path, "nowhere"]);
        // A route that somebody adds for this host, and forgets in the policy, is not served unchecked.
        if (file === "istio.yaml") expect([path, asked]).toEqual([path, true]);
      }
    },
  );
});
