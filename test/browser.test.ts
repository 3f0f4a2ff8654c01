// The packages that promise to run anywhere, in a global scope that has nothing but ECMAScript: no process, no require,
// no module loader (the engine itself adds console). A bundle that reaches for Node.js while it loads or works fails here.
import { createContext, Script } from 'node:vm';

import { expect, test } from 'vitest';

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
