// What the benchmark's client and worker on BullMQ share.
import { Redis } from "ioredis";

export const queueName = "echo";

// BullMQ asks for `maxRetriesPerRequest: null` where it waits for jobs.
export const connection = () => new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });

// "durable" keeps finished jobs with their results, as BullMQ does unless told otherwise; "fast" removes them.
export const jobOptions = process.env.VARIANT === "durable" ? {} : { removeOnComplete: true };
