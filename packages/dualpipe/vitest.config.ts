import { defineProject, mergeConfig } from 'vitest/config';

import shared from '../../vitest.shared.ts';
import { pageScript } from './page-script.ts';

export default mergeConfig(
  shared,
  defineProject({ test: { name: 'dualpipe' }, define: await pageScript() }),
);
