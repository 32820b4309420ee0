import { spawn } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { Person } from "./person.ts";

/** Variables that name more authorities to trust: Node's, and that of OpenSSL, Go and Rust. */
export type Trust = "NODE_EXTRA_CA_CERTS" | "SSL_CERT_FILE";

/** Another project's program, run as its user runs it: in a home folder of its own. */
export interface ClientRunner {
  readonly home: string;
  /**
   * Runs a command until it ends or printed what `until` matches; the person walks every authorization URL it prints.
   * @param options.paste types the address where the browser ended, as clients without a callback server want it
   * @param options.input what is typed at once; without it standard input is closed, except for `paste`
   * @returns all it printed, without colours
   * @throws Error with what it printed, when it failed, or did not end within two minutes
   */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<string>;
}

export interface RunOptions {
  readonly until?: RegExp;
  readonly paste?: boolean;
  /** In a terminal: some say nothing without one. */
  readonly terminal?: boolean;
  readonly input?: string;
  /** What is typed into the terminal, each once what comes before it has been printed. */
  readonly type?: readonly (readonly [after: RegExp, keys: string])[];
  readonly env?: Readonly<Record<string, string>>;
  /** Seconds; default 120. */
  readonly timeout?: number;
  /** Where a failure is part of what is shown. */
  readonly mayFail?: boolean;
}

/** What follows runs in a terminal of its own; wide, so that no address is broken. */
const terminal = [
  "python3",
  "-c",
  "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
  ...["sh", "-c", 'stty rows 50 cols 1000; exec "$@"', "sh"],
];

/**
 * @param folder where home folders are made
 * @param ca PEM file of the authority that signed the gateway's certificate
 * @param trust the variable by which this client trusts it
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
    // Without a display some do not even try to open a browser.
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
        // Launchers start the program proper as a child: all of them are ended together.
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
            // A prompt is painted before it listens.
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
