import type { PolicyNode, PolicySource } from "../model/route.ts";
import { parsePolicy } from "./parse-policy.ts";
import type { Reporter } from "./reporter.ts";

/** A bearer token of the admin API. */
export interface AdminToken {
  /** In audit events and log lines: `token:NAME`. */
  readonly name: string;
  readonly token: string;
}

/** Who may use the admin API and the admin page, and where the page is. */
export interface AdminAccess {
  readonly adminTokens: readonly AdminToken[];
  readonly viewerTokens: readonly AdminToken[];
  /** Signed-in people who are administrators of the admin page; absent: nobody. */
  readonly admins?: PolicySource;
  /** Signed-in people who may read there. */
  readonly viewers?: PolicySource;
  /** Host names, lower case and without port, at which the admin page answers. */
  readonly hosts: readonly string[];
}

type TokenInput = string | { readonly name: string; readonly token: string };

/** `admin_api` as written, with its schema checked but for the policies. */
interface AdminInput {
  readonly admin_tokens: readonly TokenInput[];
  readonly viewer_tokens: readonly TokenInput[];
  readonly hosts?: readonly string[] | undefined;
}

/**
 * Builds `admin_api`. A token without a name is named by its list and position, which no written name can be.
 * @param listen address of the private listener: the default of `hosts` includes its host
 */
export function adminAccess(
  input: AdminInput,
  policies: Pick<AdminAccess, "admins" | "viewers">,
  listen: string,
): AdminAccess {
  const named = (list: "admin_tokens" | "viewer_tokens") =>
    input[list].map((entry, index) =>
      typeof entry === "string" ? { name: `${list}[${index}]`, token: entry } : entry,
    );
  return {
    adminTokens: named("admin_tokens"),
    viewerTokens: named("viewer_tokens"),
    ...policies,
    hosts: input.hosts ?? defaultHosts(listen),
  };
}

function defaultHosts(listen: string): readonly string[] {
  const host = listen.startsWith("unix:") ? "" : listen.slice(0, listen.lastIndexOf(":")).toLowerCase();
  const own = ["", "0.0.0.0", "[::]"].includes(host) ? [] : [host];
  return [...new Set(["localhost", "127.0.0.1", "[::1]", ...own])];
}

const policyKeys = ["admins", "viewers"] as const;

/** Parses the policies of `admin_api`. Reports problems, also criteria that are about a request: there is none to decide on. */
export function readAdminPolicies(
  value: unknown,
  reporter: Reporter,
): { readonly admins?: PolicySource; readonly viewers?: PolicySource } {
  if (!isMapping(value)) return {};
  const read = policyKeys.flatMap((key) => {
    const written = value[key];
    if (written === undefined || written === null) return [];
    const at = ["admin_api", key];
    const source = parsePolicy(written, at, reporter);
    if (source === undefined) return [];
    for (const name of new Set(source.flatMap(({ when }) => criteriaOf(when)).filter(isAboutRequest)))
      reporter.error(
        at,
        `${name} is about a request, and this policy decides about a person`,
        "use email, domain, user, groups or claim/NAME",
        "key",
      );
    const open = source.some(({ action, when }) => action === "allow" && allowsEverybody(when));
    if (open)
      reporter.warn(
        at,
        `everybody who can sign in is one of the ${key} of this gateway`,
        "use email, domain, user, groups or claim/NAME",
        "key",
      );
    return [[key, source] as const];
  });
  return Object.fromEntries(read);
}

/** Reports names of tokens that are used twice: the audit trail could not tell them apart. */
export function checkAdminTokens(access: AdminAccess, reporter: Pick<Reporter, "error">): void {
  const seen = new Set<string>();
  for (const list of ["adminTokens", "viewerTokens"] as const)
    for (const [index, { name }] of access[list].entries()) {
      const key = list === "adminTokens" ? "admin_tokens" : "viewer_tokens";
      if (seen.has(name))
        reporter.error(
          ["admin_api", key, index, "name"],
          `two tokens are named ${name}: audit events could not tell them apart`,
          "give each token a different name",
        );
      seen.add(name);
    }
}

function criteriaOf(node: PolicyNode): readonly string[] {
  return node.op === "criterion" ? [node.criterion] : node.nodes.flatMap(criteriaOf);
}

function isAboutRequest(criterion: string): boolean {
  return ["mcp_tool", "http_method", "http_path", "source_ip"].includes(criterion);
}

/** Every signed-in person is authenticated. */
function allowsEverybody(node: PolicyNode): boolean {
  switch (node.op) {
    case "criterion":
      return node.criterion === "accept" || node.criterion === "authenticated_user";
    case "and":
      return node.nodes.every(allowsEverybody);
    case "or":
      return node.nodes.some(allowsEverybody);
    default:
      return false;
  }
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
