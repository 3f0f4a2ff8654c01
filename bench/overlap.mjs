// How much of expert dispatch and combine hides behind another micro-batch's compute (DeepSeek-V3, §3.2.1): two ranks as
// threads share the experts of the `small` preset's shapes over an emulated link, and two micro-batches go forward and
// backward, one after the other and by turns at every exchange.
//
//   node bench/overlap.mjs [--gbps 0.2] [--rounds 15] [--json]
import { parseArgs } from 'node:util';

import { threads } from '../packages/comm/dist/threads.js';

const { values } = parseArgs({
  options: {
    gbps: { type: 'string', default: '0.1,0.2,0.5' },
    rounds: { type: 'string', default: '15' },
    json: { type: 'boolean', default: false },
  },
});

const rank = new URL('./overlap-rank.mjs', import.meta.url);
const results = [];
for (const gbps of values.gbps.split(',').map(Number)) {
  const [measured] = await threads(2, rank, { gbps, rounds: Number(values.rounds) });
  const { alone, inOrder, byTurns } = measured;
  const sent = inOrder - alone;
  results.push({
    gbps,
    ...measured,
    exchanged: sent / inOrder,
    hidden: (inOrder - byTurns) / sent,
  });
}
if (values.json) console.log(JSON.stringify({ results }));
else
  for (const { gbps, alone, inOrder, byTurns, exchanged, hidden } of results)
    console.log(
      `${gbps} GB/s: without the link ${ms(alone)}, in order ${ms(inOrder)} (${share(exchanged)} of it on the link), by turns ${ms(byTurns)}: ${share(hidden)} hidden`,
    );

function ms(seconds) {
  return `${(1000 * seconds).toFixed(1)} ms`;
}

function share(part) {
  return `${(100 * part).toFixed(0)} %`;
}
