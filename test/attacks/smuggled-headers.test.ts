import { readFile } from "node:fs/promises";
import { connect, createSecureServer, type Http2SecureServer, type IncomingHttpHeaders } from "node:http2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type RawRequest, throughEnvoy, throughEnvoyHttp2 } from "../support/through-envoy.ts";
import { identityHeaders } from "./identity-headers.ts";

const steering = [
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-max-retries",
  "x-envoy-retry-on",
  "x-envoy-force-trace",
  "x-envoy-internal",
  "x-envoy-external-address",
  "x-envoy-original-path",
];
const others = [
  "x-api-key",
  "x-anything",
  "forwarded",
  "via",
  "x-real-ip",
  "referer",
  "origin",
  "sec-fetch-site",
  "te",
];

describe("Headers that a client smuggles, through Envoy", () => {
  let stack: E2e;
  let upstream: Http2SecureServer;
  const seen: IncomingHttpHeaders[] = [];
  const trailers: IncomingHttpHeaders[] = [];
  let tokens: Record<"listed" | "more" | "host", string>;

  beforeAll(async () => {
    const port = await freePort();
    stack = await startE2e({
      names: ["listed.test", "more.test", "host.test"],
      config: (config) => {
        const route = (id: string, more: object, ofRoute: object = {}) => ({
          id,
          from: `https://${id}.test`,
          to: `https://127.0.0.1:${port}/mcp`,
          tls_upstream_server_name: `${id}.test`,
          mcp: { server: { upstream_auth: "none", ...more } },
          ...ofRoute,
        });
        const request_headers = { pass: ["X-Api-Key"], set: { "X-Region": "eu" } };
        config.routes.push(route("listed", {}), route("more", { request_headers }));
        config.routes.push(route("host", {}, { preserve_host_header: true }));
        return config;
      },
    });
    upstream = createSecureServer({
      cert: await readFile(stack.ca.files.certificate),
      key: await readFile(stack.ca.files.key),
    });
    upstream.on("stream", (stream, headers) => {
      seen.push(headers);
      stream.on("trailers", (sent) => trailers.push(sent));
      stream.resume();
      stream.once("end", () => {
        stream.respond({ ":status": 200, "content-type": "application/json" });
        stream.end("{}");
      });
    });
    await new Promise<void>((resolve) => upstream.listen(port, "127.0.0.1", resolve));
    tokens = { listed: await tokenFor("listed"), more: await tokenFor("more"), host: await tokenFor("host") };
  });
  afterAll(async () => {
    await stack?.close();
    upstream?.close();
  });

  async function tokenFor(id: string): Promise<string> {
    const client = await stack.client("alice", `https://${id}.test`);
    await client.connect().catch(() => {});
    const token = client.tokens()?.access_token;
    if (!token) throw new Error(`no token for ${id}`);
    return token;
  }
  /** The request as the upstream received it, over both versions of HTTP. */
  async function send(
    id: keyof typeof tokens,
    headers: RawRequest["headers"],
  ): Promise<IncomingHttpHeaders[]> {
    const request = {
      url: `https://${id}.test/`,
      method: "POST",
      headers: { authorization: `Bearer ${tokens[id]}`, "content-type": "application/json", ...headers },
      body: "{}",
    };
    const before = seen.length;
    expect((await throughEnvoy(stack, request)).status).toBe(200);
    expect((await throughEnvoyHttp2(stack, request)).status).toBe(200);
    expect(seen.length).toBe(before + 2);
    return seen.slice(before);
  }
  const named = (names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, name === "te" ? "trailers" : "1"]));

  it("passes none of the headers in which other proxies name a caller", async () => {
    const names = [...identityHeaders, ...steering, ...others];
    // The assertion is the gateway's, not the forged one.
    for (const got of await send("listed", named(names)))
      expect(names.filter((name) => got[name] === "1" || (name === "te" && got.te !== undefined))).toEqual(
        [],
      );
  });

  it("passes Origin if the upstream sees the client's host, and nothing else of these", async () => {
    const origin = "https://app.test";
    for (const got of await send("host", {
      ...named([...identityHeaders, ...steering, ...others]),
      origin,
    })) {
      expect([got[":authority"], got.origin]).toEqual(["host.test", origin]);
      expect(Object.keys(got).filter((name) => got[name] === "1")).toEqual([]);
      expect(got.te).toBeUndefined();
    }
    for (const got of await send("listed", { origin })) {
      expect(got[":authority"]).not.toBe("listed.test");
      expect(got.origin).toBeUndefined();
    }
  });

  it("passes what MCP, HTTP and tracing need", async () => {
    const needed = {
      accept: "application/json, text/event-stream",
      "accept-language": "de",
      "last-event-id": "7",
      "mcp-protocol-version": "2025-06-18",
      "mcp-session-id": "s-1",
      "mcp-param-region": "eu",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "user-agent": "client/1",
    };
    for (const got of await send("listed", needed)) {
      const { traceparent, ...rest } = needed;
      expect(got).toMatchObject({
        ...rest,
        "content-type": "application/json",
        "x-forwarded-proto": "https",
      });
      expect(got.traceparent).toContain(traceparent.slice(0, 35));
      expect(got["x-request-id"]).toBeTruthy();
    }
  });

  it("passes and sets the headers that the route names, and lets browsers send them", async () => {
    for (const got of await send("more", { "x-api-key": "mine", "x-region": "forged", "x-anything": "1" })) {
      expect(got).toMatchObject({ "x-api-key": "mine", "x-region": "eu" });
      expect(got["x-anything"]).toBeUndefined();
    }
    const preflight = await throughEnvoy(stack, {
      url: "https://more.test/",
      method: "OPTIONS",
      headers: {
        origin: "https://app.test",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, traceparent, x-anything, x-auth-user",
      },
    });
    const allowed = preflight.header("access-control-allow-headers")?.toLowerCase().split(", ") ?? [];
    expect(allowed).toEqual(expect.arrayContaining(["x-api-key", "traceparent", "mcp-session-id"]));
    expect(allowed).not.toContain("x-anything");
    expect(allowed).not.toContain("x-auth-user");
  });

  it("drops an unlisted UTF-8 header, and serves the request", async () => {
    // Node writes header values byte by byte.
    const city = Buffer.from("São Paulo").toString("latin1");
    const { status } = await throughEnvoy(stack, {
      url: "https://listed.test/",
      method: "POST",
      headers: {
        authorization: `Bearer ${tokens.listed}`,
        "content-type": "application/json",
        "cf-ipcity": city,
        "user-agent": city,
      },
      body: "{}",
    });
    expect(status).toBe(200);
    expect(seen.at(-1)).not.toHaveProperty("cf-ipcity");
    expect(seen.at(-1)).not.toHaveProperty("user-agent");
  });

  it("serves requests with any text in other headers, in UTF-8, Latin-1 or with an odd name, and passes none of it", async () => {
    const utf8 = (text: string) => Buffer.from(text).toString("latin1");
    const odd = {
      "cf-ipcity": "S\u00e3o Paulo",
      "x-forwarded-city": utf8("Zürich"),
      "content-disposition": `form-data; name="${utf8("файл")}"`,
      "sec-fetch-user": utf8("ü"),
      "accept-language": utf8("português"),
      "mcp-param-city": utf8("São Paulo"),
      cookie: `city=${utf8("à")}; other=\u00e3`,
      referer: utf8("https://app.test/é"),
      x_user_name: "plain",
      content_length: "7",
      "x-empty": "",
    };
    for (const got of await send("listed", odd))
      expect(Object.keys(odd).filter((name) => got[name] !== undefined)).toEqual([]);
  });

  it("denies non-ASCII text in headers that decisions depend on", async () => {
    const headers = { authorization: `Bearer ${tokens.listed}` };
    for (const name of ["content-type", "mcp-method", "mcp-session-id", "accept"]) {
      const sent = { ...headers, [name]: Buffer.from("é").toString("latin1") };
      const answer = await throughEnvoy(stack, { url: "https://listed.test/", headers: sent });
      expect(answer.status, name).toBe(400);
    }
  });

  it("lets a browser's script send exactly the headers that would pass, and always MCP's own", async () => {
    const ask = async (id: "listed" | "more", wanted: readonly string[]) => {
      const preflight = await throughEnvoy(stack, {
        url: `https://${id}.test/`,
        method: "OPTIONS",
        headers: {
          origin: "https://app.test",
          "access-control-request-method": "POST",
          "access-control-request-headers": wanted.join(","),
        },
      });
      expect(preflight.status).toBe(204);
      return preflight.header("access-control-allow-headers")?.toLowerCase().split(", ") ?? [];
    };
    const always = ["authorization", "content-type", "accept", "mcp-protocol-version", "mcp-session-id"];
    const tracing = ["traceparent", "tracestate", "baggage"];
    const params = Array.from({ length: 30 }, (_, index) => `mcp-param-p${index}`);
    const never = [
      "x-anything",
      "x-auth-user",
      "cookie",
      "origin",
      "x-pomerium-jwt-assertion",
      "x-envoy-retry-on",
    ];
    const steering = ["x-forwarded-for", "x-forwarded-proto", "host", "connection"];
    const listed = await ask("listed", [...tracing, ...params, ...never, ...steering, "x-api-key"]);
    expect(listed).toEqual(expect.arrayContaining([...always, ...tracing, ...params]));
    expect(listed.filter((name) => [...never, ...steering, "x-api-key", "*"].includes(name))).toEqual([]);
    const more = await ask("more", ["X-API-Key", "x-region"]);
    expect(more).toEqual(expect.arrayContaining([...always, "x-api-key"]));
    expect(more).not.toContain("x-region");
    expect(await ask("more", [])).toEqual(expect.arrayContaining(always));
  });

  it("passes no trailers", async () => {
    const session = connect(`https://127.0.0.1:${stack.envoyPort}`, {
      ca: stack.ca.ca,
      servername: "listed.test",
    });
    const before = seen.length;
    const stream = session.request(
      {
        ":method": "POST",
        ":path": "/",
        ":authority": "listed.test",
        authorization: `Bearer ${tokens.listed}`,
        "content-type": "application/json",
      },
      { waitForTrailers: true } as never,
    );
    stream.on("wantTrailers", () =>
      stream.sendTrailers({ "x-pomerium-jwt-assertion": "forged", "x-auth-user": "root", "x-checksum": "1" }),
    );
    const answered = new Promise<number>((resolve, reject) => {
      stream.once("response", (headers) => resolve(Number(headers[":status"])));
      stream.once("error", reject);
    });
    stream.end("{}");
    expect(await answered).toBe(200);
    session.destroy();
    expect(seen.length).toBe(before + 1);
    expect(trailers.flatMap((sent) => Object.keys(sent))).toEqual([]);
  });
});
