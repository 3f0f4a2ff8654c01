// Checkpoints: what is written is read back to the bit, and what does not fit is refused before anything changes.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { decodeBf16, encodeBf16, referenceKernels } from '@baleen/kernels';
import { afterAll, describe, expect, test } from 'vitest';

import { firstDifference } from '../../../test/support';
import {
  checkpointNames,
  configFromHuggingFace,
  configToHuggingFace,
  type Decoder,
  decodeTensor,
  encodeTensor,
  loadWeights,
  makeHeader,
  parseHeader,
  type TensorToWrite,
  weightsToWrite,
} from '../src/index';
import {
  openSafetensors,
  openWeights,
  readConfig,
  writeConfig,
  writeSafetensors,
  writeShards,
} from '../src/node';
import { fileOf, sourceOf } from './memory';
import { smallConfig, smallModel, snapshot } from './small';
import { publishedConfig } from './v3';

const kernels = referenceKernels();
const scratch = mkdtempSync(join(tmpdir(), 'baleen-checkpoint-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});
const folder = (name: string): string => {
  const path = join(scratch, name);
  mkdirSync(path);
  return path;
};

/** The same model with other values. */
function other(): Decoder {
  const model = smallModel(kernels);
  for (const [, { data }] of [...model.parameters(), ...model.states()]) kernels.fill(data, 0.25);
  return model;
}

const model = smallModel(kernels);
const saved = snapshot(model);

/** The model's tensors with one changed or left out. */
function changed(change: (tensors: TensorToWrite[]) => TensorToWrite[]): Uint8Array {
  return fileOf(change(weightsToWrite(model)));
}

describe('what is written', () => {
  test('in one file comes back to the bit, and derived forms follow', () => {
    const path = join(folder('one'), 'model.safetensors');
    writeSafetensors(path, weightsToWrite(model), { step: '7' });
    expect(openSafetensors(path).metadata).toEqual({ format: 'pt', step: '7' });
    const copy = other();
    const versions = [...copy.parameters()].map(([, { version }]) => version);
    expect(loadWeights(copy, openWeights(join(scratch, 'one')))).toEqual([]);
    expect(firstDifference(snapshot(copy), saved)).toBe(-1);
    [...copy.parameters()].forEach(([name, { version }], index) => {
      expect(version, name).toBeGreaterThan(versions[index]);
    });
    expect(readdirSync(join(scratch, 'one'))).toEqual(['model.safetensors']);
  });

  test('in shards comes back to the bit, none larger than asked', () => {
    const path = folder('shards');
    writeShards(path, weightsToWrite(model), 4000);
    const files = readdirSync(path).filter((name) => name.endsWith('.safetensors'));
    expect(files.length).toBeGreaterThan(3);
    for (const [index, file] of files.entries()) {
      expect(file).toBe(
        `model-${String(index + 1).padStart(5, '0')}-of-${String(files.length).padStart(5, '0')}.safetensors`,
      );
      const { tensors } = openSafetensors(join(path, file));
      const bytes = [...tensors.values()].reduce((sum, entry) => sum + entry.bytes, 0);
      expect(bytes <= 4000 || tensors.size === 1).toBe(true);
    }
    const index = JSON.parse(readFileSync(join(path, 'model.safetensors.index.json'), 'utf8')) as {
      metadata: { total_size: number };
    };
    expect(index.metadata.total_size).toBe(saved.byteLength);
    const copy = other();
    loadWeights(copy, openWeights(path));
    expect(firstDifference(snapshot(copy), saved)).toBe(-1);
  });

  test('in BF16 comes back rounded, router biases to the bit', () => {
    const copy = other();
    const file = fileOf(weightsToWrite(model, { dtype: 'BF16' }));
    loadWeights(copy, sourceOf(file));
    const rounded = saved.map((value, i) =>
      i < model.parameterCount ? decodeBf16(encodeBf16(value)) : value,
    );
    expect(firstDifference(snapshot(copy), rounded)).toBe(-1);
  });

  test('carries the names that others know', () => {
    const names = weightsToWrite(model).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of [
      'model.embed_tokens.weight',
      'lm_head.weight',
      'model.norm.weight',
      'model.layers.0.mlp.gate_proj.weight',
      'model.layers.1.self_attn.kv_a_proj_with_mqa.weight',
      'model.layers.1.mlp.experts.3.down_proj.weight',
      'model.layers.1.mlp.gate.e_score_correction_bias',
      'model.layers.2.eh_proj.weight',
      'model.layers.3.shared_head.norm.weight',
      'model.layers.3.mlp.shared_experts.up_proj.weight',
    ])
      expect(names).toContain(name);
  });

  test('begins its data on a multiple of 8 bytes; empty tensors keep their place', () => {
    const entries = [
      { name: 'a', dtype: 'F32', shape: [3] },
      { name: 'b', dtype: 'BF16', shape: [2, 0] },
      { name: 'c', dtype: 'U8', shape: [] },
    ] as const;
    const header = makeHeader(entries);
    expect(header.length % 8).toBe(0);
    const { tensors } = parseHeader(header.subarray(8), header.length + 13, 'file');
    expect([...tensors.keys()].sort()).toEqual(['a', 'b', 'c']);
    expect(tensors.get('b')).toMatchObject({ bytes: 0, start: header.length + 12 });
    expect(tensors.get('c')).toMatchObject({ bytes: 1, shape: [] });
  });
});

describe('what does not fit is refused and changes nothing', () => {
  const drop =
    (name: string) =>
    (tensors: TensorToWrite[]): TensorToWrite[] =>
      tensors.filter((tensor) => tensor.name !== name);
  const replace =
    (name: string, change: Partial<TensorToWrite>) =>
    (tensors: TensorToWrite[]): TensorToWrite[] =>
      tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor));
  const bias = 'model.layers.1.mlp.gate.e_score_correction_bias';
  const floats =
    (...list: number[]) =>
    () =>
      new Uint8Array(Float32Array.from(list).buffer);

  test.each<[string, string, (tensors: TensorToWrite[]) => TensorToWrite[], string]>([
    ['a tensor missing', 'MISSING', drop('model.norm.weight'), 'model.norm.weight'],
    [
      'a tensor the model does not have',
      'UNEXPECTED',
      (list) => [...list, { name: 'model.x', dtype: 'F32', shape: [1], bytes: floats(1) }],
      'model.x',
    ],
    [
      'another shape',
      'SHAPE',
      replace('model.norm.weight', { shape: [3, 4] }),
      "is [3, 4] in file, the model's is [12]",
    ],
    [
      'a type that needs converting',
      'TYPE',
      replace('model.norm.weight', { dtype: 'F8_E5M2', bytes: () => new Uint8Array(12) }),
      'model.norm.weight is F8_E5M2 in file',
    ],
    // NVIDIA's TensorRT connectors refuse these since their PR 669.
    [
      'a router bias that is NaN: non-finite bias is accepted',
      'NOT_FINITE',
      replace(bias, { bytes: floats(0, NaN, 0, 0) }),
      bias,
    ],
    [
      'a router bias that is infinite: non-finite bias is accepted',
      'NOT_FINITE',
      replace(bias, { bytes: floats(0, 0, 0, -Infinity) }),
      bias,
    ],
  ])('%s', (_name, code, change, message) => {
    const target = other();
    const before = snapshot(target);
    const load = (): unknown => loadWeights(target, sourceOf(changed(change)));
    expect(load).toThrow(expect.objectContaining({ code: `ERR_BALEEN_CHECKPOINT_${code}` }));
    expect(load).toThrow(message);
    expect(firstDifference(snapshot(target), before)).toBe(-1);
  });

  test('depths beyond the model’s own are named and left out; copies of embedding and head are nobody’s loss', () => {
    const shallow = smallModel(kernels, { mtp: { depth: 0 } });
    const copies: TensorToWrite[] = ['embed_tokens', 'shared_head.head'].map((part) => ({
      name: `model.layers.2.${part}.weight`,
      dtype: 'F32',
      shape: [20, 12],
      bytes: () => new Uint8Array(960),
    }));
    const unused = loadWeights(shallow, sourceOf(changed((list) => [...list, ...copies])));
    const mtp = weightsToWrite(model).map(({ name }) => name);
    expect(unused).toEqual(mtp.filter((name) => /^model\.layers\.[23]\./.test(name)));
  });
});

describe('files', () => {
  test.each<[string, (path: string) => void, string, string]>([
    ['no weights', () => undefined, 'ABSENT', 'model.safetensors'],
    [
      'an index that is not JSON',
      (path) => {
        writeFileSync(join(path, 'model.safetensors.index.json'), '{');
      },
      'CORRUPT',
      'is not JSON',
    ],
    ...['null', '[]', '{"weight_map": 3}'].map(
      (text): [string, (path: string) => void, string, string] => [
        `an index that holds ${text}`,
        (path) => {
          writeFileSync(join(path, 'model.safetensors.index.json'), text);
        },
        'CORRUPT',
        'weight_map',
      ],
    ),
    ...['../model.safetensors', '..', 'a\\b'].map(
      (file): [string, (path: string) => void, string, string] => [
        `a shard at ${file}`,
        (path) => {
          const map = JSON.stringify({ weight_map: { x: file } });
          writeFileSync(join(path, 'model.safetensors.index.json'), map);
        },
        'CORRUPT',
        'outside the folder',
      ],
    ),
    [
      'a folder where the file should be',
      (path) => {
        mkdirSync(join(path, 'model.safetensors'));
      },
      'ABSENT',
      'is not a file',
    ],
    [
      'an empty file',
      (path) => {
        writeFileSync(join(path, 'model.safetensors'), '');
      },
      'CORRUPT',
      'not even a header',
    ],
  ])('%s is an error that says so', (name, prepare, code, message) => {
    const path = folder(name.replaceAll(/[^a-z0-9]/gi, '-'));
    prepare(path);
    expect(() => openWeights(path)).toThrow(message);
    expect(() => openWeights(path)).toThrow(
      expect.objectContaining({ code: `ERR_BALEEN_CHECKPOINT_${code}` }),
    );
  });

  test('a shard that lacks what the index promises', () => {
    const path = folder('promises');
    writeSafetensors(join(path, 'a.safetensors'), []);
    writeFileSync(
      join(path, 'model.safetensors.index.json'),
      JSON.stringify({ weight_map: { x: 'a.safetensors' } }),
    );
    expect(() => openWeights(path)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_ABSENT' }),
    );
  });

  test('a save that fails leaves the earlier file whole and nothing else', () => {
    const path = folder('interrupted');
    const file = join(path, 'model.safetensors');
    writeSafetensors(file, weightsToWrite(model));
    const before = readFileSync(file);
    const broken = weightsToWrite(model).map((tensor, index) =>
      index === 5
        ? {
            ...tensor,
            bytes: () => {
              throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
            },
          }
        : tensor,
    );
    expect(() => {
      writeSafetensors(file, broken);
    }).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_IO_DISK_FULL', path: file }));
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(path)).toEqual(['model.safetensors']);
  });

  test('config.json', () => {
    const path = folder('config');
    expect(() => readConfig(path)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_ABSENT' }),
    );
    writeFileSync(join(path, 'config.json'), JSON.stringify(configToHuggingFace(smallConfig)));
    expect(configFromHuggingFace(readConfig(path))).toEqual(smallConfig);
    const v3 = configFromHuggingFace(publishedConfig);
    const written = configToHuggingFace(v3, 'bfloat16', { scaleFormat: 'fp32' });
    expect(configFromHuggingFace(written)).toEqual(v3);
    // Every key that Baleen writes has the published value.
    const published = publishedConfig as Record<string, unknown>;
    for (const [key, value] of Object.entries(written)) expect(value, key).toEqual(published[key]);
    expect(written).toHaveProperty('quantization_config');
    expect(configToHuggingFace(v3, 'bfloat16')).not.toHaveProperty('quantization_config');
  });

  test('config.json tells floating-point numbers from integers, as readers in Python do', () => {
    const path = folder('floats');
    const config = { ...smallConfig, moe: { ...smallConfig.moe, routedScaling: 2 } };
    writeConfig(path, configToHuggingFace(config));
    const text = readFileSync(join(path, 'config.json'), 'utf8');
    expect(text).toContain('"routed_scaling_factor": 2.0,');
    expect(text).toContain('"attention_dropout": 0.0,');
    expect(text).toContain(`"vocab_size": ${config.vocabSize},`);
    expect(configFromHuggingFace(readConfig(path))).toEqual(config);
  });

  test('config.json of other gates', () => {
    const withMoe = (changes: Partial<typeof smallConfig.moe>): typeof smallConfig => ({
      ...smallConfig,
      moe: { ...smallConfig.moe, ...changes },
    });
    for (const changes of [
      { gate: 'softmax', groupBest: 1 },
      { gate: 'softmax' },
      { groupBest: 1 },
      { groupBest: 3 },
    ] as const) {
      const config = withMoe(changes);
      expect(configFromHuggingFace(configToHuggingFace(config))).toEqual(config);
    }
    const v2 = configToHuggingFace(withMoe({ gate: 'softmax', groupBest: 1 }));
    expect(v2).toMatchObject({
      model_type: 'deepseek_v2',
      scoring_func: 'softmax',
      topk_method: 'group_limited_greedy',
    });
    // As V2-Lite has it: no groups, whatever their keys say.
    const greedy = { ...v2, topk_method: 'greedy', n_group: 1, topk_group: 1 };
    expect(configFromHuggingFace(greedy).moe).toEqual(
      withMoe({ gate: 'softmax', groupBest: 1, groups: 1, groupsPerToken: 1 }).moe,
    );
    const unnamed = { ...greedy, topk_method: undefined, scoring_func: undefined };
    expect(configFromHuggingFace(unnamed)).toEqual(configFromHuggingFace(greedy));
    expect(() => configFromHuggingFace({ ...v2, topk_method: 'expert_choice' })).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_CHECKPOINT_CONFIG',
        path: 'config.json.topk_method',
      }),
    );
  });

  test('a checkpoint of V2 has no router biases: they are 0; one of V3 must have them', () => {
    const withoutBiases = changed((tensors) =>
      tensors.filter(({ name }) => !name.endsWith('e_score_correction_bias')),
    );
    const v2 = smallModel(kernels, { moe: { ...smallConfig.moe, gate: 'softmax' } });
    loadWeights(v2, sourceOf(withoutBiases));
    for (const router of v2.routers)
      expect([...router.bias.readSync()].every((bias) => bias === 0)).toBe(true);
    expect(() => loadWeights(other(), sourceOf(withoutBiases))).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_MISSING' }),
    );
  });
});

test('values are decoded from bytes wherever they lie', () => {
  const list = Float32Array.of(1.5, -2, 0.25);
  for (const dtype of ['F32', 'BF16'] as const)
    for (const offset of [0, 1, 2, 3]) {
      const encoded = encodeTensor(list, dtype);
      const bytes = Buffer.alloc(offset + encoded.length).subarray(offset);
      bytes.set(encoded);
      const entry = { file: 'file', dtype, shape: [3], start: 0, bytes: encoded.length };
      expect(decodeTensor(entry, bytes, 'x'), `${dtype} at ${offset}`).toEqual(list);
    }
});

test('a parameter that checkpoints do not know is named in the refusal', () => {
  for (const name of ['layers.0.attention.colour', 'colour', 'layers.x.norm.weight'])
    expect(() => checkpointNames(name, 2)).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_CHECKPOINT_NAME',
        path: name,
        message: `checkpoints have no name for the parameter ${name}`,
      }) as Error,
    );
});
