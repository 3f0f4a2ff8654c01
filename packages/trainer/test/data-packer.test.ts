// The packer: one stream without gaps, the same however it is cut and wherever it is resumed.
import { mtpTargets } from '@baleen/mtp';
import { describe, expect, test } from 'vitest';

import { Packer, type PackerState, type TokenBatch } from '../src/data/index';
import { randomDocuments } from './data-random';

const options = { documentEnd: 256, seed: 7 };
const documents = randomDocuments(1, 9, 20);

function copyOf(packer: Packer): PackerState {
  return JSON.parse(JSON.stringify(packer.state())) as PackerState;
}

describe('Packer', () => {
  test('an epoch has every document once, each followed by the separator', () => {
    const packer = new Packer(documents, options);
    for (let epoch = 0; epoch < 3; epoch += 1) {
      expect(packer.epoch).toBe(epoch);
      const stream = Array.from({ length: packer.tokensPerEpoch }, () => packer.next(1, 1).ids[0]);
      const found = stream
        .join(' ')
        .split(' 256')
        .map((text) => text.trim());
      expect(found.pop()).toBe('');
      expect(found.sort()).toEqual(documents.map((tokens) => tokens.join(' ')).sort());
    }
  });

  test('a batch of the same size is written over, and is the batch that would have been made', () => {
    const [fresh, again] = [new Packer(documents, options), new Packer(documents, options)];
    let held: TokenBatch | undefined;
    for (const [sequences, sequence] of [
      [2, 3],
      [2, 3],
      [3, 2],
      [3, 2],
      [1, 2],
    ] as const) {
      const before = held;
      held = again.next(sequences, sequence, held);
      expect(held).toEqual(fresh.next(sequences, sequence));
      const same = before?.sequences === sequences && before.sequence === sequence;
      expect(held === before).toBe(same);
    }
  });

  test('the order changes from epoch to epoch and with the seed', () => {
    const epochOf = (packer: Packer) => packer.next(packer.tokensPerEpoch, 1).ids.join(' ');
    const one = new Packer(documents, options);
    const other = new Packer(documents, { ...options, seed: 8 });
    const orders = [epochOf(one), epochOf(one), epochOf(one), epochOf(other)];
    expect(new Set(orders).size).toBe(4);
    expect(epochOf(new Packer(documents, options))).toBe(orders[0]);
  });

  test('the order of a seed and an epoch never changes: runs resume in it', () => {
    const single = Array.from({ length: 9 }, (_, i) => Int32Array.of(i));
    const ordered = (packer: Packer): number[] =>
      [...packer.next(packer.tokensPerEpoch, 1).ids].filter((token) => token !== 256);
    const packer = new Packer(single, options);
    expect(ordered(packer)).toEqual([4, 7, 2, 3, 5, 1, 6, 0, 8]);
    expect(ordered(packer)).toEqual([6, 2, 5, 8, 1, 4, 0, 7, 3]);
    const other = new Packer(single, { ...options, seed: 8 });
    expect(ordered(other)).toEqual([3, 0, 5, 4, 1, 8, 6, 2, 7]);
  });

  test('every document comes first equally often', () => {
    const packer = new Packer(
      Array.from({ length: 4 }, (_, i) => Int32Array.of(i)),
      options,
    );
    const firsts = [0, 0, 0, 0];
    for (let epoch = 0; epoch < 4000; epoch += 1) firsts[packer.next(4, 2).ids[0]] += 1;
    // 1000 ± 5 standard deviations.
    for (const count of firsts) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt(750));
  });

  test('the stream does not depend on how it is cut, and every target is the next input', () => {
    const whole = new Packer(documents, options).next(1, packerLength());
    const packer = new Packer(documents, options);
    const ids: number[] = [];
    const targets: number[] = [];
    const inputs: number[] = [];
    for (const [sequences, sequence] of [
      [2, 5],
      [1, 7],
      [3, 4],
    ]) {
      const batch = packer.next(sequences, sequence);
      ids.push(...batch.ids);
      targets.push(...batch.targets);
      inputs.push(...batch.documents.inputs);
    }
    expect(ids).toEqual([...whole.ids.slice(0, ids.length)]);
    expect(inputs).toEqual([...whole.documents.inputs.slice(0, ids.length)]);
    expect(targets.slice(0, -1)).toEqual(ids.slice(1));
  });

  test('a separator belongs to the document that it ends, so that MTP targets stop there', () => {
    const packer = new Packer([Int32Array.of(1, 2, 3), Int32Array.of(4, 5, 6)], options);
    const batch = packer.next(1, 7);
    const [first] = batch.ids;
    const text = first === 1 ? [1, 2, 3, 256, 4, 5, 6] : [4, 5, 6, 256, 1, 2, 3];
    expect([...batch.ids]).toEqual(text);
    expect([...batch.documents.inputs]).toEqual([0, 0, 0, 0, 1, 1, 1]);
    expect([...batch.documents.targets]).toEqual([0, 0, 0, 1, 1, 1, 1]);
    const sizes = { batch: 1, length: 7, depth: 1 };
    const [, second, third] = text;
    expect([...mtpTargets(batch.targets, batch.documents, sizes)]).toEqual([
      third,
      256,
      -1,
      -1,
      text[6],
      256,
    ]);
    expect(second).toBe(text[1]);
  });

  test('a packer resumed from JSON goes on to the token, at every place of three epochs', () => {
    const packer = new Packer(documents, options);
    for (let step = 0; packer.epoch < 3; step += 1) {
      const state = copyOf(packer);
      const resumed = new Packer(documents, options);
      resumed.restore(state);
      expect(resumed.state()).toEqual(state);
      expect(resumed.epoch).toBe(packer.epoch);
      const expected: TokenBatch = packer.next(1 + (step % 3), 3);
      expect(resumed.next(1 + (step % 3), 3)).toEqual(expected);
    }
  });

  test('text shorter than one sequence is refused before anything is given', () => {
    const packer = new Packer([Int32Array.of(1, 2, 3)], options);
    expect(() => packer.next(1, 4)).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_DATA_SHORT',
        message:
          'the training text has 4 tokens: a sequence of 4 and the token after it do not fit',
      }) as Error,
    );
    expect(packer.tokens).toBe(0);
    expect([...packer.next(1, 3).targets]).toEqual([2, 3, 256]);
  });

  test('no text at all is refused', () => {
    expect(() => new Packer([new Int32Array(0)], options)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_DATA_EMPTY' }) as Error,
    );
  });

  test('a cursor of other data, another seed or out of range is refused and changes nothing', () => {
    const packer = new Packer(documents, options);
    packer.next(2, 9);
    const state = copyOf(packer);
    const moved = documents.map((tokens) => tokens.slice());
    moved[3][0] ^= 1;
    for (const [other, message] of [
      [new Packer(moved, options), 'training text'],
      [new Packer(documents.slice(1), options), 'training text'],
      [new Packer(documents, { ...options, seed: 8 }), 'seed 7, not 8'],
    ] as const)
      expect(() => {
        other.restore(state);
      }).toThrow(message);
    for (const damage of [{ document: 9 }, { document: -1 }, { offset: 99 }, { epoch: 0.5 }])
      expect(() => {
        packer.restore({ ...state, ...damage });
      }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_DATA_CHANGED' }) as Error);
    expect(packer.state()).toEqual(state);
  });
});

function packerLength(): number {
  return new Packer(documents, options).tokensPerEpoch - 1;
}
