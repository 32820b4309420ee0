#!/usr/bin/env node
import { program } from "./cli/program.ts";

try {
  await program.parseAsync();
} catch (error) {
  // What an operator can fix says so in its message; a stack trace would bury it.
  process.stderr.write(`envoy-mcp-auth: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
