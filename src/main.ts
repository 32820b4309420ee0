#!/usr/bin/env node
import { program } from "./cli/program.ts";

try {
  await program.parseAsync();
} catch (error) {
  // Errors that an operator can fix say so in their message; a stack trace would hide it.
  process.stderr.write(`envoy-mcp-auth: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
