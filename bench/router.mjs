// Routing 16,384 tokens over 256 experts (8 groups, 4 kept, top-8) beside PyTorch, eager and compiled, run in turn so that all
// see the same machine; and permutation of 4,096 tokens of 1,024 numbers beside the copy bandwidth.
//
//   node bench/router.mjs               three rounds
//   BALEEN_PYTHON=venv/bin/python node bench/router.mjs --rounds 5 --threads 1
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch. Medians of the rounds' medians; the last line is JSON.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { alternate, peer, rounds, threads } from './alternate.mjs';

const own = join(fileURLToPath(new URL('.', import.meta.url)), 'router-own.mjs');
const figures = alternate(
  { baleen: [process.execPath, own, '--threads', threads], torch: peer('torch_router.py') },
  (name, report) =>
    Object.fromEntries(
      Object.entries(report)
        .filter(([, value]) => typeof value === 'number')
        .map(([key, value]) => [`${name} ${key}`, value]),
    ),
);
const ratio = (above, below) => Number((figures[above] / figures[below]).toFixed(2));
const ratios = {
  eager: ratio('torch eager', 'baleen nsPerToken'),
  ...('torch compiled' in figures && { compiled: ratio('torch compiled', 'baleen nsPerToken') }),
  permuteOfCopy: ratio('baleen permute', 'baleen copy'),
  unpermuteOfCopy: ratio('baleen unpermute', 'baleen copy'),
};
console.log(JSON.stringify({ threads: Number(threads), rounds, figures, ratios }));
