import { defineConfig } from "vitest/config";
import "./vitest.node20.ts";

// The unit tests of the SDK, the app and the console. The browser tests are a run of their
// own: npm run e2e.
export default defineConfig({
  test: {
    include: ["sdk/test/**/*.test.ts", "{app,console}/**/*.test.{ts,tsx}"],
    environment: "node",
    // Two cores are shared with everything else that runs.
    maxWorkers: 2,
  },
});
