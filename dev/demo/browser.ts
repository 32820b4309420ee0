import { type Browser, chromium } from "playwright-core";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";
import { oneAtATime } from "./one-at-a-time.ts";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/**
 * Headless Chromium: `$CHROME_BIN`, else one on PATH, else Debian's package, installed if running as root. It
 * trusts the server whose public key hashes to `publicKeyHash`; `resolve` maps hosts (`*.test`) to `host:port`.
 * @throws Error that says what to install, when there is no Chromium.
 */
export async function browser(options: {
  publicKeyHash: string;
  resolve?: Readonly<Record<string, string>>;
}): Promise<Browser> {
  const rules = Object.entries(options.resolve ?? {}).map(([host, target]) => `MAP ${host} ${target}`);
  return chromium.launch({
    executablePath: await chromiumBinary(),
    headless: true,
    args: [
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
      "--disable-quic",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--ignore-certificate-errors-spki-list=${options.publicKeyHash}`,
      ...(rules.length > 0 ? [`--host-resolver-rules=${rules.join(",")}`] : []),
    ],
  });
}

/** Path of Chromium, installed if necessary. @throws Error that says what to install */
export async function chromiumBinary(): Promise<string> {
  const given = process.env.CHROME_BIN;
  if (given) return given;
  // During an installation by another process, the file exists before it can run.
  await oneAtATime(import.meta.filename, "true");
  const [found] = executablesOnPath(...names);
  if (found) return found;
  const [apt] = executablesOnPath("apt-get");
  if (!apt || process.getuid?.() !== 0) {
    throw new Error("No Chromium: install the package chromium (or Google Chrome), or set CHROME_BIN.");
  }
  process.stderr.write("==> installing Chromium with apt-get (a minute or two, once)\n");
  const install = `${apt} update -qq && ${apt} install -y -qq --no-install-recommends chromium`;
  await oneAtATime(import.meta.filename, `command -v chromium >/dev/null || { ${install}; }`, {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
  const [installed] = executablesOnPath(...names);
  if (!installed) throw new Error("apt-get installed no Chromium: install Google Chrome, or set CHROME_BIN.");
  return installed;
}
