import type { ConnectionKey } from "../model/connection.ts";
import type { UpstreamDemand, UpstreamToken } from "../store/store.ts";
import type { Credential } from "./credential.ts";

/** What is known of one connection at one moment. */
export interface Connection {
  /** `connectionKeyName` of the key. */
  readonly name: string;
  readonly key: ConnectionKey;
  readonly token?: UpstreamToken;
  /** Made once, so that a warm check builds nothing. */
  readonly credential?: Extract<Credential, { kind: "credential" }>;
  readonly demand?: UpstreamDemand;
}
