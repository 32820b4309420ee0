import type { Reporter } from "./reporter.ts";

/** How a documented but unsupported key of Pomerium is handled. */
export interface PomeriumKey {
  /** `warn`: ignoring it is harmless. `error`: ignoring it would allow, deny or break something. */
  readonly verdict: "warn" | "error";
  readonly why: string;
  readonly fix: string;
}

const warn = (why: string, fix = "remove the line"): PomeriumKey => ({ verdict: "warn", why, fix });
const error = (why: string, fix: string): PomeriumKey => ({ verdict: "error", why, fix });
const each = (keys: string, key: PomeriumKey) =>
  Object.fromEntries(keys.split(/\s+/).map((name) => [name, key]));

const envoyOwn = warn("it is a setting of Envoy", "set it in Envoy, or remove the line");
const trustedIssuers = error(
  "tokens of other issuers are accepted only if each issuer is listed",
  "use external_tokens.trusted_issuers",
);
const rewriting = error(
  "only the path of `to` rewrites the path",
  "put the path into `to`: it replaces the path of `from`",
);
const notMcp = error("only MCP routes are supported", "keep this route in your other proxy");

/** Pomerium's documented keys, to report which settings of an existing file are not supported. */
export const pomeriumKeys: Readonly<Record<"global" | "route", Readonly<Record<string, PomeriumKey>>>> = {
  global: {
    ...each(
      "address certificates certificate certificate_key certificate_file certificate_key_file",
      warn("Envoy's listener is configured under envoy", "use envoy.listen and envoy.tls"),
    ),
    ...each(
      "proxy_log_level http_redirect_addr codec_type timeout_read timeout_write timeout_idle default_upstream_timeout skip_xff_append circuit_breaker_thresholds set_response_headers envoy_admin_address envoy_admin_access_log_path envoy_admin_profile_path envoy_bind_config_source_address envoy_bind_config_freebind dns_lookup_family dns_failure_refresh_rate dns_query_timeout dns_query_tries dns_refresh_rate dns_resolvers dns_udp_max_queries dns_use_tcp http3_advertise_port",
      envoyOwn,
    ),
    ...each(
      "services shared_secret shared_secret_file grpc_address grpc_insecure grpc_client_timeout authorize_service_url authorize_service_urls authorize_internal_service_url authenticate_internal_service_url authenticate_callback_path override_certificate_name certificate_authority certificate_authority_file tls_derive installation_id runtime_flags blob_storage google_cloud_serverless_authentication_service_account",
      warn("all components run in one process"),
    ),
    ...each(
      "databroker_service_url databroker_service_urls databroker_internal_service_url databroker_storage_type databroker_storage_connection_string databroker_storage_connection_string_file databroker_cluster_leader_id databroker_cluster_node_id databroker_cluster_nodes databroker_raft_bind_address databroker_storage_ca_file databroker_storage_cert_file databroker_storage_key_file databroker_storage_tls_skip_verify",
      warn("state is stored in Postgres", "use database.url or DATABASE_URL"),
    ),
    ...each(
      "cookie_name cookie_secret cookie_secret_file cookie_domain cookie_http_only cookie_same_site",
      warn("cookies are always host-only, Secure and HttpOnly"),
    ),
    ...each(
      "signing_key signing_key_file",
      warn(
        "signing keys are created and rotated automatically; the public keys are at /.well-known/pomerium/jwks.json",
      ),
    ),
    ...each(
      "metrics_address metrics_basic_auth metrics_certificate metrics_certificate_file metrics_certificate_key metrics_certificate_key_file metrics_client_ca metrics_client_ca_file health_check_addr health_check_systemd_disabled debug_address",
      warn("health and metrics are served on the admin listener", "use listen.admin"),
    ),
    ...each(
      "access_log_fields authorize_log_fields tracing_provider tracing_sample_rate tracing_datadog_address tracing_jaeger_collector_endpoint tracing_jaeger_agent_endpoint tracing_zipkin_endpoint otel_traces_exporter otel_traces_sampler_arg otel_resource_attributes otel_log_level otel_attribute_value_length_limit otel_exporter_otlp_endpoint otel_exporter_otlp_traces_endpoint otel_exporter_otlp_protocol otel_exporter_otlp_traces_protocol otel_exporter_otlp_headers otel_exporter_otlp_traces_headers otel_exporter_otlp_timeout otel_exporter_otlp_traces_timeout otel_bsp_schedule_delay otel_bsp_max_export_batch_size",
      warn("logs and traces have a fixed format; OpenTelemetry reads its own OTEL_ variables"),
    ),
    ...each(
      "autocert autocert_ca autocert_ca_key_pair_id autocert_email autocert_use_staging autocert_eab_key_id autocert_eab_mac_key autocert_must_staple autocert_dir autocert_trusted_ca autocert_trusted_ca_file",
      warn(
        "the gateway does not obtain certificates",
        "obtain them with cert-manager or certbot and name them in envoy.tls",
      ),
    ),
    ...each(
      "ssh_address ssh_host_key_files ssh_host_keys ssh_user_ca_key ssh_user_ca_key_file ssh_rls_enabled ssh_rls_additional_entries",
      warn("SSH is not supported"),
    ),
    ...each(
      "primary_color secondary_color darkmode_primary_color darkmode_secondary_color logo_url favicon_url error_message_first_paragraph",
      warn("the look of the pages is fixed"),
    ),
    ...each(
      "signout_redirect_url programmatic_redirect_domain_whitelist idp_refresh_directory_interval idp_refresh_directory_timeout",
      warn("the feature is not supported"),
    ),
    insecure_server: error(
      "tokens would be accepted over plain HTTP",
      "remove the line; give Envoy a certificate in envoy.tls",
    ),
    ...each(
      "downstream_mtls client_ca client_ca_file client_crl client_crl_file",
      error(
        "it restricts who may connect, which is a setting of Envoy",
        "set require_client_certificate in Envoy, then remove the line",
      ),
    ),
    ...each(
      "jwt_groups_filter jwt_groups_filter_infer_from_ppl",
      error(
        "it hides groups from upstreams, and all groups are passed",
        "set pass_identity_headers: false, or list the groups to pass in identity_assertion.groups",
      ),
    ),
    jwt_issuer_format: error(
      "assertions always name the bare host as issuer",
      "make the upstream expect the host name, then remove the line",
    ),
    ...each("bearer_token_format idp_access_token_allowed_audiences identity_providers", trustedIssuers),
    policy_file: error("the routes in that file would be lost", "move them to routes in this file"),
    use_proxy_protocol: error(
      "the listener could not parse its connections",
      "add Envoy's proxy_protocol listener filter, then remove the line",
    ),
  },
  route: {
    allow_public_unauthenticated_access: error(
      "it would allow requests without a token",
      "remove the line; `policy: {allow: {or: [{accept: true}]}}` allows every signed-in user",
    ),
    ...each(
      "timeout idle_timeout allow_websockets allow_spdy allow_upgrades outlier_detection health_checks healthy_panic_threshold circuit_breaker_thresholds load_balancing_policy stat_name cluster_name session_recording regex_priority_order",
      envoyOwn,
    ),
    ...each(
      "set_response_headers rewrite_response_headers",
      warn("responses pass unchanged", "set the header in the upstream or in Envoy"),
    ),
    cors_allow_preflight: warn("preflight requests are always answered"),
    show_error_details: warn("errors always include a reason and a request id"),
    depends_on: warn("sign-in covers every route host"),
    ...each("regex path", error("routes are matched by host and path prefix", "use a path in `from`")),
    ...each(
      "regex_rewrite_pattern regex_rewrite_substitution host_path_regex_rewrite_pattern host_path_regex_rewrite_substitution host_rewrite_header",
      rewriting,
    ),
    host_rewrite: error(
      "the upstream sees the host of `to`",
      "name that host in `to`, or set preserve_host_header: true",
    ),
    ...each("redirect response upstream_tunnel", notMcp),
    ...each(
      "set_request_headers kubernetes_service_account_token kubernetes_service_account_token_file",
      error(
        "headers for the upstream are treated as credentials",
        "use mcp.server.upstream_auth: {headers: {...}}",
      ),
    ),
    remove_request_headers: error(
      "the upstream would get headers that must be removed",
      "remove them in Envoy (request_headers_to_remove), then remove the line",
    ),
    enable_google_cloud_serverless_authentication: error(
      "the upstream would get no Google identity",
      "use mcp.server.upstream_auth: {client_credentials: {...}} or a proxy in front of the upstream",
    ),
    tls_skip_verify: error("anyone could impersonate the upstream", "name its CA in tls_custom_ca_file"),
    tls_custom_ca: error(
      "certificates are read from files",
      "write it to a file and name the file in tls_custom_ca_file",
    ),
    ...each(
      "tls_client_cert tls_client_key tls_client_cert_file tls_client_key_file",
      error(
        "Envoy would send the upstream no client certificate",
        "add it to the upstream's cluster in Envoy, then remove the line",
      ),
    ),
    ...each(
      "tls_downstream_client_ca tls_downstream_client_ca_file",
      error(
        "it restricts who may connect, which is a setting of Envoy",
        "set require_client_certificate in Envoy, then remove the line",
      ),
    ),
    tls_downstream_server_name: error("one certificate is served per host", "use the host of `from`"),
    tls_upstream_allow_renegotiation: warn("renegotiation is never allowed"),
    ...each(
      "idp_client_id idp_client_secret",
      error(
        "users sign in at the providers of sign_in, on every route",
        "add the provider to sign_in.providers and check its users in policy",
      ),
    ),
    ...each("idp_access_token_allowed_audiences identity_providers bearer_token_format", trustedIssuers),
    ...each(
      "jwt_groups_filter jwt_groups_filter_infer_from_ppl",
      error(
        "it hides groups from the upstream, and all groups are passed",
        "set pass_identity_headers: false, or list the groups to pass in identity_assertion.groups",
      ),
    ),
    jwt_issuer_format: error(
      "assertions always name the bare host as issuer",
      "make the upstream expect the host name, then remove the line",
    ),
    ...each(
      "sub_policies policies ppl_policies policy_ids rego",
      error("it restricts who may use the route", "write the rules under policy"),
    ),
    allowed_groups: error(
      "it restricts who may use the route",
      "use policy: {allow: {or: [{groups: {has: GROUP}}]}}",
    ),
  },
};

/** Reports and removes the unsupported Pomerium keys of `entry` (at `path`). */
export function dropPomeriumKeys(
  level: "global" | "route",
  entry: Readonly<Record<string, unknown>>,
  path: readonly (string | number)[],
  reporter: Reporter,
): Record<string, unknown> {
  // A key may be named `__proto__`: assigned to an object, it would add what it contains.
  const kept = new Map<string, unknown>();
  for (const [key, value] of Object.entries(entry)) {
    const known = Object.hasOwn(pomeriumKeys[level], key) ? pomeriumKeys[level][key] : undefined;
    // A disabled switch has no effect.
    const off = value === false || value === null;
    if (known === undefined) kept.set(key, value);
    else if (known.verdict === "warn" || off) {
      reporter.warn([...path, key], `${key} has no effect: ${known.why}`, known.fix, "key");
    } else reporter.error([...path, key], `${key} is not supported: ${known.why}`, known.fix, "key");
  }
  return Object.fromEntries(kept);
}

/** Pomerium's supported global keys, and their equivalents. */
const aliases: readonly (readonly [from: string, to: readonly [string] | readonly [string, string]])[] = [
  ["authenticate_service_url", ["issuer"]],
  ["mcp_allowed_client_id_domains", ["authorization_server", "allowed_client_id_domains"]],
  ["mcp_allowed_as_metadata_domains", ["upstream_oauth", "allowed_as_metadata_domains"]],
  ["log_level", ["log", "level"]],
  ["cookie_expire", ["sign_in", "session_ttl"]],
  ["xff_num_trusted_hops", ["envoy", "xff_num_trusted_hops"]],
];

/**
 * Converts the top level of a Pomerium file: aliases are moved, the single identity provider becomes `sign_in.providers[0]`, and
 * unsupported keys are reported and dropped. Problems still refer to the keys as written.
 */
export function adoptPomeriumKeys(
  file: Readonly<Record<string, unknown>>,
  reporter: Reporter,
): Record<string, unknown> {
  const adopted: Record<string, unknown> = { ...file };
  for (const [from, to] of aliases) {
    if (!(from in adopted)) continue;
    const value = adopted[from];
    delete adopted[from];
    const [top, key] = to;
    const section = adopted[top];
    const taken = key === undefined ? section !== undefined : isMapping(section) && key in section;
    if (taken) {
      reporter.error(
        [from],
        `${from} and ${to.join(".")} are the same setting`,
        `keep ${to.join(".")}`,
        "key",
      );
      continue;
    }
    reporter.moved([from], to);
    adopted[top] = key === undefined ? value : { ...(isMapping(section) ? section : {}), [key]: value };
  }
  adoptIdentityProvider(adopted, reporter);
  return dropPomeriumKeys("global", adopted, [], reporter);
}

function adoptIdentityProvider(adopted: Record<string, unknown>, reporter: Reporter): void {
  const names = [
    "idp_provider",
    "idp_provider_url",
    "idp_client_id",
    "idp_client_secret",
    "idp_client_secret_file",
    "idp_scopes",
    "idp_request_params",
  ];
  const given = names.filter((name) => name in adopted);
  const [first] = given;
  if (first === undefined) return;
  const value = Object.fromEntries(given.map((name) => [name, adopted[name]]));
  for (const name of given) delete adopted[name];
  const signIn = adopted.sign_in;
  if (isMapping(signIn) && "providers" in signIn) {
    reporter.error(
      [first],
      "idp_* and sign_in.providers both configure providers",
      "keep sign_in.providers",
      "key",
    );
    return;
  }
  const kind = typeof value.idp_provider === "string" ? value.idp_provider : "oidc";
  const issuer = value.idp_provider_url ?? (kind === "google" ? "https://accounts.google.com" : undefined);
  if (issuer === undefined || kind === "github") {
    reporter.error(
      [first],
      `idp_provider ${kind} ${kind === "github" ? "is not an OpenID provider" : "needs idp_provider_url"}`,
      "name an OpenID provider under sign_in.providers",
      "key",
    );
    return;
  }
  const secret =
    value.idp_client_secret ??
    (typeof value.idp_client_secret_file === "string" ? `file:${value.idp_client_secret_file}` : undefined);
  const at = ["sign_in", "providers", 0] as const;
  reporter.moved([value.idp_provider_url === undefined ? first : "idp_provider_url"], [...at, "issuer"]);
  reporter.moved(["idp_client_id" in value ? "idp_client_id" : first], [...at, "client_id"]);
  reporter.moved(
    ["idp_client_secret" in value ? "idp_client_secret" : "idp_client_secret_file"],
    [...at, "client_secret"],
  );
  reporter.moved(["idp_scopes"], [...at, "scopes"]);
  reporter.moved(["idp_request_params"], [...at, "authorization_url_params"]);
  reporter.moved([first], at);
  const provider = {
    id: kind,
    issuer,
    client_id: value.idp_client_id,
    ...(secret === undefined ? {} : { client_secret: secret }),
    ...(value.idp_scopes === undefined ? {} : { scopes: value.idp_scopes }),
    ...(value.idp_request_params === undefined ? {} : { authorization_url_params: value.idp_request_params }),
  };
  adopted.sign_in = { ...(isMapping(signIn) ? signIn : {}), providers: [provider] };
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
