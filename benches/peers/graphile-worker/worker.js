import { openSync, writeSync } from "node:fs";

import { Logger, run } from "graphile-worker";

const tally = openSync(process.env.TALLY, "a");

const echo = async () => {
  writeSync(tally, "."); // The size of the file is how many tasks have run.
};

// "batching" is what its page on performance advises for many short tasks.
const preset =
  process.env.VARIANT === "batching"
    ? { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
    : { concurrentJobs: 10 };
const quiet = new Logger(() => () => {});

await run({
  preset: {
    worker: { ...preset, connectionString: process.env.DATABASE_URL, maxPoolSize: 26, logger: quiet },
  },
  taskList: { echo },
});
