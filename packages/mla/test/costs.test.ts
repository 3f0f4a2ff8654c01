// What a cache holds and decoding takes: published figures of V3, V2 and FlashMLA, counts of what a literal step touches,
// and refusals.
import { expect, test } from 'vitest';

import {
  type AttentionShape,
  cacheBytes,
  cacheElements,
  decodeWork,
  type LatentShape,
  roofline,
} from '../src/index';

const v3 = { heads: 128, nopeDim: 128, ropeDim: 64, valueDim: 128, kvRank: 512 };
const absorbed: LatentShape = { form: 'absorbed', ...v3 };
const expanded: LatentShape = { form: 'expanded', ...v3 };
const multiHead: AttentionShape = {
  form: 'grouped',
  heads: 128,
  kvHeads: 128,
  queryWidth: 128,
  valueWidth: 128,
};
/** By FlashMLA's figures. */
const h800 = { flopsPerSecond: 865e12, bytesPerSecond: 3.35e12 };

test('V3 caches 576 numbers a token and layer, 70,272 bytes over 61 layers, and 656 bytes a layer in FP8', () => {
  for (const form of [absorbed, expanded]) {
    expect(cacheElements(form)).toBe(576);
    expect(61 * cacheBytes(form)).toBe(70_272);
    expect(cacheBytes(form, 'e4m3')).toBe(656);
    expect(cacheBytes(form, 'f32')).toBe(2304);
  }
  expect(cacheElements(multiHead)).toBe(32_768);
  expect(cacheBytes(multiHead)).toBe(65_536);
});

test('DeepSeek 67B caches 389,120 bytes a token with 8 heads of keys and values', () => {
  const grouped: AttentionShape = { ...multiHead, heads: 64, kvHeads: 8 };
  expect(95 * cacheBytes(grouped)).toBe(389_120);
  expect(cacheBytes(grouped, 'e4m3')).toBe(2048);
});

test('the absorbed form does about two operations a byte for every head and new token, as FlashMLA says', () => {
  // Long contexts: what a query brings and takes no longer counts.
  for (const queries of [1, 2, 4]) {
    const { core } = decodeWork(absorbed, { length: 1e6, queries });
    expect(core.flops / core.bytes / (2 * 128 * queries)).toBeCloseTo(1088 / 1152, 2);
  }
  // The bound turns where heads times new tokens pass 128.
  expect(roofline(decodeWork(absorbed, { length: 65_536 }).core, h800).bound).toBe('memory');
  expect(roofline(decodeWork(absorbed, { length: 65_536, queries: 2 }).core, h800).bound).toBe(
    'compute',
  );
  const half = decodeWork({ ...absorbed, heads: 64 }, { length: 65_536, queries: 1 });
  expect(roofline(half.core, h800).bound).toBe('memory');
});

test('attention that caches every head does one operation a byte, and groups as many as share a head', () => {
  const at = (kvHeads: number): number => {
    const { core, projections } = decodeWork({ ...multiHead, kvHeads }, { length: 1e6 });
    expect(projections).toEqual({ flops: 0, bytes: 0 });
    return core.flops / core.bytes;
  };
  expect(at(128)).toBeCloseTo(1, 3);
  expect(at(8)).toBeCloseTo(16, 1);
});

/** Products and numbers touched, counted one by one, for sizes small enough. */
function literal(sizes: LatentShape, sequences: number, length: number, queries: number) {
  const { form, heads, nopeDim, ropeDim, valueDim, kvRank } = sizes;
  const core = { products: 0, numbers: 0 };
  const projections = { products: 0, numbers: heads * kvRank * (nopeDim + valueDim) };
  const isAbsorbed = form === 'absorbed';
  const [inWidth, outWidth] = isAbsorbed
    ? [kvRank + ropeDim, kvRank]
    : [nopeDim + ropeDim, valueDim];
  for (let s = 0; s < sequences; s += 1) {
    for (let key = 0; key < length; key += 1) {
      if (isAbsorbed) core.numbers += kvRank + ropeDim;
      else {
        projections.numbers += kvRank + ropeDim;
        core.numbers += ropeDim;
        for (let h = 0; h < heads; h += 1) {
          projections.products += kvRank * (nopeDim + valueDim);
          projections.numbers += nopeDim + valueDim;
          core.numbers += nopeDim + valueDim;
        }
      }
    }
    for (let query = 0; query < queries; query += 1)
      for (let h = 0; h < heads; h += 1) {
        core.numbers += inWidth + outWidth;
        if (isAbsorbed) {
          projections.products += nopeDim * kvRank + kvRank * valueDim;
          projections.numbers += nopeDim + kvRank + kvRank + valueDim;
        }
        for (let key = 0; key <= length - queries + query; key += 1)
          core.products += inWidth + outWidth;
      }
  }
  return {
    core: { flops: 2 * core.products, bytes: 4 * core.numbers },
    projections: { flops: 2 * projections.products, bytes: 4 * projections.numbers },
  };
}

test.each(['absorbed', 'expanded'] as const)('%s: counted one by one', (form) => {
  const sizes: LatentShape = { form, heads: 3, nopeDim: 5, ropeDim: 2, valueDim: 4, kvRank: 7 };
  for (const [sequences, length, queries] of [
    [1, 1, 1],
    [2, 9, 3],
    [3, 4, 4],
  ] as const) {
    const counted = literal(sizes, sequences, length, queries);
    const work = decodeWork(sizes, { sequences, length, queries, cache: 'f32' });
    expect(work).toEqual({
      flops: counted.core.flops + counted.projections.flops,
      bytes: counted.core.bytes + counted.projections.bytes,
      ...counted,
    });
  }
});

test('a roofline takes the longer of both times, and turns at its ridge', () => {
  const peaks = { flopsPerSecond: 100, bytesPerSecond: 10 };
  expect(roofline({ flops: 50, bytes: 10 }, peaks)).toEqual({
    intensity: 5,
    ridge: 10,
    seconds: 1,
    bound: 'memory',
  });
  expect(roofline({ flops: 200, bytes: 10 }, peaks)).toMatchObject({
    seconds: 2,
    bound: 'compute',
  });
});

test('sizes and peaks that cannot be are refused by name', () => {
  const code = 'ERR_BALEEN_MLA_SIZES';
  const refusal = (run: () => unknown): unknown => {
    try {
      return run();
    } catch (error) {
      return error;
    }
  };
  expect(refusal(() => cacheElements({ ...absorbed, kvRank: 0 }))).toMatchObject({
    code,
    path: 'kvRank',
  });
  expect(refusal(() => cacheBytes({ ...multiHead, kvHeads: 3 }))).toMatchObject({
    code,
    path: 'kvHeads',
  });
  expect(refusal(() => decodeWork(absorbed, { length: 2, queries: 3 }))).toMatchObject({
    code,
    path: 'keys',
  });
  expect(
    refusal(() => roofline({ flops: 1, bytes: 1 }, { ...h800, bytesPerSecond: 0 })),
  ).toMatchObject({ code, path: 'bytesPerSecond' });
});
