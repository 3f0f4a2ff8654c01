// FP8 checkpoints in DeepSeek-V3's layout: what an export holds, that it comes back as the codec has it, and that what
// PyTorch wrote is read as PyTorch reads it.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { loadKernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { afterAll, describe, expect, test } from 'vitest';

import { firstDifference, implementationsOf } from '../../../test/support';
import {
  checkpointPieces,
  configFromHuggingFace,
  configToHuggingFace,
  Decoder,
  isSharedCopy,
  loadWeights,
  quantizationFromHuggingFace,
  type TensorSource,
  weightsToWrite,
} from '../src/index';
import {
  type ExportOptions,
  exportCheckpoint,
  openSafetensors,
  openWeights,
  readConfig,
  writeShards,
} from '../src/node';
import { tensorBytes } from '../src/safetensors';
import { fileOf, sourceOf } from './memory';
import { emptyModel, inFp8, raggedModel, throughFp8 } from './ragged';
import { snapshot } from './small';
import { publishedConfig } from './v3';

const kernels = referenceKernels();
const model = raggedModel(kernels);
const scratch = mkdtempSync(join(tmpdir(), 'baleen-fp8-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

/** Loads a folder into a model. */
function load(folder: string, target: Decoder): string[] {
  return loadWeights(target, openWeights(folder), quantizationFromHuggingFace(readConfig(folder)));
}

function expectValues(target: Decoder, expected: ReadonlyMap<string, Float32Array>): void {
  for (const { name, data } of checkpointPieces(target))
    expect(firstDifference(data.readSync(), expected.get(name) ?? []), name).toBe(-1);
}

/** Which file of a folder holds a tensor. */
function shardOf(folder: string, name: string): string | undefined {
  return openWeights(folder).tensors.get(name)?.file;
}

describe.each(implementationsOf(kernels, loadKernels()))('%s kernels', (implementation, own) => {
  const mine = raggedModel(own);

  test.each(['fp32', 'powerOfTwo'] as const)(
    'masters come back as dequantise(quantise(masters)) to the bit, scales %s',
    (scaleFormat) => {
      const folder = join(scratch, `${implementation}-${scaleFormat}`);
      // A weight of 200 × 333 fills a file: its scales lie in the next.
      exportCheckpoint(folder, mine, { dtype: 'F8_E4M3', scaleFormat, maxShardBytes: 66_600 });
      const down = 'model.layers.0.mlp.down_proj.weight';
      expect(openWeights(folder).tensors.get(down)).toMatchObject({
        dtype: 'F8_E4M3',
        shape: [200, 333],
      });
      expect(shardOf(folder, `${down}_scale_inv`)).not.toBe(shardOf(folder, down));
      const copy = emptyModel(own);
      const versions = [...copy.parameters()].map(([, { version }]) => version);
      expect(load(folder, copy)).toEqual([]);
      expectValues(copy, throughFp8(mine, scaleFormat === 'powerOfTwo'));
      [...copy.parameters()].forEach(([name, { version }], index) => {
        expect(version, name).toBeGreaterThan(versions[index]);
      });
    },
  );
});

describe('an export', () => {
  test('has linear layers in FP8 beside one FP32 scale a block, router biases in F32, the rest in BF16', () => {
    const folder = join(scratch, 'types');
    exportCheckpoint(folder, model, { dtype: 'F8_E4M3' });
    const { tensors } = openWeights(folder);
    let scales = 0;
    for (const { name, data, isState } of checkpointPieces(model)) {
      expect(tensors.get(name), name).toMatchObject({
        dtype: isState ? 'F32' : inFp8(name) ? 'F8_E4M3' : 'BF16',
        shape: data.shape,
      });
      const scale = tensors.get(`${name}_scale_inv`);
      if (!inFp8(name)) expect(scale, name).toBeUndefined();
      else {
        scales += 1;
        expect(scale, name).toMatchObject({
          dtype: 'F32',
          shape: data.shape.map((size) => Math.ceil(size / 128)),
        });
      }
    }
    // The depth repeats embedding and head.
    const copies = [...tensors.keys()].filter((name) => isSharedCopy(name, model.config));
    expect(copies).toHaveLength(2 * model.config.mtp.depth);
    expect(tensors.size).toBe([...checkpointPieces(model)].length + scales + copies.length);
    expect(readdirSync(folder).sort()).toEqual([
      'config.json',
      'model-00001-of-00001.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(readConfig(folder)).toEqual(
      configToHuggingFace(model.config, 'bfloat16', { scaleFormat: 'fp32' }),
    );
  });

  test('of DeepSeek-V3 would have the published 91,991 tensors in 688,574,839,360 bytes', () => {
    const published = configFromHuggingFace(publishedConfig);
    const v3 = new Decoder(nullKernels(), published, 'fp8');
    // The release repeats embedding and head in its MTP layer.
    const entries = weightsToWrite(v3, { dtype: 'F8_E4M3' }, 'published');
    expect(entries).toHaveLength(91_991);
    const bytes = entries.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape), 0);
    expect(bytes).toBe(688_574_839_360);
    const of61 = entries.flatMap(
      ({ name }) => /^model\.layers\.61\.(?!self_attn|mlp)(.*)/.exec(name)?.[1] ?? [],
    );
    expect(of61.sort()).toEqual([
      'eh_proj.weight',
      'embed_tokens.weight',
      'enorm.weight',
      'hnorm.weight',
      'input_layernorm.weight',
      'post_attention_layernorm.weight',
      'shared_head.head.weight',
      'shared_head.norm.weight',
    ]);
    const main = weightsToWrite(v3, { dtype: 'F8_E4M3' }, 'none');
    expect(main.filter(({ name }) => name.startsWith('model.layers.61.'))).toEqual([]);
    expect(main.length).toBe(
      entries.filter(({ name }) => !name.startsWith('model.layers.61.')).length,
    );
    const sizes = new Map(entries.map(({ name, shape }) => [name, shape]));
    // The last row of blocks is ragged: 576 = 4.5 · 128.
    const ragged = 'model.layers.0.self_attn.kv_a_proj_with_mqa.weight';
    expect(sizes.get(ragged)).toEqual([576, 7168]);
    expect(sizes.get(`${ragged}_scale_inv`)).toEqual([5, 56]);
  });

  test('in BF16 or F32 has neither scales nor a quantization_config', () => {
    for (const [dtype, named] of [
      ['BF16', 'bfloat16'],
      ['F32', 'float32'],
    ] as const) {
      const folder = join(scratch, dtype);
      exportCheckpoint(folder, model, { dtype });
      const { tensors } = openWeights(folder);
      expect(
        [...tensors.keys()].filter((name) => !isSharedCopy(name, model.config)).sort(),
      ).toEqual([...checkpointPieces(model)].map(({ name }) => name).sort());
      expect(tensors.get('model.layers.0.mlp.down_proj.weight')).toMatchObject({ dtype });
      expect(readConfig(folder)).toEqual(configToHuggingFace(model.config, named));
      const copy = emptyModel(kernels);
      load(folder, copy);
      if (dtype === 'F32') expect(firstDifference(snapshot(copy), snapshot(model))).toBe(-1);
      // Tensors say themselves what they are: a quantization_config that was left behind is no obstacle.
      loadWeights(copy, openWeights(folder), { scaleFormat: 'powerOfTwo' });
    }
  });

  test('with powers of two says so', () => {
    const folder = join(scratch, 'ue8m0');
    exportCheckpoint(folder, model, { dtype: 'F8_E4M3', scaleFormat: 'powerOfTwo' });
    expect(readConfig(folder).quantization_config).toEqual({
      ...publishedConfig.quantization_config,
      scale_fmt: 'ue8m0',
    });
  });

  test('makes the bytes of a tensor once, and lays each on a multiple of its elements’ width', () => {
    const folder = join(scratch, 'once');
    mkdirSync(folder);
    const calls = new Map<string, number>();
    const counted = weightsToWrite(model, { dtype: 'F8_E4M3' }).map((tensor) => ({
      ...tensor,
      bytes: () => {
        calls.set(tensor.name, (calls.get(tensor.name) ?? 0) + 1);
        return tensor.bytes();
      },
    }));
    writeShards(folder, counted, 200_000);
    expect(calls.size).toBe(counted.length);
    expect(new Set(calls.values())).toEqual(new Set([1]));
    let odd = 0;
    for (const { bytes, dtype, start } of openWeights(folder).tensors.values()) {
      expect(start % tensorBytes(dtype, [])).toBe(0);
      odd += bytes % 4 === 0 ? 0 : 1;
    }
    expect(odd).toBeGreaterThan(0);
  });

  test('goes to a folder of its own, and is whole or not there', () => {
    const taken = join(scratch, 'taken');
    mkdirSync(taken);
    exportCheckpoint(taken, model, { dtype: 'BF16' }); // an empty folder will do
    const file = join(scratch, 'file');
    writeFileSync(file, '');
    for (const path of [taken, file])
      expect(() => {
        exportCheckpoint(path, model, { dtype: 'F8_E4M3' });
      }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_EXISTS', path }));
    expect(readConfig(taken)).not.toHaveProperty('quantization_config');
    for (const [format, path] of [
      [{ dtype: 'FP8' }, 'dtype'],
      [{ dtype: 'F8_E4M3', scaleFormat: 'ue8m0' }, 'scaleFormat'],
    ] as const)
      expect(() => {
        exportCheckpoint(join(scratch, 'unknown'), model, format as unknown as ExportOptions);
      }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_FORMAT', path }));
    const broken = Object.create(model, {
      parameters: {
        value: () => {
          throw new Error('no more');
        },
      },
    }) as Decoder;
    const before = readdirSync(scratch);
    expect(() => {
      exportCheckpoint(join(scratch, 'broken'), broken, { dtype: 'BF16' });
    }).toThrow('no more');
    expect(readdirSync(scratch)).toEqual(before);
  });
});

test('loading holds one tensor of the file at a time', () => {
  const file = sourceOf(fileOf(weightsToWrite(model, { dtype: 'F8_E4M3' })));
  // Every read lands in the same memory: whoever kept an earlier one would now find another tensor in it.
  const memory = new Uint8Array(200_000);
  const source: TensorSource = {
    ...file,
    read: (name) => {
      const bytes = file.read(name);
      memory.set(bytes);
      return memory.subarray(0, bytes.length);
    },
  };
  const copy = emptyModel(kernels);
  loadWeights(copy, source, { scaleFormat: 'fp32' });
  expectValues(copy, throughFp8(model));
});

describe.each(['fp8-tiny', 'fp8-tiny-ue8m0'])('%s, written by PyTorch', (name) => {
  const folder = join(import.meta.dirname, 'fixtures', name);
  const json = readConfig(folder);
  const config = configFromHuggingFace(json);

  test.each(implementationsOf(kernels, loadKernels()))('is read on %s kernels', (_, own) => {
    const read = new Decoder(own, config, 'fp8');
    expect(load(folder, read)).toEqual([]);
    const expected = openSafetensors(join(folder, 'expected.safetensors'));
    let compared = 0;
    for (const { name: key, data } of checkpointPieces(read)) {
      if (!expected.tensors.has(key)) continue;
      compared += 1;
      const values = new Float32Array(expected.read(key).slice().buffer);
      expect(firstDifference(data.readSync(), values), key).toBe(-1);
    }
    expect(compared).toBe(expected.tensors.size);
    // Written again it says the same of itself, and has the same codes.
    const again = join(scratch, `${name}-${own.implementation}`);
    const quantization = quantizationFromHuggingFace(json);
    exportCheckpoint(again, read, { dtype: 'F8_E4M3', ...quantization });
    expect(readConfig(again).quantization_config).toEqual(json.quantization_config);
    const [first, second] = [folder, again].map((path) => openWeights(path));
    expect([...second.tensors.keys()].sort()).toEqual([...first.tensors.keys()].sort());
    for (const [key, { dtype }] of first.tensors)
      if (dtype === 'F8_E4M3')
        expect(firstDifference(second.read(key), first.read(key)), key).toBe(-1);
  });

  test('keeps the scales in a file of their own', () => {
    const files = readdirSync(folder).filter((file) => file.startsWith('model-'));
    const kinds = files.map((file) => {
      const { tensors } = openSafetensors(join(folder, file));
      return new Set([...tensors.values()].map(({ dtype }) => dtype));
    });
    const format = name.endsWith('ue8m0') ? 'F8_E8M0' : 'F32';
    expect(kinds).toEqual([new Set(['BF16', 'F8_E4M3']), new Set([format])]);
  });
});
