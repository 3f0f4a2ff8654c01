// Delayed scaling step by step: the scale of a step comes from the steps before it.
import { expect, test } from 'vitest';

import { values } from '../../../test/support';
import { delayedScale, dequantize, emptyStatistics, quantize, quantizeDelayed } from '../src/index';

const one = { rows: 1, cols: 1 };
const of = (size: number): Float32Array => Float32Array.of(size);

test('the scale is the largest of the last N steps over the largest value', () => {
  const state = delayedScale({ history: 3 });
  const scales = [448, 896, 224, 224, 224, 224].map((size) => {
    const used = quantizeDelayed(of(size), one, state).scales[0];
    return [used, state.scale];
  });
  expect(scales).toEqual([
    [1, 1], // before any step the scale is 1
    [1, 2],
    [2, 2],
    [2, 2],
    [2, 0.5], // 896 has left the history
    [0.5, 0.5],
  ]);
});

test('a margin leaves powers of two of headroom', () => {
  const state = delayedScale({ format: 'e5m2', history: 1, margin: 2 });
  quantizeDelayed(of(57344), one, state);
  expect(state.scale).toBe(4);
  const statistics = emptyStatistics();
  const q = quantizeDelayed(of(4 * 57344), one, state, { statistics });
  expect(dequantize(q)[0]).toBe(4 * 57344);
  expect(statistics.saturated).toBe(0);
});

test('an outlier saturates in its step and makes small values underflow in the next ones', () => {
  const x = values(1000, 1);
  const outlier = x.slice();
  outlier[7] = 1e6;
  const state = delayedScale({ history: 2 });
  const saturated: number[] = [];
  const underflowed: number[] = [];
  for (const step of [x, outlier, x, x, x]) {
    const statistics = emptyStatistics();
    quantizeDelayed(step, { rows: 10, cols: 100 }, state, { statistics });
    saturated.push(statistics.saturated);
    underflowed.push(statistics.underflowed);
  }
  expect(saturated).toEqual([0, 1, 0, 0, 0]);
  expect(underflowed.slice(2, 4).every((count) => count > 900)).toBe(true);
  expect(underflowed[4]).toBeLessThan(10);
  // An online scale sees the outlier at once: it saturates nothing.
  const online = emptyStatistics();
  quantize(outlier, { rows: 10, cols: 100 }, { block: 'tensor', statistics: online });
  expect(online.saturated).toBe(0);
});

test('without saturation values beyond the largest become NaN, or infinity where there is one', () => {
  const last = (format: 'e4m3' | 'e5m2'): number => {
    const state = delayedScale({ format });
    return dequantize(quantizeDelayed(of(-1e9), one, state, { saturate: false }))[0];
  };
  expect(last('e4m3')).toBeNaN();
  expect(last('e5m2')).toBe(-Infinity);
});

test('zeros and what is no number leave the scale as it is', () => {
  const state = delayedScale({ history: 1 });
  quantizeDelayed(of(896), one, state);
  for (const size of [0, NaN, Infinity]) {
    quantizeDelayed(of(size), one, state);
    expect(state.scale).toBe(2);
  }
  expect(state.steps).toBe(4);
});

test('one step that is not finite does not keep later ones from making the scale', () => {
  const state = delayedScale({ history: 4 });
  for (const size of [448, NaN, 896]) quantizeDelayed(of(size), one, state);
  expect(state.scale).toBe(2);
  quantizeDelayed(of(Infinity), one, state);
  quantizeDelayed(of(448 * 4), one, state);
  expect(state.scale).toBe(4);
});

test('writes into what it is given; an empty history is refused', () => {
  const state = delayedScale();
  expect(state.history).toHaveLength(1024);
  const out = quantizeDelayed(of(3), one, state);
  expect(quantizeDelayed(of(5), one, state, { out })).toBe(out);
  expect(() => delayedScale({ history: 0 })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path: 'history' }),
  );
  expect(() => delayedScale({ margin: NaN })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path: 'margin' }),
  );
  expect(() => quantizeDelayed(of(5), { rows: 2, cols: 1 }, state)).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_SHAPE', path: 'x' }),
  );
});
