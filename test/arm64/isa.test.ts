// What runs here is the addon for arm64, and NEON is what it takes by itself.
import { expect, test } from 'vitest';

import { describeKernels, nativeKernels } from '../../packages/kernels/src/index';

test('arm64 has NEON and the portable baseline, and takes NEON', () => {
  expect(process.arch).toBe('arm64');
  expect(nativeKernels()?.isas).toEqual(['neon', 'baseline']);
  expect(describeKernels()).toMatchObject({ implementation: 'native', isa: 'neon' });
});
