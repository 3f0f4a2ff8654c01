import { defineConfig, mergeConfig } from 'vitest/config';

import shared from './vitest.shared.ts';

// `pnpm test:long`: comparisons that need Python, and runs killed while they save, one file at a time.
export default mergeConfig(
  shared,
  defineConfig({
    test: {
      name: 'long',
      include: ['test/long/**/*.test.ts'],
      typecheck: { enabled: false },
      testTimeout: 600_000,
      hookTimeout: 600_000,
      fileParallelism: false,
      reporters: ['default', './vitest.reporter.ts'],
    },
  }),
);
