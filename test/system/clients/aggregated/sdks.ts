import { listen } from "../../../../dev/demo/listen.ts";
import { clientProvider, type SignInState } from "../../conformance/sign-in-state.ts";
import { afterExpiry, callsInWords, expectText, expired, type Scenario, versions } from "../long/scenario.ts";
import type { World } from "../long/world.ts";
import { type Elicitation, loadSdk, type SdkClient } from "../typescript-sdk.ts";

/** The TypeScript SDK in both major versions, with everything that it can: resources, prompts and elicitations, too. */
export async function sdks(): Promise<readonly Scenario[]> {
  const second = await versions.npm("client-2.4", "package.json");
  return [
    {
      name: "TypeScript SDK, 2025-11-25",
      version: await versions.npm("sdk-1.32", "package.json"),
      steps: steps("sdk-1.32", "2025-11-25"),
    },
    { name: "TypeScript SDK, 2025-11-25", version: second, steps: steps("client-2.4", "2025-11-25") },
    {
      name: "TypeScript SDK, 2026-07-28",
      version: second,
      steps: steps("client-2.4", "2026-07-28", { versionNegotiation: { mode: "auto" } }),
    },
  ];
}

function steps(sdk: string, revision: string, options: object = {}): Scenario["steps"] {
  return async (world, worked) => {
    const { calls } = world.aggregated;
    const asked: Elicitation[] = [];
    world.person.skipsServers = true;
    const connect = await signIn(world, sdk, options, asked);
    world.person.skipsServers = false;
    worked("sign-in by registration");
    const client = await connect();
    const names = async () => (await client.listTools()).tools.map(({ name }) => name);
    const call = async (name: string, input: object = {}) =>
      JSON.stringify(await client.callTool({ name, arguments: input }));

    expectText((await names()).join(" "), /everything__connect\b/);
    await call("everything__connect");
    expectText(asked.at(-1)?.url ?? "no link", /\/mcp\/consent\//);
    worked("the server that was skipped at sign-in was connected by its tool");
    await world.use(client, world.aggregated);
    worked(callsInWords(world.aggregated));

    const uris = (await client.listResources()).resources.map(({ uri }) => uri);
    for (const uri of ["keyed+note://milk", uris.find((one) => one.startsWith("demo+")) ?? "demo+none"])
      expectText(JSON.stringify(await client.readResource({ uri })), new RegExp(uri.replace("+", "\\+")));
    const prompts = (await client.listPrompts()).prompts.map(({ name }) => name);
    expectText(prompts.join(" "), /\bdemo__simple-prompt\b/);
    expectText(JSON.stringify(await client.getPrompt({ name: "demo__simple-prompt" })), /prompt/);
    worked("resources and a prompt read");

    // FastMCP's own: its tools ask only in revisions before 2026-07-28.
    if (revision !== "2026-07-28") {
      expectText(await call("keyed__choose"), /accept blue/);
      expectText(asked.at(-1)?.message ?? "nothing", /^\[\S*keyed\] Which colour/);
    }
    await call("demo__trigger-elicitation-request");
    expectText(asked.at(-1)?.message ?? "nothing", /^\[\S*demo\] /);
    worked(`form elicitation of ${revision === "2026-07-28" ? "demo" : "keyed and demo"}`);

    await afterExpiry(world, () => world.use(client, { ...world.aggregated, calls }));
    worked(expired);

    await world.disconnect();
    expectText(await consenting(world, () => call("everything__whoami")), /ally/);
    worked("consent by URL elicitation in a call");
    await client.close();
  };
}

/** Runs a call; if it ends with the error of revision 2025-11-25 for it, the user opens the link first. */
async function consenting(world: World, call: () => Promise<string>): Promise<string> {
  try {
    return await call();
  } catch (error) {
    const { code, data } = Object(error);
    if (code !== -32_042) throw error;
    await world.person.walk(data.elicitations[0].url);
    return call();
  }
}

/** Signs the user in. @returns a function that connects with the token */
async function signIn(
  world: World,
  name: string,
  options: object,
  asked: Elicitation[],
): Promise<() => Promise<SdkClient>> {
  const { Client, StreamableHTTPClientTransport, elicitation } = await loadSdk(name, world.find);
  const memory: SignInState<unknown, { access_token: string }> = {};
  const callback = Promise.withResolvers<URLSearchParams>();
  const listener = await listen((request, response) => {
    const { searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
    if (searchParams.has("state")) callback.resolve(searchParams);
    response.end("done");
  });
  try {
    const transport = () =>
      new StreamableHTTPClientTransport(new URL(world.aggregated.url), {
        authProvider: clientProvider(memory, `${listener.url}/callback`),
        fetch: world.stack.fetch,
      });
    const capabilities = { elicitation: { form: {}, url: {} } };
    const first = transport();
    const denied = await new Client({ name, version: "1" }, options).connect(first).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!memory.location) throw new Error(`nobody was sent to a browser: ${String(denied)}`);
    await world.person.walk(memory.location.href);
    const params = await callback.promise;
    // The second major version requires the whole response, to check its issuer (RFC 9207).
    await first.finishAuth(name.startsWith("client-") ? params : (params.get("code") ?? ""));
    return async () => {
      const client = new Client({ name, version: "1" }, { ...options, capabilities });
      client.setRequestHandler(elicitation, async ({ params: question }) => {
        asked.push(question);
        if (question.url !== undefined) await world.person.walk(question.url);
        return { action: "accept", ...(question.url === undefined && { content: contentFor(question) }) };
      });
      await client.connect(transport());
      return client;
    };
  } finally {
    await listener.close();
  }
}

/** FastMCP asks for `value`, the reference server for a name and more. */
function contentFor({ requestedSchema }: Elicitation): object {
  const wanted = Object.keys(requestedSchema?.properties ?? {});
  return wanted.includes("value") ? { value: "blue" } : { name: "Alice" };
}
