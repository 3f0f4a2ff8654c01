// docs/configuration.md says what the schema says. `pnpm docs:configuration` writes it again.
import { expect, test } from 'vitest';

import { configKeys, presetDescriptions } from '../packages/trainer/src/index';
import { configurationPage } from './configuration';

test('docs/configuration.md is up to date with the schema and the presets', async () => {
  await expect(configurationPage()).toMatchFileSnapshot('../docs/configuration.md');
});

test('the page has every key and preset', () => {
  const page = configurationPage();
  for (const { key } of configKeys()) expect(page).toContain(`| \`${key}\` |`);
  for (const name of Object.keys(presetDescriptions)) expect(page).toContain(`| \`${name}\` |`);
});
