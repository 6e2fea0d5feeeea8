// Compares the failed tests with the expected failures. Exactly the expected ones must fail.
import { readFileSync } from "node:fs"

export default class Verdict {
  onTestRunEnd(modules) {
    const known = JSON.parse(readFileSync(new URL("expected-failures.json", import.meta.url), "utf8"))
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const ran = tests.filter((test) => ["passed", "failed"].includes(test.result().state))
    const failed = ran.filter((test) => test.result().state === "failed").map((test) => test.fullName)
    const names = new Set(ran.map((test) => test.fullName))
    const complaints = [
      ...modules.flatMap((module) => module.errors().map((error) => `the suite did not load: ${error.message}`)),
      ...failed.filter((name) => !(name in known)).map((name) => `failed: ${name}`),
      ...Object.keys(known)
        .filter((name) => !failed.includes(name))
        .map((name) => `${names.has(name) ? "passed" : "did not run"}, but is listed as a failure: ${name}`),
    ]
    if (ran.length === 0) complaints.push("no test ran")

    console.log(`\nConformance: ${ran.length - failed.length} of ${ran.length} tests passed`)
    for (const [name, reason] of Object.entries(known)) console.log(`  expected to fail: ${name}\n    because ${reason}`)
    for (const complaint of complaints) console.log(`  ${complaint}`)
    // Expected failures do not fail the run.
    process.exitCode = complaints.length > 0 ? 1 : 0
  }
}
