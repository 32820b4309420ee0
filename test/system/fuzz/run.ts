import { fuzz } from "./fuzz.ts";

/* `node test/system/fuzz/run.ts [inputs] [seed]`: the long form of test/system/fuzz/fuzz.test.ts; default 100,000 inputs. */
const inputs = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`${inputs} inputs, seed ${seed}`);
const started = performance.now();
const result = await fuzz(inputs, seed);
console.table(result.reactions);
const sum = Object.values(result.inputs).reduce((total, one) => total + one, 0);
console.log(
  `${sum} inputs in ${Math.round((performance.now() - started) / 1000)} s: no request was allowed, no component crashed`,
);
