// Size checks: what is wrong, under which code, and nothing where all fits.
import { sizeChecks } from '@baleen/kernels';
import { expect, test } from 'vitest';

const checks = sizeChecks('ERR_BALEEN_TEST_SIZES');

test('sizes are whole numbers from the least', () => {
  expect(() => {
    checks.whole({ rows: 1, cols: 8 });
    checks.whole({ rows: 0 }, 0);
  }).not.toThrow();
  for (const rows of [0, -1, 1.5, Number.NaN])
    expect(() => {
      checks.whole({ cols: 8, rows });
    }).toThrow(`rows (${rows}) is not a whole number from 1`);
});

test('arrays have the length of their shape', () => {
  expect(() => {
    checks.length('x', new Float32Array(6), { rows: 2, cols: 3 });
  }).not.toThrow();
  let error: unknown;
  try {
    checks.length('x', new Float32Array(5), { rows: 2, cols: 3 });
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({
    code: 'ERR_BALEEN_TEST_SIZES',
    path: 'x',
    message: 'x holds 5 values, expected 6 (2 · 3)',
    hint: 'x is [rows, cols]',
  });
});
