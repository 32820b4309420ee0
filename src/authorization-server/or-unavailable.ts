import { StoreUnavailable } from "../store/store-unavailable.ts";
import { temporarilyUnavailable } from "./temporarily-unavailable.ts";

/** Awaits work on the store inside oidc-provider; when the store does not answer, the client hears 503, not 500. */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StoreUnavailable) {
      throw temporarilyUnavailable("the service cannot reach its database; try again shortly", error);
    }
    throw error;
  }
}
