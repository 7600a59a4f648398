import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import "./vitest.node20.ts";

// The unit tests of the SDK, the app and the console. The browser tests are a run of their
// own: npm run e2e.
export default defineConfig({
  // Its build for browsers, as the app has it: Node's knows no Blob.
  resolve: { alias: { "tus-js-client": fileURLToPath(new URL("node_modules/tus-js-client/lib.es5/browser/index.js", import.meta.url)) } },
  test: {
    include: ["sdk/test/**/*.test.ts", "{app,console}/**/*.test.{ts,tsx}"],
    environment: "node",
    // Two cores are shared with everything else that runs.
    maxWorkers: 2,
  },
});
