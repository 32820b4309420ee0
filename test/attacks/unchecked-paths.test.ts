import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { ownPaths } from "../../src/config/own-paths.ts";

/*
 * What the samples for Istio and Envoy Gateway do with a request, by their own words: who is asked first, and where it goes. The
 * list of paths that nobody is asked about is the code's.
 */
const kubernetes = join(import.meta.dirname, "../../deploy/kubernetes");
const documents = (file: string) =>
  parseAllDocuments(readFileSync(join(kubernetes, file), "utf8")).map((document): unknown => document.toJS());
const ofKind = <T>(file: string, kind: string, schema: z.ZodType<T>) =>
  documents(file)
    .filter((document) => Object(document).kind === kind)
    .map((document) => schema.parse(document));

interface Fate {
  /** Whether ext_authz is asked. */
  readonly asked: boolean;
  readonly goesTo: "sidecar" | "server" | "nowhere";
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
            to: z.array(z.object({ operation: z.strictObject({ hosts: strings, notPaths: strings }) })),
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
            match: z.array(
              z.strictObject({
                uri: z.union([z.strictObject({ exact: z.string() }), z.strictObject({ prefix: z.string() })]),
              }),
            ),
            route: z.tuple([z.object({ destination: z.object({ host: z.string() }) })]),
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
    // Neither looks at the query; hosts are compared in lower case, and a virtual host is its host with any port.
    const path = target.replace(/\?.*/, "");
    const name = host.toLowerCase();
    const operations = policies.flatMap(({ spec }) => spec.rules.flatMap(({ to }) => to));
    const asked = operations.some(
      ({ operation: { hosts, notPaths } }) =>
        hosts.some((pattern) => fits(pattern, name)) && !notPaths.some((pattern) => fits(pattern, path)),
    );
    const service = services.find(({ spec }) => spec.hosts.includes(name.replace(/:\d+$/, "")));
    const taken = service?.spec.http.find(({ match }) =>
      match.some(({ uri }) => ("exact" in uri ? uri.exact === path : path.startsWith(uri.prefix))),
    );
    return { asked, goesTo: destination(taken?.route[0].destination.host) };
  };
}

function envoyGateway(): Gateway {
  const file = "envoy-gateway.yaml";
  const routes = ofKind(
    file,
    "HTTPRoute",
    z.object({
      metadata: z.object({ name: z.string() }),
      spec: z.object({
        hostnames: z.array(z.string()),
        rules: z.array(
          z.object({
            matches: z.array(
              z.strictObject({
                path: z.strictObject({ type: z.enum(["Exact", "PathPrefix"]), value: z.string() }),
              }),
            ),
            backendRefs: z.tuple([z.object({ name: z.string() })]),
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
        targetRefs: z.tuple([z.object({ kind: z.literal("HTTPRoute"), name: z.string() })]),
        extAuth: z.object({ failOpen: z.literal(false) }),
      }),
    }),
  );
  const checked = new Set(policies.map(({ spec }) => spec.targetRefs[0].name));
  return (host, target) => {
    const path = target.replace(/\?.*/, "");
    const name = host.toLowerCase().replace(/:\d+$/, "");
    // An exact path before prefixes, the longer prefix before the shorter, whichever object they stand in.
    const [taken] = routes
      .filter(({ spec }) => spec.hostnames.includes(name))
      .flatMap(({ metadata, spec }) =>
        spec.rules.flatMap((rule) =>
          rule.matches.map(({ path: match }) => ({
            name: metadata.name,
            match,
            to: rule.backendRefs[0].name,
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
    return { asked: taken !== undefined && checked.has(taken.name), goesTo: destination(taken?.to) };
  };
}

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
])("%s", (_file, read) => {
  const gateway = read();

  test.each([issuer, route, `${issuer}:443`, `${route}:443`, `${route}:8443`, "NOTES.example.com"])(
    "no path of %s reaches a server without a check, and only our own endpoints go unchecked to the sidecar",
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

  test("a server's host reaches the server once it is asked", () => {
    expect(gateway(route, "/")).toEqual({ asked: true, goesTo: "server" });
    expect(gateway(`${route}:443`, "/oauth/token")).toEqual({ asked: true, goesTo: "server" });
  });

  test.each(["stranger.example.com", "mcp.example.com.evil.example", "xnotes.example.com"])(
    "%s goes nowhere",
    (host) => {
      for (const path of paths) expect([path, gateway(host, path).goesTo]).toEqual([path, "nowhere"]);
    },
  );
});
