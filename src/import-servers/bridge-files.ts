import { stringify } from "yaml";
import { fastmcpVersion } from "./bridge-program.ts";
import type { Placed } from "./routes-file.ts";

/** Variables of the bridge that its servers get, besides HOME, PATH and the like: where they find the network, and trust it. */
const passedVariables = [
  ...["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"],
  ...["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"],
  ...["LANG", "LC_ALL", "TZ", "TMPDIR"],
];

/**
 * `bridge.json`: the servers with their environment, and the token that callers must send. It contains secrets.
 * @param bridge address to listen on, `host:port`
 */
export function bridgeConfiguration(placed: readonly Placed[], bridge: string, token: string): string {
  const { host, port } = bridgeAddress(bridge);
  const servers = Object.fromEntries(
    placed.flatMap(({ id, server }) => {
      if (server.kind !== "stdio") return [];
      const { command, args, env, cwd } = server;
      return [[id, { command, args, env, ...(cwd !== undefined && { cwd }) }] as const];
    }),
  );
  const whole = {
    host,
    port,
    token,
    max_sessions: 32,
    max_sessions_per_user: 16,
    session_idle_seconds: 900,
    start_ahead: true,
    pass_environment: passedVariables,
    servers,
  };
  return `${JSON.stringify(whole, null, 2)}\n`;
}

/** @param bridge `host:port`, with a loopback host. @throws Error if it is not */
export function bridgeAddress(bridge: string): { readonly host: string; readonly port: number } {
  const match = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\]):(\d{1,5})$/.exec(bridge);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port < 1 || port > 65_535)
    throw new Error(
      `--bridge ${bridge} is not a loopback address with a port; write 127.0.0.1:8100. The bridge serves this machine only`,
    );
  return { host: match[1].replace(/^\[|\]$/g, ""), port };
}

/**
 * A systemd unit that keeps the bridge running.
 * @param folder absolute path of the written files
 */
export function systemdUnit(folder: string): string {
  return `# sudo useradd --system --create-home --home-dir /var/lib/mcp-bridge mcp-bridge
# sudo cp mcp-bridge.service /etc/systemd/system/ && sudo systemctl enable --now mcp-bridge
# The unit needs uv, and node for servers that npx starts, in the PATH below.
[Unit]
Description=stdio MCP servers for envoy-mcp-auth
Wants=network-online.target
After=network-online.target

[Service]
User=mcp-bridge
WorkingDirectory=/var/lib/mcp-bridge
Environment=HOME=/var/lib/mcp-bridge
Environment=PATH=/usr/local/bin:/usr/bin:/bin
# bridge.json can stay readable for root only.
LoadCredential=bridge.json:${systemdPath(`${folder}/bridge.json`)}
LoadCredential=bridge.py:${systemdPath(`${folder}/bridge.py`)}
ExecStart=/usr/bin/env uv run --script %d/bridge.py %d/bridge.json
Restart=always
RestartSec=2
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
`;
}

/** In a setting of systemd: a percent sign begins a specifier. */
function systemdPath(path: string): string {
  return path.replaceAll("%", "%%");
}

/**
 * A Compose file to add to the one with Envoy: the bridge, in Envoy's network namespace, so that its loopback address is Envoy's.
 * @param user `uid:gid` that owns bridge.json
 */
export function composeFile(user: string): string {
  const service = {
    build: {
      dockerfile_inline: [
        "FROM node:24-trixie-slim",
        "COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /uvx /usr/local/bin/",
        `RUN UV_PYTHON_INSTALL_DIR=/opt/python uv python install 3.13 && \\`,
        `    UV_PYTHON_INSTALL_DIR=/opt/python uv venv /opt/bridge --python 3.13 && \\`,
        `    VIRTUAL_ENV=/opt/bridge uv pip install fastmcp==${fastmcpVersion}`,
        "",
      ].join("\n"),
    },
    network_mode: "service:envoy",
    command: ["/opt/bridge/bin/python", "/bridge/bridge.py", "/bridge/bridge.json"],
    user,
    environment: { HOME: "/home/mcp", UV_PYTHON_INSTALL_DIR: "/opt/python" },
    volumes: ["./bridge.py:/bridge/bridge.py:ro", "./bridge.json:/bridge/bridge.json:ro"],
    // npx and uvx keep what they install there.
    tmpfs: ["/tmp", `/home/mcp:uid=${user.split(":")[0]},exec`],
    read_only: true,
    cap_drop: ["ALL"],
    security_opt: ["no-new-privileges:true"],
    init: true,
    restart: "unless-stopped",
  };
  return (
    "# The bridge beside Envoy: docker compose -f compose.yaml -f compose.bridge.yaml up -d --build\n" +
    "# Its user must be the owner of bridge.json. Servers see only the folders that are added to `volumes`.\n" +
    stringify({ services: { bridge: service } }, { lineWidth: 0 })
  );
}
