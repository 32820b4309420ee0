import { chmodSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load-config.ts";
import { configFile } from "./config-file.ts";
import { problemsOf } from "./problems-of.ts";

const route =
  "  - {from: https://h.example.com, to: http://x, policy: {allow: {or: [{accept: true}]}}, mcp: {}}\n";
const top =
  "issuer: https://auth.example.com\nsign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}\n";
const good = `${top}routes:\n${route}`;

describe("problems", () => {
  it("there are none for a valid file", () => {
    expect(problemsOf(good)).toEqual([]);
  });

  it("relative paths are resolved against the folder of their file", () => {
    const folders = [configFile(good), configFile(good)].map((file) => {
      const loaded = loadConfig(file, {});
      return [dirname(file), loaded.ok && loaded.config.database];
    });
    expect(folders[0]?.[0]).not.toBe(folders[1]?.[0]);
    for (const [folder, database] of folders) expect(database).toEqual({ dir: join(String(folder), "data") });
  });

  it("are reported all at once, each with its position, its key and its fix", () => {
    const file = `issuer: https://auth.example.com/path
lisen: {http: "127.0.0.1:8080"}
check: {deadline: soon}
routes:
  - from: http://h.example.com
    to: http://x
    mcp:
      servr: {}
  - from: https://i.example.com
    too: http://x
    policy:
      allow:
        or:
          - emial: a@example.com
    mcp: {server: {path: 7}}
  - from: https://j.example.com
    to: http://x
policy: {allow: {or: [{accept: true}]}}
`;
    expect(problemsOf(file)).toEqual([
      "1:9 error issuer: an origin has no path, query, fragment or user -> write https://host or https://host:port, with nothing after it",
      '2:1 error lisen: unknown key "lisen" -> did you mean listen?',
      '3:19 error check.deadline: "soon" is not a duration -> write seconds as a number, or 30s, 5m, 1h, 30d',
      "5:11 error routes[0].from: http: is for localhost only: tokens would be sent unencrypted -> write https://h.example.com",
      '8:7 error routes[0].mcp.servr: unknown key "servr" -> did you mean server?',
      "9:5 error routes[1].to: to is missing -> add to",
      '10:5 error routes[1].too: unknown key "too" -> did you mean to?',
      '14:13 error routes[1].policy.allow.or[0].emial: unknown criterion "emial" -> did you mean email?',
      "15:26 error routes[1].mcp.server.path: path must be a string, not a number -> write a string here",
      "16:11 error routes[2].from: the route is not an MCP route -> add mcp: {server: {}} or mcp: {client: {}}",
    ]);
  });

  it.each([
    ["from: http://h.example.com", /http: is for localhost only.*write https:\/\/h.example.com/],
    ["from: https://*.example.com", /wildcard/],
    ["from: https://u@h.example.com", /no user/],
    ["from: https://h.example.com/a%2Fb", /is not a path prefix/],
    ["from: ftp://h.example.com", /not an https URL/],
    ["from: https://h.example.com/.pomerium/x", /served by the gateway itself/],
    ["from: https://auth.example.com/oauth/x", /served by the gateway itself/],
  ])("reject %s", (from, expected) => {
    expect(problemsOf(good.replace("from: https://h.example.com", from)).join("\n")).toMatch(expected);
  });

  it("accept http for localhost", () => {
    expect(problemsOf(good.replace("https://h.example.com", "http://localhost:3000"))).toEqual([]);
  });

  it("name both routes with the same URL, and duplicate ids", () => {
    const twice = good + route.replace("https://h.example.com", "https://H.example.com:443/");
    expect(problemsOf(twice)).toEqual([
      expect.stringMatching(
        /^5:12 error routes\[1\]\.from: https:\/\/h\.example\.com is already claimed by routes\[0\] -> /,
      ),
    ]);
    const named = route.replace("{from", "{id: same, from");
    expect(problemsOf(`${top}routes:\n${named}${named.replace("//h.", "//i.")}`)).toEqual([
      expect.stringMatching(/routes\[1\]\.id: the id same is taken by routes\[0\]/),
    ]);
  });

  it("reject a `to` with several paths or queries, or with a duplicate parameter or path", () => {
    expect(problemsOf(good.replace("to: http://x", "to: [http://a/mcp, http://b/other]")).join()).toMatch(
      /routes\[0\]\.to\[1\]: all URLs of one `to` must have the same scheme/,
    );
    expect(problemsOf(good.replace("to: http://x", "to: http://a/mcp?x=1"))).toEqual([]);
    expect(problemsOf(good.replace("to: http://x", "to: [http://a/?x=1, http://b/?x=2]")).join()).toMatch(
      /routes\[0\]\.to\[1\]: all URLs of one `to` must have the same scheme/,
    );
    expect(problemsOf(good.replace("to: http://x", "to: http://a/?x=1&%78=2")).join()).toMatch(/has x twice/);
    const rewritten = (to: string, path: string) =>
      problemsOf(good.replace("to: http://x", `to: ${to}, prefix_rewrite: ${path}`)).join();
    expect(rewritten("http://x/", "/")).toBe("");
    expect(rewritten("http://x", "/api/v1")).toBe("");
    expect(rewritten("http://x/mcp", "/")).toMatch(/prefix_rewrite: .*is set in both/);
    for (const path of ["mcp", "/a/../b", "/a%2Fb", "/a?b=1"])
      expect(rewritten("http://x", path)).toMatch(/prefix_rewrite: .*is not a path/);
  });

  const endpoint = "{auth_url: https://as.test/a, token_url: https://as.test/t}";
  it.each([
    ["upstream_oauth2: {client_secret: s}", /needs a client_id.*add client_id/],
    ["upstream_oauth2: {private_key: k}", /needs a client_id.*add client_id/],
    [`upstream_oauth2: {endpoint: ${endpoint}}`, /explicit endpoints need a client_id/],
    ["upstream_oauth2: {}, upstream_auth: none", /contradict each other.*keep one/],
    [
      "upstream_auth: {client_credentials: {client_id: c, token_url: https://as.test/t, authorization_server_url: https://as.test}}",
      /token_url and authorization_server_url contradict each other.*keep one/,
    ],
    [
      `authorization_server_url: https://as.test, upstream_oauth2: {client_id: c, endpoint: ${endpoint}}`,
      /authorization_server_url: nothing is discovered here.*remove it/,
    ],
    ["authorization_server_url: https://as.test, upstream_auth: none", /nothing is discovered here/],
  ])("reject contradictory settings of an upstream: {%s}", (server, expected) => {
    const problems = problemsOf(good.replace("mcp: {}", `mcp: {server: {${server}}}`));
    expect(problems).toEqual([expect.stringMatching(expected)]);
  });

  describe("of secrets", () => {
    const secret = (value: string) =>
      `${top}routes:\n${route.replace("mcp: {}", `mcp: {server: {upstream_auth: {api_key: {header: x-key, value: "${value}"}}}}`)}`;

    it("reject an inline secret in a world-readable file, without showing it", () => {
      const problems = problemsOf(secret("hunter2"), {}, 0o644).join("\n");
      expect(problems).toMatch(/upstream_auth\.api_key\.value: a secret is inline.*file:path, or chmod o-r/);
      expect(problems).not.toContain("hunter2");
      expect(problemsOf(secret("hunter2"), {}, 0o640)).toEqual([]);
    });

    it("accept references to the environment and to files in any file, and name missing ones", () => {
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the file's syntax
      const reference = "${UPSTREAM_KEY}";
      expect(problemsOf(secret(reference), { UPSTREAM_KEY: "k" }, 0o644)).toEqual([]);
      expect(problemsOf(secret(reference)).join()).toMatch(
        /the environment variable UPSTREAM_KEY is not set/,
      );
      const file = configFile(secret("file:key"), 0o644);
      const loaded = () => loadConfig(file, {});
      expect(loaded().problems[0]?.message).toMatch(/key cannot be read \(ENOENT\)/);
      writeFileSync(join(dirname(file), "key"), "from a file\n");
      const now = loaded();
      expect(now.ok && now.config.routes[0]?.mcp).toMatchObject({
        auth: { headers: [[expect.any(String), "from a file"]] },
      });
      expect([...now.files.keys()]).toEqual([join(dirname(file), "key")]);
    });
  });

  it("reject bindings that share or lose tokens, and name the alternative", () => {
    const bound = (kind: string) => good.replace("mcp: {}", `upstream_token_binding: ${kind}, mcp: {}`);
    expect(problemsOf(bound("per_user"))).toEqual([]);
    for (const kind of ["per_session", "service_account"]) {
      expect(problemsOf(bound(kind))).toEqual([
        expect.stringMatching(
          new RegExp(
            `upstream_token_binding: ${kind} would lose or share.*-> write per_user; .*client_credentials`,
          ),
        ),
      ]);
    }
  });

  it("are reported for invalid YAML, for a file that is not a mapping, and for a missing file", () => {
    expect(problemsOf("a: [1\nb: 2").join("\n")).toMatch(/^\d+:\d+ error : not valid YAML/);
    expect(problemsOf(`${good}issuer: https://other.example.com\n`).join("\n")).toMatch(
      /5:1 error : this key appears twice/,
    );
    expect(problemsOf("- 1").join("\n")).toMatch(/the file is not a mapping/);
    expect(problemsOf("").join("\n")).toMatch(/the file is not a mapping/);
    expect(problemsOf("issuer: https://a.example.com").join("\n")).toMatch(/there are no routes/);
    expect(loadConfig("/nowhere/routes.yaml", {}).problems[0]?.message).toMatch(/cannot be read \(ENOENT\)/);
    const locked = configFile(good);
    chmodSync(locked, 0o600);
    expect(loadConfig(locked, {}).ok).toBe(true);
  });

  it("point to the anchor's value if an alias is invalid", () => {
    const file = `${top}x: &m {servr: {}}\nroutes:\n${route.replace("mcp: {}", "mcp: *m")}`;
    expect(
      problemsOf(file).some((problem) =>
        problem.startsWith('3:8 error routes[0].mcp.servr: unknown key "servr"'),
      ),
    ).toBe(true);
  });

  it("warn of a route without policy and of a file without a provider", () => {
    const bare =
      "issuer: https://a.example.com\nroutes:\n  - {from: https://h.example.com, to: http://x, mcp: {}}\n";
    expect(problemsOf(bare)).toEqual([
      expect.stringMatching(/warning sign_in: there is no OpenID provider/),
      expect.stringMatching(/warning routes\[0\]\.from: the route has no policy: it denies all requests/),
    ]);
  });

  it("need an issuer", () => {
    expect(problemsOf(`routes:\n${route}`)).toContainEqual(
      expect.stringMatching(/error issuer: issuer is missing/),
    );
  });
});

describe("the environment's database", () => {
  it("overrides the file's", () => {
    const loaded = loadConfig(configFile(`${good}database: {url: postgres://file}\n`), {
      DATABASE_URL: "postgres://env",
      DATABASE_LISTEN_URL: "postgres://listen",
    });
    expect(loaded.ok && loaded.config.database).toMatchObject({
      url: "postgres://env",
      listenUrl: "postgres://listen",
    });
  });

  const password = "pass/word";
  it.each([
    ["a slash in its password", `postgres://mcp:${password}@db:5432/mcp`],
    ["a slash after digits in its password", "postgres://mcp:12/3@db/mcp"],
    ["a number sign in its password", "postgres://mcp:12#3@db/mcp"],
    ["no scheme", "mcp:secret@db/mcp"],
  ])("is rejected with %s, without quoting it", (_, url) => {
    const fix = /DATABASE_URL.*not the URL of a Postgres server.*.*percent-encoded.*openssl rand -hex/s;
    const found = problemsOf(good, { DATABASE_URL: url }).filter((line) => line.includes("error"));
    expect(found).toEqual([expect.stringMatching(fix)]);
    expect(found[0]).not.toContain(url);
    expect(problemsOf(good, { DATABASE_URL: "", DATABASE_LISTEN_URL: url })).toContainEqual(
      expect.stringMatching(/error database\.listen_url: .*DATABASE_LISTEN_URL/),
    );
  });

  it.each([
    `postgres://mcp:${encodeURIComponent("a/b#?@%c")}@localhost:5432/mcp`,
    "postgresql://mcp@/mcp?host=/run/postgresql",
    "/run/postgresql mcp",
    "postgres:///mcp",
  ])("accepts %s", (url) => {
    expect(problemsOf(good, { DATABASE_URL: url })).toEqual([]);
  });
});

describe("the source of encryption keys", () => {
  const keys = (list: string) => `${good}encryption: {keys: [${list}]}\n`;
  const google = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

  it("may be a cloud key service", () => {
    const arn = "arn:aws:kms:eu-central-1:111122223333:key/k";
    const loaded = loadConfig(
      configFile(
        keys(
          `{kid: a, aws_kms: {key: "${arn}", endpoint: "https://kms.test/"}}, {kid: g, google_kms: {key: ${google}}}`,
        ),
      ),
      {},
    );
    expect(loaded.ok && loaded.config.encryption.keys).toEqual([
      { kid: "a", awsKms: { key: arn, endpoint: "https://kms.test" } },
      { kid: "g", googleKms: { key: google } },
    ]);
  });

  it("is exactly one per key, with a valid Google key name", () => {
    expect(problemsOf(keys(`{kid: a, env: A, google_kms: {key: ${google}}}`))).toEqual([
      expect.stringContaining("write exactly one of env, file, vault, aws_kms and google_kms"),
    ]);
    expect(problemsOf(keys(`{kid: g, google_kms: {key: ${google}/cryptoKeyVersions/1}}`))).toEqual([
      expect.stringContaining("write projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version"),
    ]);
  });
});
