// node bench.js submit COUNT: prints what was measured as JSON.
import { Logger, makeWorkerUtils } from "graphile-worker";

const batch = 500;
const payload = JSON.parse(process.env.PAYLOAD);
const count = Number(process.argv[3]);
const utils = await makeWorkerUtils({
  connectionString: process.env.DATABASE_URL,
  logger: new Logger(() => () => {}),
});
await utils.migrate();

const begun = performance.now();
for (let sent = 0; sent < count; sent += batch) {
  const length = Math.min(batch, count - sent);
  await utils.addJobs(Array.from({ length }, () => ({ identifier: "echo", payload })));
}
console.log(JSON.stringify({ seconds: (performance.now() - begun) / 1000 }));
await utils.release();
