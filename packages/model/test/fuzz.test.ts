// Seeded mutations of checkpoint files and configurations: whatever they hold, they are read right or refused with a
// code, and what is accepted keeps its promises.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { encodeArray, nullKernels, referenceKernels } from '@baleen/kernels';
import { yarnBeyond } from '@baleen/mla';
import { afterAll, expect, test } from 'vitest';

import { firstDifference, mutateJson, randomFrom } from '../../../test/support';
import {
  checkConfig,
  checkpointPieces,
  configFromHuggingFace,
  configToHuggingFace,
  countParameters,
  Decoder,
  type HuggingFaceConfig,
  headerLength,
  loadWeights,
  parseHeader,
  type TensorEntry,
  weightsToWrite,
} from '../src/index';
import { openSafetensors } from '../src/node';
import { fileOf, sourceOf } from './memory';
import { smallConfig, smallModel, snapshot } from './small';

const scratch = mkdtempSync(join(tmpdir(), 'baleen-fuzz-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

const mixed = fileOf([
  { name: 'a', dtype: 'F32', shape: [2, 3], bytes: () => new Uint8Array(24).fill(1) },
  { name: 'b', dtype: 'BF16', shape: [5], bytes: () => new Uint8Array(10).fill(2) },
  { name: 'empty', dtype: 'F32', shape: [0, 7], bytes: () => new Uint8Array(0) },
  { name: 'c', dtype: 'U8', shape: [1, 1, 4], bytes: () => new Uint8Array(4).fill(3) },
  { name: 'd', dtype: 'F8_E4M3', shape: [3, 5], bytes: () => new Uint8Array(15).fill(4) },
  { name: 'd_scale_inv', dtype: 'F8_E8M0', shape: [1, 1], bytes: () => new Uint8Array(1).fill(5) },
]);

/** Runs something that may only fail with a code of its own. */
function attempt<T>(code: RegExp, body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    const { code: got, hint, message } = error as { code?: string; hint?: string; message: string };
    expect(got ?? message).toMatch(code);
    expect(hint).toBeTruthy();
    return undefined;
  }
}

/** What an accepted header promises: its tensors fill the file after the header without gap or overlap. */
function expectWhole(tensors: ReadonlyMap<string, TensorEntry>, first: number, size: number): void {
  let end = first;
  const inOrder = [...tensors.values()].sort((a, b) => a.start - b.start || a.bytes - b.bytes);
  for (const { start, bytes, shape } of inOrder) {
    expect(start).toBe(end);
    expect(shape.every((length) => Number.isSafeInteger(length) && length >= 0)).toBe(true);
    end += bytes;
  }
  expect(end).toBe(size);
}

/** A damaged safetensors file. */
function damaged(random: () => number, original: Uint8Array): Uint8Array {
  const length = headerLength(original.subarray(0, 8), original.length, 'original');
  const choice = random();
  if (choice < 0.4) {
    // The header says something else, in valid JSON and with its right length.
    const header: unknown = JSON.parse(new TextDecoder().decode(original.subarray(8, 8 + length)));
    let text = JSON.stringify(mutateJson(header, random));
    if (random() < 0.5) text = text.padEnd(length);
    const json = new TextEncoder().encode(text);
    const file = new Uint8Array(8 + json.length + original.length - 8 - length);
    new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
    file.set(json, 8);
    file.set(original.subarray(8 + length), 8 + json.length);
    return file;
  }
  if (choice < 0.6) return original.slice(0, Math.floor(random() * original.length)); // truncated
  if (choice < 0.7) {
    const longer = new Uint8Array(original.length + 1 + Math.floor(random() * 20));
    longer.set(original);
    return longer;
  }
  const file = original.slice();
  const span = random() < 0.3 ? 8 : 8 + length;
  for (let count = 1 + Math.floor(random() * 3); count > 0; count -= 1)
    file[Math.floor(random() * span)] = Math.floor(random() * 256);
  return file;
}

test('headers: 4,000 damaged files are read whole or refused', () => {
  const random = randomFrom(1);
  let accepted = 0;
  for (let round = 0; round < 4000; round += 1) {
    const file = damaged(random, mixed);
    attempt(/^ERR_BALEEN_CHECKPOINT_CORRUPT$/, () => {
      const length = headerLength(file.subarray(0, 8), file.length, 'file');
      const { tensors } = parseHeader(file.subarray(8, 8 + length), file.length, 'file');
      expectWhole(tensors, 8 + length, file.length);
      accepted += 1;
    });
  }
  // Some mutations are harmless (a name, a space); most are not.
  expect(accepted).toBeGreaterThan(20);
  expect(accepted).toBeLessThan(2000);
});

test('files: 150 damaged files on disk, every tensor of what opens can be read', () => {
  const random = randomFrom(2);
  const path = join(scratch, 'model.safetensors');
  let opened = 0;
  for (let round = 0; round < 150; round += 1) {
    writeFileSync(path, damaged(random, mixed));
    const source = attempt(/^ERR_BALEEN_CHECKPOINT_CORRUPT$/, () => openSafetensors(path));
    if (!source) continue;
    opened += 1;
    for (const [name, { bytes }] of source.tensors) expect(source.read(name)).toHaveLength(bytes);
    expect(() => source.read('not there')).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_ABSENT' }),
    );
  }
  expect(opened).toBeGreaterThan(0);
});

test('FP8 checkpoints: 1,000 damaged ones load whole and finite, or are refused and change nothing', () => {
  const random = randomFrom(4);
  const kernels = referenceKernels();
  const changes = { hiddenSize: 130, layers: 1, mtp: { depth: 0 } };
  const model = smallModel(kernels, changes);
  // Scales in F32, and powers of two in F8_E8M0.
  const files = {
    fp32: fileOf(weightsToWrite(model, { dtype: 'F8_E4M3' })),
    powerOfTwo: fileOf(
      weightsToWrite(model, { dtype: 'F8_E4M3', scaleFormat: 'powerOfTwo' }).map((tensor) => {
        if (!tensor.name.endsWith('_scale_inv')) return tensor;
        const scales = new Float32Array(tensor.bytes().slice().buffer);
        return { ...tensor, dtype: 'F8_E8M0', bytes: () => encodeArray(scales, 'e8m0') };
      }),
    ),
  };
  const target = smallModel(kernels, changes);
  const fill = (): void => {
    for (const [, { data }] of [...target.parameters(), ...target.states()]) kernels.fill(data, 1);
  };
  fill();
  const untouched = snapshot(target);
  const loaded = { fp32: 0, powerOfTwo: 0 };
  for (let round = 0; round < 1000; round += 1) {
    const written = random() < 0.5 ? 'fp32' : 'powerOfTwo';
    const file = files[written];
    const start = 8 + headerLength(file.subarray(0, 8), file.length, 'file');
    let bytes: Uint8Array;
    if (random() < 0.5) bytes = damaged(random, file);
    else {
      // Codes and scales, which every header leaves open.
      bytes = file.slice();
      for (let count = 1 + Math.floor(random() * 3); count > 0; count -= 1)
        bytes[start + Math.floor(random() * (file.length - start))] = Math.floor(random() * 256);
    }
    const wrong = written === 'fp32' ? 'powerOfTwo' : 'fp32';
    const scaleFormat = random() < 0.9 ? written : wrong;
    const done = attempt(/^ERR_BALEEN_CHECKPOINT_/, () => {
      const source = sourceOf(bytes);
      loadWeights(target, source, { scaleFormat });
      return source.tensors;
    });
    if (!done) expect(firstDifference(snapshot(target), untouched)).toBe(-1);
    else {
      expect(scaleFormat).toBe(written);
      loaded[written] += 1;
      for (const { name, data } of checkpointPieces(target))
        if (done.get(name)?.dtype === 'F8_E4M3')
          expect(data.readSync().every(Number.isFinite), name).toBe(true);
      fill();
    }
  }
  // A changed code is another weight; a changed header or scale mostly none.
  for (const count of Object.values(loaded)) {
    expect(count).toBeGreaterThan(50);
    expect(count).toBeLessThan(300);
  }
});

test('configurations: 3,000 damaged config.json are refused or make a model that can exist', () => {
  const random = randomFrom(3);
  const yarn = {
    factor: 4,
    originalMaxSequence: 8,
    betaFast: 2,
    betaSlow: 1,
    mscale: 1,
    mscaleAllDim: 1,
  };
  const base = configToHuggingFace(
    { ...smallConfig, attention: { ...smallConfig.attention, yarn } },
    'bfloat16',
    { scaleFormat: 'powerOfTwo' },
  );
  let existing = 0;
  for (let round = 0; round < 3000; round += 1) {
    let json: unknown = base;
    for (let count = 1 + Math.floor(random() * 2); count > 0; count -= 1)
      json = mutateJson(json, random);
    const config = attempt(/^ERR_BALEEN_CHECKPOINT_CONFIG$/, () =>
      configFromHuggingFace(json as HuggingFaceConfig),
    );
    if (!config) continue;
    const possible = attempt(/^ERR_BALEEN_CONFIG_/, () => {
      checkConfig(config);
      return true;
    });
    if (!possible) continue;
    // YaRN that no sequence is long enough for is not written.
    const used = yarnBeyond(config.attention.yarn, config.maxSequence);
    const written = { ...config, attention: { ...config.attention, yarn: used } };
    expect(configFromHuggingFace(configToHuggingFace(config))).toEqual(written);
    const { total, trained } = countParameters(config);
    expect(total).toBeGreaterThan(0);
    // Small ones are built, on the backend that has no memory.
    if (total > 1e5 || config.maxSequence > 1e4 || existing >= 60) continue;
    existing += 1;
    expect(new Decoder(nullKernels(), config, 'fp32').parameterCount).toBe(trained);
  }
  expect(existing).toBe(60);
});
