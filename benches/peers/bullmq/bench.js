// node bench.js submit|latency COUNT: prints what was measured as JSON.
import { setTimeout } from "node:timers/promises";

import { Queue, QueueEvents } from "bullmq";

import { connection, jobOptions, queueName } from "./task.js";

const batch = 500;
const pauseMs = 5; // Between two tasks, so that each finds the system at rest.
const warmUp = 20;
const payload = JSON.parse(process.env.PAYLOAD);
const queue = new Queue(queueName, { connection: connection() });

const submit = async (count) => {
  await queue.waitUntilReady();
  const begun = performance.now();
  for (let sent = 0; sent < count; sent += batch) {
    const jobs = Array.from({ length: Math.min(batch, count - sent) }, () => ({
      name: "echo",
      data: payload,
      opts: jobOptions,
    }));
    await queue.addBulk(jobs);
  }
  return { seconds: (performance.now() - begun) / 1000 };
};

const latency = async (count) => {
  const events = new QueueEvents(queueName, { connection: connection() });
  await events.waitUntilReady();
  const waits = [];
  for (let call = 0; call < warmUp + count; call += 1) {
    const begun = performance.now();
    // Kept for a while whatever the variant: a job that is gone at once cannot be waited for.
    const job = await queue.add("echo", payload, { removeOnComplete: 1000 });
    await job.waitUntilFinished(events, 30_000);
    waits.push(performance.now() - begun);
    await setTimeout(pauseMs);
  }
  return { waits_ms: waits.slice(warmUp) };
};

const [what, count] = process.argv.slice(2);
console.log(JSON.stringify(await { submit, latency }[what](Number(count))));
process.exit();
