/** The version of FastMCP that the bridge runs on. `make stdio` tests it; the bridge uses one private name of it. */
export const fastmcpVersion = "4.2.3";

/**
 * The bridge: FastMCP's proxy, once per server, in one process. FastMCP has no configuration file for several separate endpoints
 * (`fastmcp run servers.json` merges all servers into one), hence a program. What it adds: a token, a process per MCP session,
 * sessions bound to their user and ended with an `initialize` that nobody waits for, 404 after a process has ended, a limit of processes, and
 * servers that are installed before the first session. It speaks the revisions with sessions only: with 2026-07-28,
 * which has none, each request would start a process.
 */
export const bridgeProgram = `# /// script
# requires-python = ">=3.10"
# dependencies = ["fastmcp==${fastmcpVersion}"]
# ///
"""Serves stdio MCP servers over streamable HTTP, at /servers/NAME/mcp. Written by \`envoy-mcp-auth import\`.

Usage: uv run --script bridge.py [bridge.json]
"""

import asyncio
import base64
import contextlib
import hmac
import json
import os
import pathlib
import sys
import time
import weakref

import uvicorn
from fastmcp import FastMCP
from fastmcp.client.transports import StdioTransport
from fastmcp.server.dependencies import get_context, get_http_headers
from fastmcp.server.middleware import Middleware
from fastmcp.server.providers.proxy import ProxyClient, ProxyMetadataMiddleware, ProxyProvider, ProxyTool, StatefulProxyClient
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

file = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("bridge.json")
config = json.loads(pathlib.Path(file).read_text())
expected = b"Bearer " + config["token"].encode()
# By session id. An entry is gone as soon as its session has ended.
clients = weakref.WeakValueDictionary()


class Process(StdioTransport):
    """A server's process, for one MCP session."""

    def __init__(self, name, server, running):
        self.name, self.running = name, running
        passed = {key: os.environ[key] for key in config["pass_environment"] if key in os.environ}
        super().__init__(
            server["command"],
            server["args"],
            env={**passed, **server["env"]},
            cwd=server.get("cwd"),
            keep_alive=False,
        )

    @contextlib.asynccontextmanager
    async def connect_session(self, **options):
        if len(self.running) >= config["max_sessions"]:
            raise RuntimeError(f"{self.name} has {len(self.running)} sessions, the most that bridge.json allows")
        self.running.add(self)
        try:
            async with super().connect_session(**options) as session:
                yield session
        finally:
            self.running.discard(self)


class OwnProcess(StatefulProxyClient):
    """Calls a server; each MCP session gets a client with a process of its own."""

    def __init__(self, name, server):
        self.make = (lambda running: lambda: Process(name, server, running))(set())
        # A client's roots are folders of its machine; servers would take them for folders of this one, and serve them.
        super().__init__(self.make(), roots=None)

    def new(self):
        client = super().new()
        client.transport = self.make()
        return client

    async def current(self):
        """The client of the session under way, connected: if the process does not start, the session does not, either."""
        client = self.new_stateful()
        session = get_context().session_id
        if session not in clients:
            client.person = person(get_http_headers(include_all=True).get("x-pomerium-jwt-assertion", ""))
            client.calls, client.used, client.starts, client.ended = 0, time.monotonic(), False, False
            clients[session] = client
        if not client.is_connected():
            # Before anything is awaited: sessions that begin at the same time count each other.
            client.starts = True
            try:
                await self.admit(client)
                await client.__aenter__()
            finally:
                client.starts = False
        return client

    async def admit(self, client):
        """Leaves processes for other users: ends the user's session that has been unused longest. Many clients never end theirs."""
        if client.person is None:
            return
        while True:
            running = [one for one in self._caches.values() if one is not client and (one.starts or one.is_connected())]
            mine = [one for one in running if one.person == client.person and not one.ended]
            if len(mine) < config["max_sessions_per_user"]:
                return
            unused = [one for one in mine if one.calls == 0 and not one.starts]
            if not unused:
                raise RuntimeError("this user has as many sessions of this server as bridge.json allows; all are in use")
            oldest = min(unused, key=lambda one: one.used)
            oldest.ended = True
            await oldest._disconnect(force=True)


class Forward(Middleware):
    """Calls tools without looking them up: a session's list of tools may differ from another's."""

    def __init__(self, client):
        self.client = client

    async def on_call_tool(self, context, call_next):
        tool = ProxyTool(self.client, name=context.message.name, parameters={})
        return await tool.run(context.message.arguments or {})


def person(assertion):
    """The user of a call, from the gateway's identity assertion. The token has authenticated the gateway, so its signature is not needed."""
    if not assertion:
        return None
    payload = assertion.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "==="))["sub"]


async def unheard(_):
    """Takes a response that nobody waits for."""


async def nothing():
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def start_ahead():
    """Starts each server once, and ends it: npx and uvx install it then, which may take longer than a client waits."""
    failed = []
    for name, server in config["servers"].items():
        say(f"starting {name}")
        try:
            await asyncio.wait_for(start(Process(name, server, set())), 600)
        except Exception as error:
            say(f"{name} cannot be started: {error!r}")
            failed.append(name)
    say(f"all servers but {', '.join(failed)} have started" if failed else "all servers have started")


def say(line):
    print(line, file=sys.stderr, flush=True)


async def start(process):
    async with ProxyClient(process, roots=None):
        pass


class Guard:
    """Admits only Envoy, which sends the token, and only its own user to a session.

    Ends the session of a process that has ended: the client then begins another.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            refusal = self.refusal(headers)
            # Of several, this would check one, and FastMCP serve another.
            if [name for name, _ in scope["headers"]].count(b"mcp-session-id") > 1:
                refusal = refusal or (400, -32600, "Bad Request: several Mcp-Session-Id headers")
            session = headers.get(b"mcp-session-id", b"").decode("latin-1")
            client = clients.get(session) if refusal is None else None
            if client is not None:
                if client.person != person(headers.get(b"x-pomerium-jwt-assertion", b"").decode("latin-1")):
                    refusal = (404, -32001, "Session not found")
                elif client.ended or client.transport._is_session_dead():
                    del clients[session]
                    await self.app({**scope, "method": "DELETE"}, receive, unheard)
                    refusal = (404, -32001, "Session not found: the server's process has ended")
            if refusal is not None:
                status, code, message = refusal
                error = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
                return await JSONResponse(error, status)(scope, receive, send)
            if session == "":
                return await self.begin(scope, receive, send)
            if client is not None and scope["method"] == "POST":
                client.calls += 1
                try:
                    return await self.app(scope, receive, send)
                finally:
                    client.calls, client.used = client.calls - 1, time.monotonic()
            # A stream must not keep the entry of a session that has ended.
            client = None
        await self.app(scope, receive, send)

    async def begin(self, scope, receive, send):
        """Ends the session of a client that has disconnected before it was answered: it knows no id, and nobody would use the session."""
        session, answered, gone = None, False, False

        async def heard():
            nonlocal gone
            message = await receive()
            gone = gone or (message["type"] == "http.disconnect" and not answered)
            return message

        async def note(message):
            nonlocal session, answered
            if message["type"] == "http.response.start":
                session = dict(message["headers"]).get(b"mcp-session-id")
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            # A copy: the router changes it.
            await self.app(dict(scope), heard, note)
        finally:
            if session is not None and gone:
                headers = [*scope["headers"], (b"mcp-session-id", session)]
                ended = {**scope, "method": "DELETE", "headers": headers}
                await asyncio.shield(self.app(ended, nothing, unheard))

    def refusal(self, headers):
        if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
            return (401, -32001, "Unauthorized: only the gateway may call this server")
        version = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
        if version and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            supported = ", ".join(HANDSHAKE_PROTOCOL_VERSIONS)
            return (400, -32000, f"Bad Request: Unsupported protocol version (supported versions: {supported})")
        return None


def endpoint(name, server):
    client = OwnProcess(name, server).current
    provider = ProxyProvider(client, cache_ttl=0)
    proxy = FastMCP(name, providers=[provider], middleware=[ProxyMetadataMiddleware(provider), Forward(client)])
    proxy.provider_error_strategy = "raise"
    return proxy.http_app(path="/mcp", session_idle_timeout=config["session_idle_seconds"])


apps = {name: endpoint(name, server) for name, server in config["servers"].items()}


@contextlib.asynccontextmanager
async def lifespan(_):
    async with contextlib.AsyncExitStack() as stack:
        for app in apps.values():
            await stack.enter_async_context(app.lifespan(app))
        ahead = asyncio.create_task(start_ahead()) if config["start_ahead"] else None
        yield
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait([ahead])


if __name__ == "__main__":
    mounts = [Mount(f"/servers/{name}", app=app) for name, app in apps.items()]
    uvicorn.run(
        Guard(Starlette(routes=mounts, lifespan=lifespan)),
        host=config["host"],
        port=config["port"],
        log_level="warning",
        # Envoy keeps idle connections for an hour; the bridge must not close one that Envoy is about to use.
        timeout_keep_alive=7200,
        # Event streams never end by themselves.
        timeout_graceful_shutdown=2,
    )
`;
