import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

interface Transport {
  finishAuth(code: string | URLSearchParams): Promise<void>;
}
interface Listed {
  readonly tools: readonly { readonly name: string }[];
  readonly resources: readonly { readonly uri: string }[];
  readonly prompts: readonly { readonly name: string }[];
}
/** A client of either major version of the TypeScript SDK. */
export interface SdkClient {
  connect(transport: Transport): Promise<void>;
  callTool(call: object): Promise<unknown>;
  listTools(): Promise<Pick<Listed, "tools">>;
  listResources(): Promise<Pick<Listed, "resources">>;
  readResource(params: { uri: string }): Promise<unknown>;
  listPrompts(): Promise<Pick<Listed, "prompts">>;
  getPrompt(params: object): Promise<unknown>;
  /** The first major version takes a schema, the second a method. */
  setRequestHandler(method: unknown, handler: (request: { params: Elicitation }) => Promise<object>): void;
  close(): Promise<void>;
}
/** The parameters of `elicitation/create`. */
export interface Elicitation {
  readonly mode?: string;
  readonly message: string;
  readonly url?: string;
  readonly requestedSchema?: { readonly properties?: object };
}
export interface Sdk {
  readonly Client: new (who: object, options?: object) => SdkClient;
  readonly StreamableHTTPClientTransport: new (url: URL, options: object) => Transport;
  /** What `setRequestHandler` takes for `elicitation/create`. */
  readonly elicitation: unknown;
}

/**
 * Loads the installed SDK of this name from `package.json`: both major versions, whose classes are in different files.
 * @param find returns the path of an installed file
 */
export async function loadSdk(name: string, find: (specifier: string) => string): Promise<Sdk> {
  const from = async (path: string) => import(pathToFileURL(find(path)).href);
  if (name.startsWith("client-"))
    return { ...(await from(`${name}/${mainOf(name, find)}`)), elicitation: "elicitation/create" };
  const { ElicitRequestSchema: elicitation } = await from(`${name}/dist/esm/types.js`);
  return {
    ...(await from(`${name}/dist/esm/client/index.js`)),
    ...(await from(`${name}/dist/esm/client/streamableHttp.js`)),
    elicitation,
  };
}

function mainOf(name: string, find: (specifier: string) => string): string {
  const manifest = JSON.parse(readFileSync(find(`${name}/package.json`), "utf8"));
  const main = manifest.exports?.["."]?.import ?? manifest.main;
  return typeof main === "string" ? main : (main.default ?? main.node);
}
