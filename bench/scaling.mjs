// What more experts and longer sequences cost a training step of `small`, beside what they must cost.
//
//   node bench/scaling.mjs --rounds 5
//
// Experts: 16 → 64 at the same top-k only adds weights, so the added time is held against reading and writing them once a
// step: 20 bytes a parameter (AdamW's weight, gradient and moments) at the speed of copying. Sequences: 8 × 256 → 1 × 2048
// tokens only adds pairs of query and key, so the added time is held against their products at the peak of the BF16 dot
// unit. Needs a build (`npx -y pnpm@12 build`). The last line is JSON.
import { alternate, baleen, rounds, threads } from './alternate.mjs';

const step = (...flags) => baleen('bench', 'step', '--preset', 'small', ...flags);
const longer =
  '--batch.sequences 1 --batch.rampFrom 1 --batch.microBatch 1 --batch.sequence 2048 --model.maxSequence 2048'.split(
    ' ',
  );
const seconds = alternate(
  {
    small: step(),
    '64 experts': step('--model.moe.routedExperts', '64'),
    '1 × 2048 tokens': step(...longer),
    peaks: baleen('bench', 'kernels', '--only', 'rms-norm'),
  },
  (name, report) => {
    if (name !== 'peaks') return { [name]: report.medianStepSeconds };
    const { copy, bf16Dot } = report.peaks.find((each) => each.threads === Number(threads));
    return { copy, bf16Dot };
  },
);

const { copy, bf16Dot } = seconds;
// Five layers of experts, three matrices of 256 × 128 each, and the gate's row.
const parameters = 5 * 48 * (3 * 256 * 128 + 256);
const expertFloor = (20 * parameters) / (copy * 1e9);
const experts = (seconds['64 experts'] - seconds.small) / expertFloor;
// Six layers, 8 heads, queries and keys 64 wide, values 32: two products forward, five backward.
const pairs = (length) => (2048 / length) * ((length * (length + 1)) / 2);
const flops = 6 * 8 * 2 * (2 * (64 + 32) + 64 * 2 + 32) * (pairs(2048) - pairs(256));
const sequenceFloor = flops / (bf16Dot * 1e9);
const sequence = (seconds['1 × 2048 tokens'] - seconds.small) / sequenceFloor;
console.log(
  JSON.stringify({
    threads: Number(threads),
    rounds,
    figures: seconds,
    addedOverFloor: { experts: Number(experts.toFixed(2)), sequence: Number(sequence.toFixed(2)) },
  }),
);
