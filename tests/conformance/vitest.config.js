import { defineConfig } from "vitest/config"
import Verdict from "./verdict.js"

export default defineConfig({
  test: {
    include: ["suite.test.js"],
    // Features that pfs does not have: forks and subscriptions.
    testNamePattern: /^(?!Fork - |Reserved subscription APIs)/,
    testTimeout: 30_000,
    reporters: [["default", { summary: false }], new Verdict()],
  },
})
