import { request } from "node:https";
import { text } from "node:stream/consumers";
import type { KubernetesObject } from "../../../deploy/manifests.ts";

/** What the API server answered to a request that it rejected. */
export class KubernetesRejection extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Requests to one API server. All but `ready` throw `KubernetesRejection` on an error status. */
export interface KubernetesClient {
  /** Whether `/readyz` answers 200. */
  ready(): Promise<boolean>;
  /** `GET` of a path: `/api/v1/namespaces/mcp/pods`. */
  get<T = KubernetesObject>(path: string): Promise<T>;
  /**
   * Server-side apply with strict validation: unknown and duplicate fields are rejected.
   * @param namespace of the object, if it names none
   * @returns the stored object, with the warnings of the server
   */
  apply(
    object: KubernetesObject,
    namespace?: string,
  ): Promise<{ object: KubernetesObject; warnings: string[] }>;
  /** Creates an object with strict validation. */
  create(
    object: KubernetesObject,
    namespace?: string,
    options?: { dryRun?: boolean },
  ): Promise<KubernetesObject>;
  /** A request to a subresource or with another method. */
  send<T = unknown>(method: string, path: string, body: unknown, contentType?: string): Promise<T>;
  /** The path of an object's collection. */
  collection(
    object: Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">,
    namespace?: string,
  ): Promise<string>;
}

interface ResourceList {
  readonly resources: readonly { name: string; kind: string; namespaced: boolean }[];
}

/** A client of the API server at `url`. @param ca PEM of the server's CA @param token bearer token */
export function kubernetesClient(server: { url: string; ca: string; token: string }): KubernetesClient {
  const send = async (method: string, path: string, body?: unknown, contentType = "application/json") => {
    const response = await call(server, method, path, body, contentType);
    if (response.status < 200 || response.status > 299)
      throw new KubernetesRejection(response.status, `${method} ${path}: ${messageOf(response.body)}`);
    return response;
  };
  const json = async <T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> =>
    JSON.parse((await send(method, path, body, contentType)).body);
  const collection: KubernetesClient["collection"] = async ({ apiVersion, kind, metadata }, namespace) => {
    const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const { resources } = await json<ResourceList>("GET", base);
    const found = resources.find((one) => one.kind === kind && !one.name.includes("/"));
    if (found === undefined) throw new KubernetesRejection(404, `no kind ${kind} in ${apiVersion}`);
    const space = metadata.namespace ?? namespace ?? "default";
    return `${base}${found.namespaced ? `/namespaces/${space}` : ""}/${found.name}`;
  };
  return {
    ready: () =>
      call(server, "GET", "/readyz").then(
        ({ status }) => status === 200,
        () => false,
      ),
    get: (path) => json("GET", path),
    send: (method, path, body, contentType) => json(method, path, body, contentType),
    collection,
    async apply(object, namespace) {
      const path = `${await collection(object, namespace)}/${object.metadata.name}`;
      const query = "fieldManager=test&fieldValidation=Strict&force=true";
      const { body, warnings } = await send(
        "PATCH",
        `${path}?${query}`,
        object,
        "application/apply-patch+yaml",
      );
      return { object: JSON.parse(body), warnings };
    },
    async create(object, namespace, { dryRun = false } = {}) {
      const query = `fieldValidation=Strict${dryRun ? "&dryRun=All" : ""}`;
      return json("POST", `${await collection(object, namespace)}?${query}`, object);
    },
  };
}

function call(
  { url, ca, token }: { url: string; ca: string; token: string },
  method: string,
  path: string,
  body?: unknown,
  contentType = "application/json",
): Promise<{ status: number; body: string; warnings: string[] }> {
  return new Promise((resolve, reject) => {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${token}`,
      // Node.js does not send the length of a DELETE's body by itself.
      ...(sent !== undefined && { "content-type": contentType, "content-length": Buffer.byteLength(sent) }),
    };
    const outgoing = request(new URL(path, url), { method, ca, headers, agent: false }, (response) => {
      const { warning = "" } = response.headersDistinct.warning ? response.headers : {};
      text(response).then(
        (received) =>
          resolve({
            status: response.statusCode ?? 0,
            body: received,
            warnings: [warning].flat().filter(Boolean),
          }),
        reject,
      );
    });
    outgoing.once("error", reject);
    outgoing.end(sent);
  });
}

function messageOf(body: string): string {
  try {
    return String(Object(JSON.parse(body)).message ?? body);
  } catch {
    return body;
  }
}
