// graphile-worker with the settings of its own performance page: local queue, completions in batches. It speaks the
// protocol that ../protocol/src/lib.rs describes.
import { createInterface } from "node:readline";
import { Logger, WorkerPreset, makeWorkerUtils, run, runMigrations } from "graphile-worker";

const BATCH = 1000;
const TICK_MS = 5;
const CONCURRENT_JOBS = 24;

const [, , command, queue, ...rest] = process.argv;

const preset = {
  extends: [WorkerPreset],
  worker: {
    connectionString: process.env.DATABASE_URL,
    concurrentJobs: CONCURRENT_JOBS,
    maxPoolSize: CONCURRENT_JOBS + 1,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    // A line of log for each job would be most of the work.
    logger: new Logger(() => () => {}),
  },
};

const say = (line) => process.stdout.write(`${line}\n`);
const micros = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const orders = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const nextOrder = async () => (await orders.next()).value;

// The queue of the comparison is a task here: what graphile-worker calls a queue runs its jobs one after the other.
const spec = (n) => ({ identifier: queue, payload: { n } });

async function enqueue(jobs) {
  const utils = await makeWorkerUtils({ preset });
  say("ready");
  await nextOrder();
  for (let first = 0; first < jobs; first += BATCH) {
    const count = Math.min(BATCH, jobs - first);
    await utils.addJobs(Array.from({ length: count }, (_, i) => spec(first + i)));
  }
  say("done");
  await utils.release();
}

async function lone() {
  const utils = await makeWorkerUtils({ preset });
  say("ready");
  for (let n = 0; (await nextOrder()) === "go"; n++) {
    const called = micros();
    await utils.addJob(queue, { n });
    say(`sent ${called}`);
  }
  await utils.release();
}

async function work(isTraced) {
  let begun = 0;
  const handler = isTraced
    ? () => say(`began ${micros()}`)
    : () => {
        begun += 1;
        if (begun === 1) say(`first ${micros()}`);
      };
  const runner = await run({ preset, taskList: { [queue]: handler }, noHandleSignals: true, parsedCronItems: [] });
  say("ready");
  let said = 0;
  const tick = setInterval(() => {
    if (begun > said) say(`ran ${begun}`);
    said = begun;
  }, TICK_MS);
  await nextOrder();
  clearInterval(tick);
  await runner.stop();
  say("stopped");
}

switch (command) {
  case "setup":
    await runMigrations({ preset });
    break;
  case "enqueue":
    await enqueue(Number(rest[0]));
    break;
  case "lone":
    await lone();
    break;
  case "work":
    await work(rest[0] === "trace");
    break;
  default:
    throw new Error("usage: setup | enqueue QUEUE JOBS TENANTS | lone QUEUE | work QUEUE count|trace");
}
process.exit(0);
