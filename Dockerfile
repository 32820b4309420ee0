# Built in two stages: the second has neither npm nor caches, and runs as an unprivileged user.
FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# The npm package `node` is for machines without Node.js; the image has its own.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && rm -rf node_modules/node node_modules/node-bin-* node_modules/.bin/node

FROM node:24.21.0-bookworm-slim
LABEL org.opencontainers.image.title="envoy-mcp-auth" \
      org.opencontainers.image.description="Envoy external-authorization and token-injection sidecar for MCP servers" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production ENVOY_MCP_AUTH_CONFIG=/etc/envoy-mcp-auth/routes.yaml
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json ./
COPY migrations ./migrations
COPY proto ./proto
COPY src ./src
# Needs no writable file system: state is in Postgres. The embedded database needs a volume at database.dir.
USER 65532:65532
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9090/readyz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# A small young generation: many short collections instead of few long ones (docs/performance.md).
ENTRYPOINT ["node", "--max-semi-space-size=4", "src/main.ts"]
CMD ["serve"]
