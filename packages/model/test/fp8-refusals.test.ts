// What is wrong with an FP8 checkpoint is named with file, tensor and value, and refused before anything changes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { loadKernels } from '@baleen/kernels';
import { afterAll, describe, expect, test } from 'vitest';

import { firstDifference } from '../../../test/support';
import {
  configFromHuggingFace,
  configToHuggingFace,
  encodeTensor,
  loadWeights,
  quantizationFromHuggingFace,
  type TensorToWrite,
  type WeightQuantization,
  weightsToWrite,
} from '../src/index';
import { openWeights, writeSafetensors } from '../src/node';
import { bytesOf, type Change, changeValues, drop, replace } from './changes';
import { fileOf, sourceOf } from './memory';
import { emptyModel, raggedModel } from './ragged';
import { smallConfig, snapshot } from './small';

const kernels = loadKernels();
const model = raggedModel(kernels);
const written = weightsToWrite(model, { dtype: 'F8_E4M3' });
const weight = 'model.layers.0.mlp.down_proj.weight'; // [200, 333]
const scales = `${weight}_scale_inv`; // [2, 3]
const norm = 'model.norm.weight';

const scaleValues = (): Float32Array => new Float32Array(bytesOf(written, scales).buffer);

/** The scales with some changed. */
const withScales = (change: (values: Float32Array) => void): Change => changeValues(scales, change);
/** The codes with one changed. */
const withCode = (at: number, code: number): Change => {
  const codes = bytesOf(written, weight);
  codes[at] = code;
  return replace(weight, { bytes: () => codes });
};

/** Loads a changed checkpoint; says what was refused, with the model as it was. */
function refusal(
  change: Change,
  quantization: WeightQuantization | null = { scaleFormat: 'fp32' },
): { code: string; path: string; message: string; hint: string } {
  const target = emptyModel(kernels);
  const before = snapshot(target);
  let error: unknown;
  try {
    loadWeights(target, sourceOf(fileOf(change(written)), 'weights.safetensors'), quantization);
  } catch (thrown) {
    error = thrown;
  }
  expect(firstDifference(snapshot(target), before)).toBe(-1);
  const { code, path, message, hint } = error as ReturnType<typeof refusal>;
  return { code: code.replace('ERR_BALEEN_CHECKPOINT_', ''), path, message, hint };
}

const powerOfTwo: WeightQuantization = { scaleFormat: 'powerOfTwo' };
const e8m0: Change = replace(scales, {
  dtype: 'F8_E8M0',
  bytes: () => new Uint8Array(6).fill(110),
});

describe('of an FP8 weight is refused', () => {
  test.each<[string, Change, WeightQuantization | null | undefined, string, string, string[]]>([
    [
      'codes without a quantization_config',
      (list) => list,
      null,
      'TYPE',
      'is F8_E4M3 in weights.safetensors, and no quantization_config says how it is scaled',
      ['quantizationFromHuggingFace(config)'],
    ],
    [
      'missing scales',
      drop(scales),
      undefined,
      'MISSING',
      `${weight} is F8_E4M3 in weights.safetensors, and weights.safetensors holds no ${scales}`,
      ['codes mean nothing without their scales'],
    ],
    [
      'scales of a transposed matrix',
      replace(scales, { shape: [3, 2] }),
      undefined,
      'SHAPE',
      `${scales} is [3, 2] in weights.safetensors, expected [2, 3]: one scale for each 128×128 block of [200, 333]`,
      ['ragged'],
    ],
    [
      'one scale for the whole tensor',
      replace(scales, { shape: [], bytes: () => new Uint8Array(4) }),
      undefined,
      'SHAPE',
      `${scales} is [] in weights.safetensors`,
      [],
    ],
    [
      'scales in BF16',
      replace(scales, { dtype: 'BF16', bytes: () => encodeTensor(scaleValues(), 'BF16') }),
      undefined,
      'TYPE',
      `${scales} is BF16 in weights.safetensors, expected F32`,
      ['store scales in F32'],
    ],
    [
      'bytes of exponents in U8',
      replace(scales, { dtype: 'U8', bytes: () => new Uint8Array(6).fill(110) }),
      powerOfTwo,
      'TYPE',
      `${scales} is U8`,
      [],
    ],
    [
      'F8_E8M0 scales where config.json has FP32 ones',
      e8m0,
      undefined,
      'TYPE',
      `${scales} is F8_E8M0 in weights.safetensors, but config.json says nothing of powers of two`,
      ['scale_fmt'],
    ],
    [
      'FP32 scales under scale_fmt ue8m0',
      (list) => list,
      powerOfTwo,
      'SCALE',
      'no power of two, but config.json has quantization_config.scale_fmt "ue8m0"',
      ['remove scale_fmt', 'do not round'],
    ],
    ...([0, -1, NaN, Infinity, 2 ** 120] as const).map(
      (value): [string, Change, undefined, string, string, string[]] => [
        `a scale that is ${value}`,
        withScales((values) => {
          values[4] = value;
        }),
        undefined,
        'SCALE',
        `${scales}[1, 1] is ${value} in weights.safetensors, expected a number above 0`,
        ['max(amax, 1e-4) / 448'],
      ],
    ),
    [
      'a code that is NaN',
      withCode(2 * 333 + 130, 0xff),
      undefined,
      'NOT_FINITE',
      `${weight}[2, 130] is NaN in weights.safetensors`,
      ['earlier checkpoint'],
    ],
    [
      'a norm in FP8',
      replace(norm, { dtype: 'F8_E4M3', bytes: () => new Uint8Array(200) }),
      undefined,
      'TYPE',
      `${norm} [200] is F8_E4M3 in weights.safetensors, but only matrices have blocks`,
      [],
    ],
    [
      'a weight cast from its codes, its scales left beside it',
      replace(weight, { dtype: 'BF16', bytes: () => new Uint8Array(200 * 333 * 2) }),
      undefined,
      'UNEXPECTED',
      `weights.safetensors holds ${scales}, but ${weight} is BF16 in weights.safetensors`,
      ['code · scale'],
    ],
    [
      'scales of a weight that the model lacks',
      (list) => [...list, { ...list[0], name: 'model.x_scale_inv' }],
      undefined,
      'UNEXPECTED',
      'model.x_scale_inv, which the model does not have',
      [],
    ],
  ])('%s', (_name, change, quantization, code, message, remedies) => {
    const error = refusal(change, quantization);
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(error.path).toMatch(/^weights\.safetensors: model\./);
    for (const part of remedies) expect(error.hint).toContain(part);
  });

  test('scales that divide: weight_scale_inv multiplies, whatever its name says', () => {
    const inverse = withScales((values) => {
      values.forEach((value, i) => {
        values[i] = 1 / value;
      });
    });
    const error = refusal(inverse);
    expect(error.code).toBe('SCALE');
    expect(error.path).toBe(`weights.safetensors: ${weight}`);
    expect(error.message).toMatch(/decodes to weights up to [\d.]+e\+5 .*: 6 of its 6 blocks pass/);
    expect(error.hint).toContain('store amax / 448');
    // Divided they would be the model's own, normal with σ = 0.3.
    expect(Number(/would reach ([\d.]+)$/.exec(error.hint)?.[1])).toBeLessThan(2);
    // A few large blocks are nobody's mistake.
    const target = emptyModel(kernels);
    const large = withScales((values) => {
      for (let i = 0; i < 3; i += 1) values[i] = 2;
    });
    loadWeights(target, sourceOf(fileOf(large(written))), { scaleFormat: 'fp32' });
  });

  test('bytes of exponents that are read as F32: no reciprocals', () => {
    const bytes = withScales((values) => new Uint8Array(values.buffer).fill(110));
    const error = refusal(bytes);
    expect(error.code).toBe('SCALE');
    expect(error.message).toContain('6 of its 6 blocks pass ±448');
    expect(error.hint).toMatch(/scales up to 1\.84e\+28 are neither .* F8_E8M0/);
    const forgotten = withScales((values) => {
      values.forEach((value, i) => {
        values[i] = 448 * value;
      });
    });
    expect(refusal(forgotten).hint).toMatch(/scales up to 1\.\d+ are neither/);
  });

  test('an exponent of E8M0 that is NaN', () => {
    const exact = weightsToWrite(model, { dtype: 'F8_E4M3', scaleFormat: 'powerOfTwo' });
    const nan: Change = () =>
      replace(scales, { dtype: 'F8_E8M0', bytes: () => Uint8Array.of(110, 110, 255, 110, 1, 2) })(
        exact,
      );
    expect(refusal(nan, powerOfTwo)).toMatchObject({
      code: 'SCALE',
      message: expect.stringContaining(`${scales}[0, 2] is NaN in weights.safetensors`) as string,
    });
  });
});

const scratch = mkdtempSync(join(tmpdir(), 'baleen-fp8-refusals-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

test('of several files, the one that is wrong is named', () => {
  const isScale = ({ name }: TensorToWrite): boolean => name.endsWith('_scale_inv');
  const files: [string, TensorToWrite[]][] = [
    ['codes.safetensors', written.filter((tensor) => !isScale(tensor))],
    ['scales.safetensors', withScales((values) => values.fill(-1))(written).filter(isScale)],
  ];
  for (const [file, tensors] of files) writeSafetensors(join(scratch, file), tensors);
  const map = files.flatMap(([file, tensors]) => tensors.map(({ name }) => [name, file]));
  const index = { weight_map: Object.fromEntries(map) as unknown };
  writeFileSync(join(scratch, 'model.safetensors.index.json'), JSON.stringify(index));
  const file = join(scratch, 'scales.safetensors');
  expect(() =>
    loadWeights(emptyModel(kernels), openWeights(scratch), { scaleFormat: 'fp32' }),
  ).toThrow(expect.objectContaining({ path: `${file}: ${scales}` }));
});

describe('a quantization_config', () => {
  const published = {
    activation_scheme: 'dynamic',
    fmt: 'e4m3',
    quant_method: 'fp8',
    weight_block_size: [128, 128],
  };
  const read = (quantization: unknown): WeightQuantization | null =>
    quantizationFromHuggingFace({ quantization_config: quantization });

  test('is read', () => {
    expect(read(published)).toEqual({ scaleFormat: 'fp32' });
    expect(read({ ...published, scale_fmt: null })).toEqual({ scaleFormat: 'fp32' });
    expect(read({ ...published, scale_fmt: 'ue8m0' })).toEqual({ scaleFormat: 'powerOfTwo' });
    expect(read({ quant_method: 'fp8', weight_block_size: [128, 128] })).toEqual({
      scaleFormat: 'fp32',
    });
    expect(read(null)).toBeNull();
    expect(quantizationFromHuggingFace({})).toBeNull();
  });

  test.each<[unknown, string]>([
    [true, ''],
    [[], ''],
    [{}, '.quant_method'],
    [{ ...published, quant_method: 'awq' }, '.quant_method'],
    [{ ...published, fmt: 'e5m2' }, '.fmt'],
    [{ ...published, activation_scheme: 'static' }, '.activation_scheme'],
    [{ ...published, scale_fmt: 'fp32' }, '.scale_fmt'],
    [{ ...published, weight_block_size: null }, '.weight_block_size'],
    [{ ...published, weight_block_size: [1, 128] }, '.weight_block_size'],
  ])('of another layout is refused: %j', (quantization, key) => {
    const path = `config.json.quantization_config${key}`;
    const json = { ...configToHuggingFace(smallConfig), quantization_config: quantization };
    for (const body of [() => read(quantization), () => configFromHuggingFace(json)])
      expect(body).toThrow(expect.objectContaining({ code: 'ERR_BALEEN_CHECKPOINT_CONFIG', path }));
  });
});
