// Ten million FP32 numbers of all sizes, and every value and midpoint of every format, encode to the bytes that PyTorch and
// ml_dtypes cast them to; and ten million values quantise in blocks to the codes and scales that PyTorch makes of them.
//
// It needs Python with torch, numpy and ml_dtypes (see python.ts).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import {
  dequantize,
  encodeArray,
  type FormatName,
  formats,
  formatTable,
  quantize,
} from '../../packages/fp8/src/index';
import { firstDifference, randomFrom } from '../support';
import { pythonHas, runPython } from './python';

const present = pythonHas('torch', 'numpy', 'ml_dtypes');
const folder = mkdtempSync(join(tmpdir(), 'baleen-formats-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Half of the numbers are any bit pattern, NaN and infinities among them; half lie where the small formats have values. */
function numbers(count: number): Float32Array {
  const random = randomFrom(8);
  const x = new Float32Array(count);
  const words = new Uint32Array(x.buffer);
  for (let i = 0; i < count; i += 2) {
    words[i] = random() * 2 ** 32;
    x[i + 1] = (random() - 0.5) * 2 ** (40 * random() - 20);
  }
  // Every value of every format, and every midpoint between two: exact ties.
  let at = 0;
  for (const { name } of Object.values(formats)) {
    const table = formatTable(name);
    for (let code = 0; code + 1 < table.length; code += 1) {
      x[at] = table[code];
      x[at + 1] = (table[code] + table[code + 1]) / 2;
      at += 2;
    }
  }
  return x;
}

/**
 * [rows, cols] values to quantise; neither is a multiple of 128. Rows of sizes from far below the floor of scales up, with
 * zeros of both signs among them.
 */
const [rows, cols] = [3200, 3130];
function matrix(): Float32Array {
  const random = randomFrom(9);
  return Float32Array.from(
    { length: rows * cols },
    (_, i) =>
      (i % 97 === 0 ? 0 : random() - 0.5) * 2 ** (((i / cols) % 60) - 40) * (i % 2 ? 1 : -1),
  );
}

let x: Float32Array = new Float32Array(0);
let m: Float32Array = new Float32Array(0);

const casts: [library: string, format: FormatName][] = [
  ['ml_dtypes', 'e4m3'],
  ['torch', 'e4m3'],
  ['ml_dtypes', 'e5m2'],
  ['torch', 'e5m2'],
  ['numpy', 'e5m6'],
  ['ml_dtypes', 'bf16'],
  ['torch', 'bf16'],
  ['ml_dtypes', 'e8m0'],
  ['torch', 'e8m0'],
];

function read(name: string): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = readFileSync(join(folder, `${name}.bin`));
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

function codesOf(name: string, format: FormatName): Uint8Array | Uint16Array {
  const bytes = read(name);
  return formats[format].bits === 8 ? new Uint8Array(bytes) : new Uint16Array(bytes);
}

describe.skipIf(!present)('PyTorch and ml_dtypes', () => {
  beforeAll(() => {
    x = numbers(10_000_000);
    m = matrix();
    writeFileSync(join(folder, 'x.bin'), x);
    writeFileSync(join(folder, 'matrix.bin'), m);
    console.log(runPython('number_formats.py', [folder, String(cols)]).trim());
  });

  test.each(casts)('%s: %s', (library, format) => {
    const table = formatTable(format);
    for (const saturate of [false, true]) {
      const ours = encodeArray(x, format, { saturate });
      const theirs = codesOf(`${saturate ? 'clipped-' : ''}${library}-${format}`, format);
      expect(theirs).toHaveLength(x.length);
      let wrong = 0;
      let first = '';
      for (let i = 0; i < x.length; i += 1) {
        if (ours[i] === theirs[i]) continue;
        // Which NaN is nobody's promise.
        if (Number.isNaN(table[ours[i]]) && Number.isNaN(table[theirs[i]])) continue;
        // E8M0 has no zero and no sign. Below zero PyTorch takes the magnitude; of zero it makes the smallest value and
        // ml_dtypes NaN, as we do with saturation and without.
        if (format === 'e8m0' && !(x[i] > 0) && (library === 'torch' || saturate)) continue;
        // Finite numbers beyond E4M3's largest saturate in PyTorch and become NaN in ml_dtypes.
        if (format === 'e4m3' && library === 'torch' && Math.abs(x[i]) > 464) continue;
        wrong += 1;
        first ||= `${x[i]}: ${ours[i]}, ${library} ${theirs[i]}`;
      }
      expect([wrong, first]).toEqual([0, '']);
    }
  });

  test.each([
    ['e4m3', '1x128', false],
    ['e4m3', '128x1', false],
    ['e4m3', '128x128', false],
    ['e4m3', 'row', false],
    ['e4m3', 'tensor', false],
    ['e4m3', '1x128', true],
    ['e4m3', '128x1', true],
    ['e4m3', '128x128', true],
    ['e5m2', '1x128', false],
    ['e5m2', 'tensor', false],
    ['e5m6', '1x128', true],
    ['e5m6', '1x128', false],
  ] as const)('a matrix in %s, blocks of %s, powers of two: %s', (format, block, powerOfTwo) => {
    const q = quantize(m, { rows, cols }, { format, block, powerOfTwo });
    const name = `${format}-${block}${powerOfTwo ? '-pow2' : ''}`;
    expect(firstDifference(q.scales, new Float32Array(read(`${name}-scales`)))).toBe(-1);
    expect(firstDifference(q.codes, codesOf(`${name}-codes`, format))).toBe(-1);
    const decoded = new Float32Array(read(`${name}-values`));
    expect(firstDifference(dequantize(q), decoded)).toBe(-1);
  });
});
