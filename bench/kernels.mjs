// `baleen bench kernels`, several times: medians and ranges of every kernel's share of its peak.
//
//   node bench/kernels.mjs --rounds 5
//   node bench/kernels.mjs --rounds 5 --only quantize
//
// On a shared machine one run says little: products and streams depend on what its neighbours do to caches and memory.
// Beside the kernels stand the geometric mean of the FP8 products of `small`'s linear layers, and how far two or more
// threads come over one, as a share of how far the peaks do in the same run. Needs a build (`npx -y pnpm@12 build`). Prints a
// table; the last line is JSON.
import { alternate, baleen, only, rounds, threads } from './alternate.mjs';

const geometricMean = (list) =>
  Math.exp(list.reduce((sum, x) => sum + Math.log(x), 0) / list.length);

/** Shares of one run, by kernel, shape and threads. */
function shares({ cases }) {
  const figures = {};
  for (const { kernel, shape, threads: count, ofPeak } of cases)
    figures[`${kernel} ${shape.join('×')}, ${count} thread${count > 1 ? 's' : ''}`] = ofPeak;
  const linear = cases.filter(({ kernel }) => kernel.startsWith('linear-'));
  if (linear.length > 0)
    figures['linear-fp8, geometric mean'] = geometricMean(linear.map(({ ofPeak }) => ofPeak));
  for (const { kernel, shape, threads: count, ofPeak } of cases) {
    if (count === 1 || !kernel.startsWith('gemm-')) continue;
    const alone = cases.find(
      (one) => one.kernel === kernel && `${one.shape}` === `${shape}` && one.threads === 1,
    );
    figures[`${kernel}, ${count} threads over one, of the peaks' scaling`] = ofPeak / alone.ofPeak;
  }
  return figures;
}

const ranges = {};
const medians = alternate(
  { kernels: baleen('bench', 'kernels', ...(only ? ['--only', only] : [])) },
  (_, report) => {
    const figures = shares(report);
    for (const [name, share] of Object.entries(figures)) (ranges[name] ??= []).push(share);
    return figures;
  },
);
const figures = Object.fromEntries(
  Object.entries(medians).map(([name, median]) => {
    const [least, most] = [Math.min(...ranges[name]), Math.max(...ranges[name])];
    return [name, { median, least, most }];
  }),
);
for (const [name, { median, least, most }] of Object.entries(figures))
  console.log(`${name.padEnd(60)} ${[median, least, most].map((x) => x.toFixed(2)).join('  ')}`);
console.log(JSON.stringify({ threads: Number(threads), rounds, figures }));
