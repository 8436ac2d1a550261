import { openSync, writeSync } from "node:fs";

import { Worker } from "bullmq";

import { connection, queueName } from "./task.js";

const tally = openSync(process.env.TALLY, "a");

const echo = async (job) => {
  writeSync(tally, "."); // The size of the file is how many tasks have run.
  return job.data;
};

new Worker(queueName, echo, { connection: connection(), concurrency: 50 });
