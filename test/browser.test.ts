// The packages that promise to run anywhere, in a global scope that has nothing but ECMAScript: no process, no require,
// no module loader (the engine itself adds console). A bundle that reaches for Node.js while it loads or works fails here.
import { readFileSync } from 'node:fs';
import { createContext, Script } from 'node:vm';

import { expect, test } from 'vitest';

import * as fp8 from '../packages/fp8/src/index';
import { browserPackages, bundleForBrowser } from '../scripts/browser.mjs';

/** Loads a package's bundle into an empty global scope and evaluates an expression there. */
async function inBareContext(name: string, expression: string): Promise<unknown> {
  const { code } = await bundleForBrowser(name, { from: 'source' });
  const context = createContext({});
  new Script(code, { filename: `${name}.js` }).runInContext(context);
  return new Script(expression, { filename: 'test.js' }).runInContext(context);
}

test.each(browserPackages)('%s loads without Node.js', async (name) => {
  expect(await inBareContext(name, 'Object.keys(baleen).length')).toBeGreaterThan(0);
});

test('the bare scope is bare', async () => {
  const names = 'typeof process + typeof require + typeof Buffer';
  expect(await inBareContext('kernels', names)).toBe('undefined'.repeat(3));
});

test('kernels chooses the reference there and computes', async () => {
  const expression = `{
    const kernels = baleen.loadKernels();
    const a = new Float32Array([1, 2, 3]);
    const c = new Float32Array(1);
    kernels.gemm(baleen.viewOf(c), baleen.viewOf(a), baleen.viewOf(a), { m: 1, n: 1, k: 3, transB: true });
    kernels.implementation + ' ' + c[0];
  }`;
  expect(await inBareContext('kernels', expression)).toBe('reference 14');
});

test('fp8 quantises and decodes there', async () => {
  // 448 is E4M3's largest number, so a tile whose largest magnitude is 448 has scale 1: 448, 1.5 and −0.875 are
  // representable and come back exactly, and 17 lies between 16 and 18 and goes to the even code, 16.
  const expression = `{
    const x = new Float32Array([448, 1.5, -0.875, 17]);
    const q = baleen.quantize(x, { rows: 1, cols: 4 });
    [q.codes.length, q.scales[0], ...baleen.dequantize(q)].join(' ');
  }`;
  expect(await inBareContext('fp8', expression)).toBe('4 1 448 1.5 -0.875 16');
});

/**
 * Calls every door of fp8 that takes and gives typed arrays, with ragged edges and experts among them. Its text runs in
 * the bare scope, so it names nothing but its argument and ECMAScript.
 */
function everyFunction(baleen: typeof fp8): string {
  const made = (count: number, step: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => ((i * step) % 257) / 64 - 2);
  const [rows, cols, outs] = [132, 130, 36];
  const sizes = { rows, cols };
  const offsets = Int32Array.of(0, 40, 40, rows);
  const values = made(rows * cols, 31);
  const weights = made(outs * cols, 77);
  const statistics = baleen.emptyStatistics();
  const lost = baleen.emptyStatistics();
  const x = baleen.quantize(values, sizes, { statistics });
  const dy = baleen.quantize(made(rows * outs, 53), { rows, cols: outs });
  const w = baleen.quantize(weights, { rows: outs, cols }, { block: '128x128' });
  const stacked = { rows: outs, cols, stack: 3 };
  const experts = baleen.quantize(made(3 * outs * cols, 91), stacked, { block: '128x128' });
  const columns = { block: '128x1', powerOfTwo: true } as const;
  const [xT, dyT] = [x, dy].map((q) => baleen.requantize(q, { ...columns, statistics: lost }));
  const [xE, dyE] = [x, dy].map((q) => baleen.requantize(q, { ...columns, offsets }));
  const whole = { block: 'tensor', format: 'e5m2' } as const;
  const a = baleen.quantize(values, sizes, whole);
  const b = baleen.quantize(weights, { rows: outs, cols }, whole);
  const narrow = { fractionBits: 9, accumulator: 'fp32' } as const;
  const bytes = baleen.pack12(baleen.encodeArray(values, 'e5m6'));
  const state = baleen.delayedScale();
  return JSON.stringify([
    [x, w, experts, xT, xE, a].map((q) => [
      Array.from(q.codes),
      Array.from(q.scales),
      Array.from(baleen.dequantize(q)),
    ]),
    [statistics, lost, baleen.errorStatistics(values, a)],
    baleen.signalToNoise(values, baleen.dequantize(x)),
    [
      baleen.multiply(x, w),
      baleen.multiply(x, experts, { offsets }),
      baleen.multiply(a, b, { promotion: Infinity, tensorCore: baleen.hopper }),
      baleen.multiply(x, w, { promotion: 32, tensorCore: narrow }),
      baleen.inputGradient(dy, w),
      baleen.weightGradient(dyT, xT),
      baleen.weightGradient(dyE, xE),
    ].map((product) => Array.from(product)),
    (['e4m3', 'e5m2', 'e5m6', 'e8m0', 'bf16'] as const).map((format) => {
      const codes = baleen.encodeArray(values, format);
      return [Array.from(codes), Array.from(baleen.decodeArray(codes, format))];
    }),
    [Array.from(bytes), Array.from(baleen.unpack12(bytes, { count: values.length }))],
    [1, 2].map(() => Array.from(baleen.quantizeDelayed(values, sizes, state).codes)),
  ]);
}

test('fp8’s functions on typed arrays give there what they give in Node.js, to the bit', async () => {
  // In Node.js on native kernels where there are some.
  const expected = everyFunction(fp8);
  expect(expected.length).toBeGreaterThan(5e5);
  const bare = await inBareContext('fp8', `(${everyFunction.toString()})(baleen)`);
  expect(bare === expected).toBe(true);
});

test('fp8’s README says what it weighs in a browser', async () => {
  const readme = readFileSync(new URL('../packages/fp8/README.md', import.meta.url), 'utf8');
  const stated = /(\d+\.\d) kB minified, (\d+\.\d) kB gzipped, of which (\d+\.\d) kB/.exec(readme);
  const all = await bundleForBrowser('fp8', { from: 'source' });
  const own = await bundleForBrowser('fp8', { from: 'source', alone: true });
  [all.minified, all.gzip, own.gzip].forEach((bytes, i) => {
    const kilobytes = Number(stated?.[i + 1]);
    expect(Math.abs(kilobytes / (bytes / 1000) - 1), `${bytes} bytes`).toBeLessThan(0.1);
  });
});

test('fp8 has its formats, packing, statistics and products there', async () => {
  // E5M6 has 17 and 65/64. Beside 8 = 2³ Hopper cuts what lies below 2⁻¹⁰.
  const expression = `{
    const codes = baleen.encodeArray(new Float32Array([17, 1.015625, 1e9]), 'e5m6');
    const back = baleen.unpack12(baleen.pack12(codes), { count: 3 });
    const options = { block: 'tensor', format: 'bf16' };
    const a = baleen.quantize(new Float32Array([8, 2 ** -13]), { rows: 1, cols: 2 }, options);
    const b = baleen.quantize(new Float32Array([1, 1]), { rows: 1, cols: 2 }, options);
    const statistics = baleen.errorStatistics(new Float32Array([8, 2 ** -13]), a);
    [
      ...baleen.decodeArray(back, 'e5m6'),
      baleen.multiply(a, b)[0] - 8 === 2 ** -13,
      baleen.multiply(a, b, { tensorCore: baleen.hopper })[0],
      statistics.maxAbsolute,
      baleen.quantizeDelayed(new Float32Array([1]), { rows: 1, cols: 1 }, baleen.delayedScale()).scales[0],
    ].join(' ');
  }`;
  expect(await inBareContext('fp8', expression)).toBe('17 1.015625 65024 true 8 0 1');
});
