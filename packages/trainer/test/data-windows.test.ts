// Evaluation windows: every held-out token is predicted once, with the context that its place allows.
import { describe, expect, test } from 'vitest';

import { heldOutWindows, someWindows, windowBatches } from '../src/data/index';
import { randomDocuments } from './data-random';

const documentEnd = 256;

describe('heldOutWindows', () => {
  test.each([
    [16, 0],
    [16, 0.5],
    [16, 0.9],
    [1, 0.5],
    [7, 0.99],
    [1000, 0.5],
  ])('sequence %i, stride %f: each token once, from its own document', (sequence, stride) => {
    const documents = [...randomDocuments(5, 20, 90), new Int32Array(0)];
    const context = Math.min(sequence - 1, Math.floor(sequence * stride));
    const seen = documents.map(({ length }) => new Int32Array(length));
    let place = 0;
    let last = -1;
    for (const window of heldOutWindows(documents, { documentEnd, sequence, stride })) {
      const tokens = documents[window.document];
      if (window.document !== last) place = 0;
      last = window.document;
      expect(window.ids.length).toBe(Math.min(sequence, tokens.length));
      const counted = window.targets.findIndex((target) => target >= 0);
      const start = place - counted;
      window.ids.forEach((id, i) => {
        expect(id).toBe(start + i === 0 ? documentEnd : tokens[start + i - 1]);
        if (i < counted) expect(window.targets[i]).toBe(-1);
        else {
          expect(window.targets[i]).toBe(tokens[start + i]);
          seen[window.document][start + i] += 1;
        }
      });
      if (start > 0) expect(counted).toBeGreaterThanOrEqual(context);
      expect(window.counted).toBe(window.ids.length - counted);
      place = start + window.ids.length;
    }
    for (const counts of seen) expect(counts.every((count) => count === 1)).toBe(true);
  });

  test('batches hold every window once, unpadded', () => {
    const documents = randomDocuments(6, 30, 60);
    const windows = heldOutWindows(documents, { documentEnd, sequence: 24, stride: 0.5 });
    const batches = windowBatches(windows, 4);
    const rows = batches.flatMap(({ ids, targets, documents: numbers, sequences, sequence }) => {
      expect(sequences).toBeLessThanOrEqual(4);
      return Array.from({ length: sequences }, (_, row) => {
        const [from, to] = [row * sequence, (row + 1) * sequence];
        expect(new Set(numbers.inputs.slice(from, to)).size).toBe(1);
        expect(numbers.targets).toEqual(numbers.inputs);
        return `${numbers.inputs[from]}: ${ids.slice(from, to).join()} > ${targets.slice(from, to).join()}`;
      });
    });
    expect(rows.sort()).toEqual(
      windows
        .map(({ document, ids, targets }) => `${document}: ${ids.join()} > ${targets.join()}`)
        .sort(),
    );
  });

  test('some windows are spread over all and about as many tokens as asked for', () => {
    const windows = heldOutWindows(randomDocuments(7, 50, 400), {
      documentEnd,
      sequence: 32,
      stride: 0.5,
    });
    const all = windows.reduce((sum, { counted }) => sum + counted, 0);
    expect(someWindows(windows, 0)).toEqual(windows);
    expect(someWindows(windows, all)).toEqual(windows);
    const some = someWindows(windows, all / 5);
    const counted = some.reduce((sum, window) => sum + window.counted, 0);
    expect(counted).toBeGreaterThan(all / 6);
    expect(counted).toBeLessThan(all / 4);
    expect(some[0].document).toBeLessThan(5);
    expect(some[some.length - 1].document).toBeGreaterThan(44);
    expect(someWindows(windows, 1)).toHaveLength(1);
  });
});
