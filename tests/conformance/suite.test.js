// Runs the unmodified suite against the server at PFSD_URL.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({
  baseUrl: process.env.PFSD_URL,
  longPollTimeoutMs: Number(process.env.PFSD_LONG_POLL_MS),
})
