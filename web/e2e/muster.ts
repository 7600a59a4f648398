// The server under test: `muster dev` as a child process, stopped by its pid.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const binary = resolve(import.meta.dirname, "..", process.env.MUSTER_BIN ?? "../bin/muster");
const startMs = 60_000; // a cold database on two busy cores
export const stopMs = 10_000;

interface Ready {
  http: string;
  regions: { name: string; nodes: { id: string; http: string }[] }[];
}

export class Muster {
  readonly data = mkdtempSync(join(tmpdir(), "muster-e2e-"));
  #child: ChildProcess | undefined;
  #log: string[] = [];
  #family = new Map<number, string>(); // every process it ever had, by pid
  #port = 0;
  ready!: Ready;

  /** The address of the page; the same after a restart. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const file = join(this.data, "ready.json");
    rmSync(file, { force: true }); // a killed run leaves it
    const child = spawn(
      binary,
      [
        "dev",
        ...["--http", `127.0.0.1:${this.#port}`, "--admin", "127.0.0.1:0"],
        ...["--data", join(this.data, "data"), "--ready-file", file, "--demo=false", "--database-survives-region"],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (b: Buffer) => this.#log.push(b.toString()));
    let failed: Error | undefined;
    child.on("error", (e) => (failed = e));
    await eventually(
      () => {
        if (failed) throw failed;
        if (child.exitCode !== null) throw new Error(`muster ended with ${child.exitCode}\n${this.log()}`);
        return existsSync(file);
      },
      startMs,
      () => `no ready file\n${this.log()}`,
    );
    this.ready = JSON.parse(readFileSync(file, "utf8")) as Ready;
    this.#port = Number(/:(\d+)\/?$/.exec(this.ready.http)?.[1]);
    this.#remember();
  }

  /** What the console reads and does: /ctl/PATH. */
  async ctl<T>(path: string, method = "GET"): Promise<T> {
    const r = await fetch(`${this.url}/ctl/${path}`, { method });
    if (!r.ok) throw new Error(`/ctl/${path}: ${r.status} ${await r.text()}`);
    return (await r.json()) as T;
  }

  /** A request to the HTTP API. */
  async api<T>(path: string, body: unknown, token?: string): Promise<T> {
    const r = await fetch(`${this.url}/api/v1${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    });
    if (!r.ok) throw new Error(`${path}: ${r.status} ${await r.text()}`);
    return (await r.json()) as T;
  }

  /** SIGTERM; resolves with how many milliseconds it took to end. */
  async stop(): Promise<number> {
    this.#remember();
    const began = Date.now();
    await this.#end("SIGTERM", stopMs);
    return Date.now() - began;
  }

  /** SIGKILL: no chance to say or write anything. */
  async kill(): Promise<void> {
    this.#remember();
    await this.#end("SIGKILL", stopMs);
  }

  /** The processes that it started and that still run. */
  survivors(): string[] {
    return [...this.#family].filter(([pid, born]) => birth(pid) === born).map(([pid]) => `${pid} ${commandLine(pid)}`);
  }

  /** Ends what a failed test left behind, and removes the data. */
  cleanUp(): void {
    if (this.#child?.exitCode === null) this.#child.kill("SIGKILL");
    for (const [pid, born] of this.#family) if (birth(pid) === born) process.kill(pid, "SIGKILL");
    rmSync(this.data, { recursive: true, force: true });
  }

  log(): string {
    return this.#log.join("").split("\n").slice(-40).join("\n");
  }

  async #end(signal: NodeJS.Signals, ms: number): Promise<void> {
    const child = this.#child!;
    child.kill(signal);
    await eventually(
      () => child.exitCode !== null || child.signalCode !== null,
      ms,
      () => `muster still runs ${ms} ms after ${signal}\n${this.log()}`,
    );
  }

  #remember(): void {
    const parents = new Map<number, number>();
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      const parent = pid > 0 ? stat(pid)?.parent : undefined;
      if (parent !== undefined) parents.set(pid, parent);
    }
    const ours = (pid: number): boolean => pid === this.#child?.pid || (parents.has(pid) && ours(parents.get(pid)!));
    for (const pid of parents.keys()) if (ours(pid)) this.#family.set(pid, birth(pid) ?? "");
  }
}

/** proc(5): what follows the command name in /proc/PID/stat. */
function stat(pid: number): { parent: number; state: string; born: string } | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
    return { state: fields[0]!, parent: Number(fields[1]), born: fields[19]! };
  } catch {
    return undefined; // gone
  }
}

/** When a process began: a pid alone may be somebody else's by now. Undefined once it has ended. */
const birth = (pid: number): string | undefined => {
  const s = stat(pid);
  return s && s.state !== "Z" ? s.born : undefined;
};

const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
};

/** Waits until f returns something true. */
export async function eventually<T>(f: () => T | Promise<T>, ms: number, why: () => string): Promise<NonNullable<T>> {
  for (const end = Date.now() + ms; ; ) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(why());
    await new Promise((r) => setTimeout(r, 25));
  }
}
