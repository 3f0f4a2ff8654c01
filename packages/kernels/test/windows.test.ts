// Windows has no addon: nothing is compiled or loaded there, and what is said names what helps.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { describeKernels } from '@baleen/kernels';
import { afterEach, expect, test, vi } from 'vitest';

const key = Symbol.for('baleen.kernels');
const globals = globalThis as unknown as Record<symbol, unknown>;
const mine = globals[key];
const { platform } = process;
const pretend = (name: string): void => {
  Object.defineProperty(process, 'platform', { value: name });
};
afterEach(() => {
  pretend(platform);
  globals[key] = mine;
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

test('the reference runs, and the hint is WSL', () => {
  pretend('win32');
  globals[key] = undefined;
  vi.stubEnv('BALEEN_KERNELS', undefined);
  vi.stubEnv('BALEEN_REQUIRE_NATIVE', undefined);
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  expect(describeKernels()).toEqual({
    implementation: 'reference',
    isa: 'javascript',
    threads: 1,
    reason: 'there are no native kernels for Windows',
    hint: 'run under WSL, where they are those of Linux',
  });
  expect(said.mock.calls.join('')).toContain('WSL');
});

test.each([
  ['a build that must succeed fails', [], 1],
  ['an optional one is left out', ['--optional'], 0],
])('%s, with one line', (_, options, status) => {
  const windows = `data:text/javascript,Object.defineProperty(process,'platform',{value:'win32'})`;
  const build = fileURLToPath(new URL('../native/build.mjs', import.meta.url));
  const result = spawnSync(process.execPath, ['--import', windows, build, ...options], {
    encoding: 'utf8',
    env: { ...process.env, BALEEN_REQUIRE_NATIVE: '' },
  });
  expect(result).toMatchObject({ status, stdout: '' });
  expect(result.stderr).toMatch(/^native: there is no addon for Windows; .*WSL.*\n$/);
});
