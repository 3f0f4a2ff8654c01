// The kernels' tests of the addon in an arm64 Node.js: run.mjs beside this file builds what they need and calls them.
import { fileURLToPath } from 'node:url';

import { defineConfig, mergeConfig } from 'vitest/config';

import shared from '../../vitest.shared.ts';

const emulated = process.env.BALEEN_ARM64_NODE;
if (!emulated) throw new Error('BALEEN_ARM64_NODE is not set: run node test/arm64/run.mjs');
// Vitest itself stays on this machine's processor; the processes it forks to run tests in are started by this path.
process.execPath = emulated;

export default mergeConfig(
  shared,
  defineConfig({
    root: fileURLToPath(new URL('../..', import.meta.url)),
    test: {
      name: 'arm64',
      pool: 'forks',
      include: [
        'test/arm64/*.test.ts',
        'packages/kernels/test/{fused,native,recording,rows}.test.ts',
      ],
      typecheck: { enabled: false },
      // Emulation is slow, and so is the reference in it.
      testTimeout: 600_000,
      fileParallelism: false,
      reporters: ['verbose', './vitest.reporter.ts'],
    },
  }),
);
