// Products of 1,024 × 1,024 matrices beside PyTorch's BF16, run in turn so that both see the same machine.
//
//   node bench/gemm.mjs                 three rounds
//   BALEEN_PYTHON=venv/bin/python node bench/gemm.mjs --rounds 5 --threads 1
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch. Prints GFLOP/s, medians of the rounds' medians, and
// Baleen's over PyTorch's BF16; the last line is JSON.
import { alternate, baleen, peer, rounds, threads } from './alternate.mjs';

const gflops = alternate(
  { baleen: baleen('bench', 'kernels', '--only', 'gemm-'), torch: peer('torch_gemm.py') },
  (name, report) =>
    name === 'torch'
      ? { 'torch bf16': report.bf16 }
      : Object.fromEntries(
          report.cases
            .filter((one) => one.shape.length === 3 && one.threads === Number(threads))
            .map(({ kernel, gflops: rate }) => [`baleen ${kernel.replace('gemm-', '')}`, rate]),
        ),
);
const ratio = (name) => Number((gflops[name] / gflops['torch bf16']).toFixed(2));
const ratios = { bf16: ratio('baleen bf16'), fp8: ratio('baleen fp8') };
console.log(JSON.stringify({ threads: Number(threads), rounds, gflops, ratios }));
