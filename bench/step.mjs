// A training step of the `small` preset beside the same model in PyTorch, run in turn so that both see the same machine.
//
//   node bench/step.mjs                 three rounds of Baleen and of each peer
//   node bench/step.mjs --rounds 5 --threads 2
//   BALEEN_PYTHON=venv/bin/python node bench/step.mjs
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch and transformers. Prints the median of the rounds'
// medians, and Baleen's speed over the best peer's; the last line is JSON.
import { alternate, baleen, peer, rounds, threads } from './alternate.mjs';

const step = (precision) => baleen('bench', 'step', '--preset', 'small', '--precision', precision);
const torch = (...options) => peer('torch_v3_step.py', ...options);
const seconds = alternate(
  {
    'baleen fp8': step('fp8'),
    'baleen bf16': step('bf16'),
    'torch bf16': torch('--precision', 'bf16'),
    'torch bf16, compiled': torch('--precision', 'bf16', '--compile'),
    'torch fp32': torch('--precision', 'fp32'),
  },
  (name, { medianStepSeconds }) => ({ [name]: medianStepSeconds }),
);
const best = Math.min(
  ...Object.entries(seconds).flatMap(([name, value]) => (name.startsWith('torch') ? [value] : [])),
);
const ratio = Number((best / seconds['baleen fp8']).toFixed(2));
console.log(JSON.stringify({ threads: Number(threads), rounds, seconds, ratio }));
