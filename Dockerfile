# Built in two stages: the first makes the executable (npm run build:executable), the second adds only what it needs to run. No shell, no
# package manager, no npm. docs/installation.md describes building, pushing and pinning.
FROM node:24.21.0-trixie-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# Packages whose scripts would run here are for development only.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json LICENSE README.md CHANGELOG.md ./
COPY dev/release ./dev/release
COPY proto ./proto
COPY migrations ./migrations
COPY src ./src
RUN npm run build:executable -- --into /opt/envoy-mcp-auth

# Debian's C and C++ libraries, certificates and time zones; user 65532 is its "nonroot". Its tags always move: the digest pins it.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:54df941ed0d06a1bd95ef5e0ce391fd8d9f94b64782dc9a60062727849ee3f97
LABEL org.opencontainers.image.title="envoy-mcp-auth" \
      org.opencontainers.image.description="Envoy external-authorization and token-injection sidecar for MCP servers" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/envoy-mcp-auth /opt/envoy-mcp-auth
ENV NODE_ENV=production ENVOY_MCP_AUTH_CONFIG=/etc/envoy-mcp-auth/routes.yaml PATH=/opt/envoy-mcp-auth/bin:/usr/bin:/bin
# Needs no writable file system: state is in Postgres. The embedded database needs a volume at database.dir.
USER 65532:65532
EXPOSE 50051 8080 9090
# The private port, or the public one: with listen.admin_tls, the private one answers https only.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["/opt/envoy-mcp-auth/lib/node", "-e", "const ready = async (port) => { if (!(await fetch('http://127.0.0.1:' + port + '/readyz')).ok) throw port; }; Promise.any([9090, 8080].map(ready)).then(() => process.exit(0), () => process.exit(1))"]
ENTRYPOINT ["envoy-mcp-auth"]
CMD ["serve"]
