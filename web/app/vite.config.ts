import { join } from "node:path";
import { defineConfig } from "vite";
import { docsAssets } from "./build/docs-assets.ts";
import { places } from "./build/places.ts";

// The server that answers /api while the page comes from Vite's dev server.
const backend = process.env["MUSTER_HTTP"] ?? "http://localhost:8080";

export default defineConfig({
  root: import.meta.dirname,
  plugins: [places(), docsAssets()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    outDir: "../dist",
    emptyOutDir: true, // public/.gitkeep comes back with every build
    target: "es2023",
    // Two pages: the app, and the operators' console (web/console).
    rolldownOptions: { input: ["index.html", "console/index.html"].map((page) => join(import.meta.dirname, page)) },
    // MapLibre is one lazily loaded chunk above Vite's default warning limit.
    chunkSizeWarningLimit: 1500,
  },
  server: { host: "127.0.0.1", proxy: { "/api": backend, "/ctl": backend } },
});
