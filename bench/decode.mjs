// Generation token by token over long contexts, at the shapes of the `small` preset, beside the same model in PyTorch, run in
// turn so that both see the same machine.
//
//   node bench/decode.mjs               three rounds of Baleen and of each peer, 12 passes each
//   node bench/decode.mjs --threads 1 --contexts 1024 --batches 1 --steps 100
//   BALEEN_PYTHON=venv/bin/python node bench/decode.mjs --rounds 5 --threads 2
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch and transformers. Prints tokens a second by context and batch,
// medians of the rounds' medians; the last line is JSON, with Baleen's speed over the best peer's.
import {
  alternate,
  baleen,
  batches,
  contexts,
  peer,
  rounds,
  steps,
  threads,
} from './alternate.mjs';

const sizes = ['--contexts', contexts, '--batches', batches, '--steps', steps];
const decode = (precision) =>
  baleen('bench', 'decode', '--preset', 'small', '--precision', precision, ...sizes);
const torch = (precision) => peer('torch_decode.py', '--precision', precision, ...sizes);
const speeds = alternate(
  {
    'baleen fp8': decode('fp8'),
    'baleen bf16': decode('bf16'),
    'torch bf16': torch('bf16'),
    'torch fp32': torch('fp32'),
  },
  (name, { cases }) =>
    Object.fromEntries(
      cases.map(({ context, batch, form, tokensPerSecond }) => [
        `${name}${form === undefined ? '' : ` ${form}`}, ${context} × ${batch}`,
        tokensPerSecond,
      ]),
    ),
);
const ratios = {};
for (const [name, speed] of Object.entries(speeds)) {
  const [system, place] = name.split(', ');
  if (system !== 'baleen bf16 absorbed') continue;
  const best = Math.max(...['bf16', 'fp32'].map((kind) => speeds[`torch ${kind}, ${place}`]));
  ratios[place] = Number((speed / best).toFixed(2));
}
console.log(
  JSON.stringify({ threads: Number(threads), rounds, steps: Number(steps), speeds, ratios }),
);
