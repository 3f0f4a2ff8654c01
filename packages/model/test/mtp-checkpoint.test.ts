// Multi-token prediction in checkpoints: read from the layers after the last, written there with the copies that published
// checkpoints have, and left out on request.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { loadKernels } from '@baleen/kernels';
import { afterAll, expect, test } from 'vitest';

import { configFromHuggingFace, Decoder, generate, isMtpTensor, loadWeights } from '../src/index';
import { exportCheckpoint, openWeights, readConfig } from '../src/node';

const scratch = mkdtempSync(join(tmpdir(), 'baleen-mtp-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

/** Three layers and two depths. */
const fixture = join(import.meta.dirname, 'fixtures', 'hf-tiny-mtp');
const source = openWeights(fixture);

/** A model of a folder, and what the folder holds beyond it. */
function read(folder: string, depth?: number): { model: Decoder; unused: string[] } {
  const config = configFromHuggingFace(readConfig(folder));
  const mtp = { depth: depth ?? config.mtp.depth };
  const model = new Decoder(loadKernels(), { ...config, mtp }, 'fp32');
  return { model, unused: loadWeights(model, openWeights(folder)) };
}

const { model } = read(fixture);

test('an export has the depths as layers after the last, each with copies of embedding and head', () => {
  const folder = join(scratch, 'with');
  exportCheckpoint(folder, model, { dtype: 'F32' });
  const written = openWeights(folder);
  const { tensors } = written;
  const copies = [3, 4].flatMap((layer) =>
    ['embed_tokens', 'shared_head.head'].map((part) => `model.layers.${layer}.${part}.weight`),
  );
  expect([...tensors.keys()].sort()).toEqual([...source.tensors.keys(), ...copies].sort());
  for (const part of ['enorm', 'hnorm', 'eh_proj', 'shared_head.norm'])
    expect(tensors.has(`model.layers.4.${part}.weight`), part).toBe(true);
  for (const name of source.tensors.keys())
    expect(Buffer.compare(written.read(name), source.read(name)), name).toBe(0);
  for (const name of copies) {
    const shared = name.includes('embed') ? 'model.embed_tokens.weight' : 'lm_head.weight';
    expect(Buffer.compare(written.read(name), source.read(shared)), name).toBe(0);
  }
  expect(readConfig(folder)).toMatchObject({ num_hidden_layers: 3, num_nextn_predict_layers: 2 });
  expect(read(folder).unused).toEqual([]);
  // A model with fewer depths leaves the rest of them.
  const { unused } = read(folder, 1);
  expect(unused.length).toBeGreaterThan(10);
  for (const name of unused) expect(name).toMatch(/^model\.layers\.4\./);
});

test('without multi-token prediction nothing of it is left, and the main model is the same', () => {
  const folder = join(scratch, 'without');
  exportCheckpoint(folder, model, { dtype: 'F32', mtp: false });
  const names = [...openWeights(folder).tensors.keys()];
  expect(names.sort()).toEqual(
    [...source.tensors.keys()].filter((name) => !isMtpTensor(name, 3)).sort(),
  );
  expect(readConfig(folder)).toMatchObject({ num_hidden_layers: 3, num_nextn_predict_layers: 0 });
  const alone = read(folder);
  expect(alone.unused).toEqual([]);
  expect(alone.model.mtp).toEqual([]);
  const prompt = Int32Array.of(5, 300, 17);
  const made = (of: Decoder): number[] => [...generate(of, prompt, { maxTokens: 12 })];
  expect(made(alone.model)).toEqual(made(model));
});

test('drafts of a depth that was read do not change the text', () => {
  const prompt = Int32Array.of(9, 41, 400, 2);
  const plain = [...generate(model, prompt, { maxTokens: 20 })];
  for (const drafts of [1, 2, 3])
    expect([...generate(model, prompt, { maxTokens: 20, drafts })]).toEqual(plain);
});
