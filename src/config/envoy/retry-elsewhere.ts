import type { Json } from "./json.ts";
import { typeUrl } from "./type-url.ts";

/** For a retry policy: another host than those that failed already, as long as there is one. */
export const retryElsewhere: { readonly [key: string]: Json } = {
  retry_host_predicate: [
    {
      name: "envoy.retry_host_predicates.previous_hosts",
      typed_config: { "@type": typeUrl("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate") },
    },
  ],
  host_selection_retry_max_attempts: 5,
};
