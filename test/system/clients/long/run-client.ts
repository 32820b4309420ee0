import { spawn } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { Person } from "./person.ts";

/** Variables that name additional CAs: Node's, and that of OpenSSL, Go and Rust. */
export type Trust = "NODE_EXTRA_CA_CERTS" | "SSL_CERT_FILE";

/** A third-party program, run like its user does, in a separate home folder. */
export interface ClientRunner {
  readonly home: string;
  /**
   * Runs a command until it ends or its output matches `until`; the user opens every authorization URL that it prints.
   * @param options.paste types the address where the browser ended, for clients without a callback server
   * @param options.input typed at once; without it standard input is closed, except for `paste`
   * @returns its output, without colors
   * @throws Error with its output if it fails, or does not end within two minutes
   */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<string>;
}

export interface RunOptions {
  readonly until?: RegExp;
  readonly paste?: boolean;
  /** In a terminal: some print nothing without one. */
  readonly terminal?: boolean;
  readonly input?: string;
  /** Texts to type into the terminal, each after its prompt has been printed. */
  readonly type?: readonly (readonly [after: RegExp, keys: string])[];
  readonly env?: Readonly<Record<string, string>>;
  /** Seconds; default 120. */
  readonly timeout?: number;
  /** A failure is expected. */
  readonly mayFail?: boolean;
}

/** The command runs in a separate terminal, wide enough not to break URLs. */
const terminal = [
  "python3",
  "-c",
  "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
  ...["sh", "-c", 'stty rows 50 cols 1000; exec "$@"', "sh"],
];

/**
 * @param folder for home folders
 * @param ca PEM file of the CA of the gateway's certificate
 * @param trust the variable that makes this client trust it
 */
export async function clientRunner(
  name: string,
  options: { readonly folder: string; readonly ca: string; readonly person: Person; readonly trust: Trust },
): Promise<ClientRunner> {
  const home = await mkdtemp(join(options.folder, `${name}-`));
  const { PATH, LANG, TERM } = process.env;
  const base = {
    PATH: `${options.person.bin}:${PATH}`,
    LANG: LANG ?? "C.UTF-8",
    TERM: TERM ?? "xterm-256color",
    HOME: home,
    // Without a display, some do not try to open a browser.
    DISPLAY: ":99",
    BROWSER: join(options.person.bin, "xdg-open"),
    [options.trust]: options.ca,
  };
  return {
    home,
    run(command, args, more = {}) {
      const line = [...(more.terminal ? terminal : []), command, ...args];
      const child = spawn(line[0] ?? command, line.slice(1), {
        cwd: home,
        env: { ...base, ...more.env },
        stdio: ["pipe", "pipe", "pipe"],
        // Launchers start the actual program as a child: all are ended together.
        detached: true,
      });
      const end = () => {
        try {
          if (child.pid) process.kill(-child.pid, "SIGKILL");
        } catch {}
      };
      let raw = "";
      const printed = () => stripVTControlCharacters(raw).replaceAll("\r", "");
      return new Promise((resolve, reject) => {
        const fail = (why: string) => {
          end();
          reject(
            new Error(`${command.split("/").at(-1)} ${args.join(" ")}: ${why}\n${printed().slice(-4000)}`),
          );
        };
        const seconds = more.timeout ?? 120;
        const timer = setTimeout(() => fail(`not done after ${seconds} s`), seconds * 1000);
        const keys = [...(more.type ?? [])];
        const pasted = new Set<string>();
        const read = (chunk: Buffer) => {
          raw += chunk;
          options.person.walkAll(raw).then(
            (at) => {
              if (!at || !more.paste || pasted.has(at.href)) return;
              pasted.add(at.href);
              child.stdin.write(`${at.href}\n`);
            },
            (error: unknown) => fail(String(error)),
          );
          if (keys[0]?.[0].test(printed())) {
            const [, text = ""] = keys.shift() ?? [];
            // A prompt is printed before it reads input.
            setTimeout(() => child.stdin.write(text), 4000);
          }
          if (!more.until?.test(printed())) return;
          clearTimeout(timer);
          resolve(printed());
          end();
        };
        child.stdout.on("data", read);
        child.stderr.on("data", read);
        child.stdin.on("error", () => {});
        child.once("error", (error) => fail(error.message));
        child.once("close", (code) => {
          clearTimeout(timer);
          if (code === 0 || more.mayFail) resolve(printed());
          else fail(`ended with ${code}`);
        });
        if (more.input !== undefined) child.stdin.write(more.input);
        if (!more.paste && !more.terminal && more.input === undefined) child.stdin.end();
      });
    },
  };
}
