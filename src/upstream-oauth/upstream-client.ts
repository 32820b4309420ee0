import type { ClientAuthMethod } from "../model/route.ts";
import type { ClientKey } from "./client-key.ts";

/** Who we are at an upstream's authorization server. */
export interface UpstreamClient {
  readonly clientId: string;
  readonly clientSecret?: string;
  /** `auto`: the routes file leaves it open and no metadata tells; Basic first, then the body. */
  readonly authMethod: ClientAuthMethod | "auto";
  /** The operator says so: no other way is tried. */
  readonly authMethodFixed?: boolean;
  /** Keeps, for every replica, the way that worked where another had been expected. */
  readonly keepAuthMethod?: (method: ClientAuthMethod) => Promise<void>;
  /** Unix ms, of a registration: another one may have the same client id. */
  readonly registeredAt?: number;
  readonly source: "configured" | "document" | "registered";
  /** For `private_key_jwt`: PKCS 8 or JWK text, and its JWS algorithm; else our own key signs. */
  readonly privateKey?: string;
  readonly signingAlg?: string;
  readonly ownKey: () => ClientKey;
  /** Where no issuer is known that an assertion could name: the token endpoint (RFC 7523 section 3). */
  readonly audience?: string;
}
