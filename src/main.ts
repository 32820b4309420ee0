#!/usr/bin/env node
// Imports nothing at once: what the program imports does not load on an older Node.js.
const newestUnsupported = 23;

if (Number.parseInt(process.versions.node, 10) <= newestUnsupported) {
  process.stderr.write(
    `envoy-mcp-auth: Node.js ${newestUnsupported + 1} or newer is required, and this is ${process.versions.node} (${process.execPath}); ` +
      "install a newer one (https://nodejs.org), or use the executable, which brings its own\n",
  );
  process.exit(1);
}

try {
  // First of all: the restart loads everything again.
  if (process.argv[2] === "serve") (await import("./workers/heap-shape.ts")).restartWithHeapFlags();
  const { program } = await import("./cli/program.ts");
  await program.parseAsync();
} catch (error) {
  // Errors that an operator can fix say so in their message; a stack trace would hide it.
  process.stderr.write(`envoy-mcp-auth: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

export {};
