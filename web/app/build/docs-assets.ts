import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Plugin } from "vite";

// The browsable API page (/docs, its index is the server's) uses Swagger UI
// from the same origin: its two files go into dist/docs under fixed names.
export function docsAssets(): Plugin {
  const require = createRequire(import.meta.url);
  return {
    name: "muster-docs-assets",
    apply: "build",
    generateBundle() {
      for (const file of ["swagger-ui.css", "swagger-ui-bundle.js"]) {
        const source = readFileSync(require.resolve(`swagger-ui-dist/${file}`));
        this.emitFile({ type: "asset", fileName: `docs/${file}`, source });
      }
    },
  };
}
