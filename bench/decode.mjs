// Generation token by token over long contexts, at the shapes of the `small` preset, beside the same model in PyTorch, run in
// turn so that both see the same machine.
//
//   node bench/decode.mjs               three rounds of Baleen and of each peer
//   BALEEN_PYTHON=venv/bin/python node bench/decode.mjs --rounds 5 --threads 2
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch and transformers. Prints tokens a second by context and batch,
// medians of the rounds' medians; the last line is JSON, with Baleen's speed over the best peer's.
import { alternate, baleen, peer, rounds, threads } from './alternate.mjs';

const decode = (precision) =>
  baleen('bench', 'decode', '--preset', 'small', '--precision', precision);
const torch = (precision) => peer('torch_decode.py', '--precision', precision);
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
console.log(JSON.stringify({ threads: Number(threads), rounds, speeds, ratios }));
