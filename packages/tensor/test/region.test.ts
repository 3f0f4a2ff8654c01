// Regions: blocks never overlap, memory comes back whole, placement depends on the calls alone.
import { nullKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { type Block, emptyTensor, Region } from '../src/index';

const kernels = referenceKernels();

describe('a region', () => {
  test('hands out aligned blocks that never overlap, in any order of release (2,000 random calls)', () => {
    const region = new Region(kernels, 'test', 1 << 14);
    const random = randomFrom(1);
    const held: Block[] = [];
    for (let call = 0; call < 2000; call += 1) {
      if (held.length > 0 && random() < 0.48) {
        const [block] = held.splice(Math.floor(random() * held.length), 1);
        block.release();
      } else held.push(region.allocate(Math.floor(random() * 3000)));
      if (call % 50 > 0) continue;
      const ranges = held
        .map(({ storage, byteOffset, bytes }) => ({
          storage,
          from: byteOffset,
          to: byteOffset + bytes,
        }))
        .sort((a, b) => a.from - b.from);
      for (const storage of new Set(ranges.map((range) => range.storage))) {
        let end = 0;
        for (const { from, to } of ranges.filter((range) => range.storage === storage)) {
          expect(from % 64).toBe(0);
          expect(from).toBeGreaterThanOrEqual(end);
          expect(to).toBeLessThanOrEqual(storage?.byteLength ?? 0);
          end = to;
        }
      }
    }
    const { peakBytes, reservedBytes } = region;
    for (const block of held) block.release();
    expect(region.liveBytes).toBe(0);
    expect(region.peakBytes).toBe(peakBytes);
    // All free ranges have joined again: every buffer can be had in one piece.
    const whole = Array.from({ length: region.buffers }, () => region.allocate(1 << 14));
    expect(region.reservedBytes).toBe(reservedBytes);
    for (const block of whole) block.release();
  });

  test('lands on the same addresses when the same calls come again, and reserves nothing more', () => {
    const region = new Region(kernels, 'test', 1 << 12);
    const step = (): [unknown, number][] => {
      const [a, b, c] = [600, 5000, 70].map((bytes) => region.allocate(bytes));
      b.release();
      const d = region.allocate(4000);
      const places = [a, c, d].map(({ storage, byteOffset }): [unknown, number] => [
        storage,
        byteOffset,
      ]);
      for (const block of [a, c, d]) block.release();
      return places;
    };
    const first = step();
    const { reservedBytes } = region;
    const second = step();
    expect(second.map(([storage]) => storage)).toEqual(first.map(([storage]) => storage));
    expect(second.map(([, offset]) => offset)).toEqual(first.map(([, offset]) => offset));
    expect(region.reservedBytes).toBe(reservedBytes);
  });

  test('counts what is live and the most there ever was, and can forget the latter', () => {
    const region = new Region(kernels, 'test');
    const [a, b] = [region.allocate(1), region.allocate(65)];
    expect(region.liveBytes).toBe(64 + 128);
    a.release();
    expect(region).toMatchObject({ liveBytes: 128, peakBytes: 192, buffers: 1 });
    region.resetPeak();
    expect(region.peakBytes).toBe(128);
    b.release();
    expect(region).toMatchObject({ liveBytes: 0, peakBytes: 128, reservedBytes: 1 << 22 });
  });

  test('takes a buffer of its own for a block larger than its buffers, on the null backend beyond 4 GiB', () => {
    const region = new Region(nullKernels(), 'large');
    const block = region.allocate(6 * 2 ** 30);
    expect(region).toMatchObject({ buffers: 1, reservedBytes: 6 * 2 ** 30 });
    region.allocate(64).release();
    expect(region.buffers).toBe(2);
    block.release();
    expect(region.liveBytes).toBe(0);
  });
});

describe('a block', () => {
  test('goes back when its last holder lets go, and not twice', () => {
    const region = new Region(kernels, 'test');
    const block = region.allocate(100);
    block.retain();
    block.release();
    expect(region.liveBytes).toBe(128);
    block.release();
    expect(region.liveBytes).toBe(0);
    expect(() => {
      block.release();
    }).toThrow('more often than it was held');
    expect(region.liveBytes).toBe(0);
  });

  test('that became a name of another counts its holders there', () => {
    const region = new Region(kernels, 'test');
    const [old, fresh] = [region.allocate(64), region.allocate(64)];
    expect(() => {
      old.alias(fresh);
    }).toThrow('without holders');
    old.release();
    old.alias(fresh);
    expect(old.current).toBe(fresh);
    old.retain();
    fresh.release();
    expect(region.liveBytes).toBe(64);
    old.release();
    expect(region.liveBytes).toBe(0);
  });

  test('makes its tensor unusable once it is gone', () => {
    const region = new Region(kernels, 'test');
    const tensor = emptyTensor(region, [2, 3]);
    tensor.block.release();
    expect(() => tensor.storage).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_TENSOR_RELEASED',
        message: 'f32 tensor [2, 3] of region test was used after its memory was given back',
        hint: expect.stringContaining('block.retain()') as string,
      }) as Error,
    );
  });

  test('belongs to one region', () => {
    const block = new Region(kernels, 'one').allocate(64);
    expect(() => {
      new Region(kernels, 'other').giveBack(block);
    }).toThrow('given back to other');
  });
});
