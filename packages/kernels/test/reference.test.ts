// The reference computes what the contract says: every kernel, in many shapes, against a literal reading of it (literal.ts)
// that shares no code with it; bits where the contract fixes bits. And it writes nowhere but into its outputs.
import { type Kernels, kernelNames, referenceKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { cases } from './cases';
import { Arena, expectClose, expectSameBits } from './compare';
import { byGradients, literalKernels } from './literal-kernels';

const reference = referenceKernels();

for (const kernel of kernelNames)
  test(`${kernel}: as the contract reads, in bounds`, () => {
    const own = cases.filter((c) => c.kernel === kernel);
    expect(own.length).toBeGreaterThan(0);
    const hasLiteral = !byGradients.includes(kernel);
    for (const { label, tolerance, run } of own) {
      const arena = new Arena(1);
      const actual = run(reference, arena);
      arena.verify();
      if (!hasLiteral) continue;
      const expected = run(literalKernels as Kernels, new Arena(1));
      for (const [name, values] of Object.entries(actual))
        if (tolerance === 'bits') expectSameBits(values, expected[name], `${label}: ${name}`);
        else expectClose(values, expected[name], tolerance, `${label}: ${name}`);
    }
  });
