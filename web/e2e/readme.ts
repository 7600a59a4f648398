// The TypeScript examples of the READMEs, as they stand there.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import ts from "typescript";
import { build, type Rollup } from "vite";

const web = resolve(import.meta.dirname, "..");

export const readmes = ["README.md", "web/sdk/README.md"];

/** The first TypeScript block of a README. */
export function example(readme: string): string {
  const text = readFileSync(join(web, "..", readme), "utf8");
  const block = /^```ts\n(.*?)^```$/ms.exec(text)?.[1];
  if (block === undefined) throw new Error(`${readme} has no TypeScript example`);
  return block;
}

/** What the compiler has against the examples, under the SDK's own settings: one run for all of them. */
let compiled: Map<string, string[]> | undefined;

export function complaints(readme: string): string[] {
  compiled ??= compile();
  return compiled.get(readme)!;
}

function compile(): Map<string, string[]> {
  const dir = join(web, "sdk");
  const { options } = ts.parseJsonConfigFileContent(ts.readConfigFile(join(dir, "tsconfig.json"), ts.sys.readFile).config, ts.sys, dir);
  const files = new Map(readmes.map((readme, i) => [join(dir, `example-${i}.ts`), readme]));
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    files.has(name) ? ts.createSourceFile(name, example(files.get(name)!), ts.ScriptTarget.ES2022) : getSourceFile(name, ...rest);
  const program = ts.createProgram([...files.keys()], options, host);
  const text = (d: ts.Diagnostic) => ts.flattenDiagnosticMessageText(d.messageText, "\n");
  const common = [...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()].map(text);
  return new Map([...files].map(([file, readme]) => [readme, [...common, ...ts.getPreEmitDiagnostics(program, program.getSourceFile(file)).map(text)]]));
}

let script: Promise<string> | undefined;

/** The SDK as a script that leaves a global named muster. */
export function sdkScript(): Promise<string> {
  return (script ??= bundle());
}

async function bundle(): Promise<string> {
  const lib = { entry: join(web, "sdk/src/index.ts"), formats: ["iife" as const], name: "muster" };
  const out = await build({ configFile: false, root: web, logLevel: "error", build: { lib, write: false, target: "es2022" } });
  return (out as Rollup.RollupOutput[])[0]!.output[0].code;
}

/** The example as a function's body: its import takes from the global, and what it made is returned. */
export function runnable(code: string): string {
  const body = code.replace(/^import (\{.*\}) from "@muster\/sdk";$/m, "const $1 = muster;");
  return `(async () => {\n${body}\nreturn { region: session.status.region, said: room.messages.map((m) => m.body), members: room.members.length };\n})()`;
}
