/** Where Linux distributions keep the certification authorities that everybody trusts: `envoy.upstream_ca`, if nothing is said. */
export const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";
