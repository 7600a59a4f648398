import { defineConfig } from "vitest/config";
import "../vitest.node20.ts";

// One server for a file: its stories run one after the other.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.e2e.ts"],
    testTimeout: 30_000,
    hookTimeout: 90_000,
    fileParallelism: false,
  },
});
