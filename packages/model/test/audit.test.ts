// An audit finds nothing in healthy checkpoints, names what is wrong in others, each fault brought about here, and its
// statistics are those of the weights themselves.
import { emptyStatistics, fp8Recipe, quantize } from '@baleen/fp8';
import { loadKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  type AuditOptions,
  auditCheckpoint,
  type CheckpointAudit,
  checkpointPieces,
  leastSignalToNoise,
  signalToNoiseOf,
  type TensorSource,
  type TensorToWrite,
  type WeightAudit,
  weightsToWrite,
} from '../src/index';
import { bytesOf, type Change, changeScales, changeValues, drop, replace } from './changes';
import { fileOf, sourceOf } from './memory';
import { inFp8, raggedModel } from './ragged';

const kernels = loadKernels();
const model = raggedModel(kernels);
// As large as trained weights are: a deviation of 0.03.
for (const [, { data }] of model.parameters())
  (data.readSync() as Float32Array).forEach((value, i, values) => {
    values[i] = value / 10;
  });
const fp8 = weightsToWrite(model, { dtype: 'F8_E4M3' });
const ue8m0 = weightsToWrite(model, { dtype: 'F8_E4M3', scaleFormat: 'powerOfTwo' });
const weight = 'model.layers.0.mlp.down_proj.weight'; // [200, 333]
const scales = `${weight}_scale_inv`; // [2, 3]
const powerOfTwo = { quantization: { scaleFormat: 'powerOfTwo' } } as const;
const fp32 = { quantization: { scaleFormat: 'fp32' } } as const;

function audit(source: TensorSource, options: AuditOptions = {}): CheckpointAudit {
  const steps = auditCheckpoint(source, { kernels, ...options });
  for (;;) {
    const next = steps.next();
    if (next.done) return next.value;
  }
}

const sourceFrom = (tensors: TensorToWrite[]): TensorSource =>
  sourceOf(fileOf(tensors), 'weights.safetensors');

const auditOf = (weights: WeightAudit[], name: string): WeightAudit => {
  const found = weights.find((one) => one.name === name);
  if (!found) throw new Error(`no audit of ${name}`);
  return found;
};

describe('a healthy checkpoint', () => {
  test.each<[string, TensorToWrite[], AuditOptions]>([
    ['FP8', fp8, fp32],
    ['FP8 with powers of two', ue8m0, powerOfTwo],
    ['FP8, of which no config.json tells', fp8, {}],
    ['powers of two, of which no config.json tells', ue8m0, {}],
    ['BF16', weightsToWrite(model, { dtype: 'BF16' }), { quantization: null }],
    ['F32', weightsToWrite(model), { quantization: null }],
    [
      'BF16 under a quantization_config left behind',
      weightsToWrite(model, { dtype: 'BF16' }),
      fp32,
    ],
  ])('has no findings: %s', (_, tensors, options) => {
    const { weights, findings, others } = audit(sourceFrom(tensors), options);
    expect(findings).toEqual([]);
    const names = [...checkpointPieces(model)].map(({ name }) => name);
    const linear = names.filter(inFp8);
    expect(weights.map(({ name }) => name).sort()).toEqual([...linear].sort());
    expect(others).toBe(names.length - linear.length);
    for (const one of weights) {
      expect(signalToNoiseOf(one)).toBeGreaterThan(leastSignalToNoise('e4m3'));
      expect(one.codes.filledBlocks).toBe(one.codes.blocks);
      expect(one.scales.scales).toBe(Math.ceil(one.shape[0] / 128) * Math.ceil(one.shape[1] / 128));
    }
  });

  test('layers come in the order of their numbers, and progress ends at one', () => {
    const source = sourceFrom(fp8);
    const shares = [...auditCheckpoint(source, { kernels, ...fp32 })].map(({ share }) => share);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(shares.at(-1)).toBe(1);
    const twelve = { ...fp8[0], name: 'model.layers.10.mlp.up_proj.weight' };
    const two = { ...twelve, name: 'model.layers.2.mlp.up_proj.weight' };
    const plain = [twelve, two].map((one) => ({ ...one, dtype: 'F32' as const, shape: [8, 8] }));
    const made = plain.map((one) => ({ ...one, bytes: () => new Uint8Array(256) }));
    expect(audit(sourceFrom(made)).weights.map(({ name }) => name)).toEqual([
      two.name,
      twelve.name,
    ]);
  });

  test('what quantising costs is what it costs the weights, and codes tell nearly as much', () => {
    const piece = [...checkpointPieces(model)].find(({ name }) => name === weight);
    const values = piece?.data.readSync() as Float32Array;
    const statistics = emptyStatistics();
    const [rows, cols] = [200, 333];
    quantize(values, { rows, cols }, { block: '128x128', statistics });
    const measured = auditOf(audit(sourceFrom(weightsToWrite(model))).weights, weight);
    expect(measured.errors).toEqual(statistics);
    const told = auditOf(audit(sourceFrom(fp8), fp32).weights, weight);
    expect(told.errors).toBeNull();
    expect(told.codes).toEqual(measured.codes);
    expect(told.scales).toEqual(measured.scales);
    expect(signalToNoiseOf(told)).toBeCloseTo(statistics.signalToNoise, 0);
  });

  test('another recipe: tiles, and powers of two', () => {
    const source = sourceFrom(weightsToWrite(model));
    const { weights } = fp8Recipe({ weights: { block: '1x128', scales: 'powerOfTwo' } });
    const { scales: found } = auditOf(audit(source, { weights }).weights, weight);
    expect(found).toMatchObject({ scales: 600, powersOfTwo: 600 });
    const e5m2 = fp8Recipe({ weights: { format: 'e5m2' } });
    const coarse = auditOf(audit(source, { weights: e5m2.weights }).weights, weight);
    expect(coarse.format).toBe('e5m2');
    // A bit of the mantissa less costs six decibels.
    const fine = auditOf(audit(source).weights, weight);
    expect(signalToNoiseOf(fine) - signalToNoiseOf(coarse)).toBeGreaterThan(4);
    expect(signalToNoiseOf(coarse)).toBeGreaterThan(leastSignalToNoise('e5m2'));
  });

  test('nothing but the tensor at hand is read', () => {
    const source = sourceFrom(fp8);
    const reads: string[] = [];
    const counted: TensorSource = {
      ...source,
      read: (name) => {
        reads.push(name);
        return source.read(name);
      },
    };
    audit(counted, fp32);
    expect(new Set(reads).size).toBe(reads.length);
  });
});

/** Bytes that an F32 tensor has as E8M0 exponents. */
const exponents = (count: number): Uint8Array => new Uint8Array(count).fill(110);

describe('a finding names tensor, place and remedy', () => {
  test.each<[string, Change, AuditOptions, string, string, string]>([
    [
      'scales that divide',
      changeValues(scales, (v) => {
        v.forEach((x, i) => (v[i] = 1 / x));
      }),
      fp32,
      'SCALE',
      'of its 6 blocks pass ±448',
      'store amax / 448',
    ],
    [
      'scales that divide, without config.json',
      changeValues(scales, (v) => {
        v.forEach((x, i) => (v[i] = 1 / x));
      }),
      {},
      'SCALE',
      'of its 6 blocks pass ±448',
      'store amax / 448',
    ],
    [
      'FP32 scales under ue8m0',
      (list) =>
        list.map((one) =>
          one.name === scales ? one : (ue8m0.find(({ name }) => name === one.name) ?? one),
        ),
      powerOfTwo,
      'SCALE',
      'no power of two',
      'remove scale_fmt',
    ],
    [
      'exponents read as F32',
      replace(scales, { bytes: () => exponents(24) }),
      fp32,
      'SCALE',
      'of its 6 blocks pass ±448',
      'neither amax / 448 of a weight nor its reciprocal',
    ],
    [
      'exponents as U8',
      replace(scales, { dtype: 'U8', bytes: () => exponents(6) }),
      fp32,
      'TYPE',
      'is U8',
      'F8_E8M0',
    ],
    [
      'exponents as F8_E8M0 where FP32 is expected',
      replace(scales, { dtype: 'F8_E8M0', bytes: () => exponents(6) }),
      fp32,
      'TYPE',
      'config.json says nothing of powers of two',
      'scale_fmt',
    ],
    [
      'scales in BF16',
      replace(scales, { dtype: 'BF16', bytes: () => new Uint8Array(12) }),
      fp32,
      'TYPE',
      'is BF16',
      'store scales in F32',
    ],
    ...([0, -1, NaN, Infinity] as const).map(
      (value): [string, Change, AuditOptions, string, string, string] => [
        `a scale that is ${value}`,
        changeValues(scales, (v) => (v[4] = value)),
        fp32,
        'SCALE',
        `${scales}[1, 1] is ${value}`,
        'max(amax, 1e-4) / 448',
      ],
    ),
    [
      'a code that is NaN',
      (list) => {
        const codes = bytesOf(list, weight);
        codes[2 * 333 + 130] = 0xff;
        return replace(weight, { bytes: () => codes })(list);
      },
      fp32,
      'NOT_FINITE',
      `${weight}[2, 130] is NaN`,
      'earlier checkpoint',
    ],
    [
      'scales of a transposed matrix',
      replace(scales, { shape: [3, 2] }),
      fp32,
      'SHAPE',
      'is [3, 2]',
      'ragged',
    ],
    [
      'missing scales',
      drop(scales),
      fp32,
      'MISSING',
      `holds no ${scales}`,
      'take the file that holds it',
    ],
    [
      'a weight cast from its codes',
      replace(weight, { dtype: 'BF16', bytes: () => new Uint8Array(200 * 333 * 2) }),
      fp32,
      'UNEXPECTED',
      'is BF16',
      'code · scale',
    ],
    [
      'codes as U8',
      replace(weight, { dtype: 'U8' }),
      fp32,
      'UNEXPECTED',
      'is U8',
      'name their type F8_E4M3',
    ],
    ['another FP8', replace(weight, { dtype: 'F8_E5M2' }), fp32, 'UNEXPECTED', 'is F8_E5M2', ''],
    [
      'scales that lack the 448',
      changeValues(scales, (v) => {
        v.forEach((x, i) => (v[i] = 448 * x));
      }),
      fp32,
      'MAGNITUDE',
      'the median of the checkpoint',
      'amax / 448',
    ],
    [
      'scales that have the 448 twice',
      changeValues(scales, (v) => {
        v.forEach((x, i) => (v[i] = x / 448));
      }),
      fp32,
      'MAGNITUDE',
      'the median of the checkpoint',
      'amax / 448',
    ],
    [
      'scales 2¹⁴ times as large as the codes need',
      (list) => {
        const codes = bytesOf(list, weight).map(
          (code) => (code & 0x80) | Math.max(0, (code & 0x7f) - 0x70),
        );
        return replace(weight, { bytes: () => codes })(list);
      },
      fp32,
      'PRECISION',
      'dB of signal to noise in FP8',
      'larger than the values need',
    ],
  ])('%s', (_, change, options, code, message, remedy) => {
    const { findings, weights } = audit(sourceFrom(change(fp8)), options);
    expect(findings.length).toBeGreaterThan(0);
    const finding = findings.find((one) => one.code === `ERR_BALEEN_CHECKPOINT_${code}`);
    expect(finding?.message).toContain(message);
    expect(finding?.hint).toContain(remedy);
    expect(finding?.path).toMatch(/^weights\.safetensors: model\./);
    // One fault is not reported of others, and these are audited all the same.
    for (const { tensor } of findings) expect([weight, scales]).toContain(tensor);
    expect(weights.length).toBeGreaterThanOrEqual(
      fp8.filter(({ dtype }) => dtype === 'F8_E4M3').length - 1,
    );
  });

  test('every scale divides: every weight is named', () => {
    const inverse = changeScales((v) => {
      v.forEach((x, i) => (v[i] = 1 / x));
    });
    const { findings } = audit(sourceFrom(inverse(fp8)), fp32);
    expect(findings.map(({ tensor }) => tensor).sort()).toEqual(
      fp8.flatMap(({ name, dtype }) => (dtype === 'F8_E4M3' ? [name] : [])).sort(),
    );
    expect(new Set(findings.map(({ code }) => code))).toEqual(
      new Set(['ERR_BALEEN_CHECKPOINT_SCALE']),
    );
  });

  test.each([
    ['lack the 448', 448],
    ['have the 448 twice', 1 / 448],
  ])('all scales %s: matrices outside FP8 tell', (_, factor) => {
    const other = changeScales((v) => {
      v.forEach((x, i) => (v[i] = factor * x));
    });
    const { findings } = audit(sourceFrom(other(fp8)), fp32);
    expect(findings).toMatchObject([
      { code: 'ERR_BALEEN_CHECKPOINT_MAGNITUDE', tensor: null, path: 'weights.safetensors' },
    ]);
    expect(findings[0].message).toMatch(/matrices in BF16 or F32 beside them have 0\.0\d+/);
  });

  test('all scales are powers of two, and config.json does not say so', () => {
    expect(audit(sourceFrom(ue8m0), fp32).findings).toMatchObject([
      {
        code: 'ERR_BALEEN_CHECKPOINT_SCALE_FORMAT',
        tensor: null,
        path: 'config.json.quantization_config.scale_fmt',
      },
    ]);
  });

  test('codes, and a config.json that says nothing of them', () => {
    expect(audit(sourceFrom(fp8), { quantization: null }).findings).toMatchObject([
      { code: 'ERR_BALEEN_CHECKPOINT_CONFIG', path: 'config.json.quantization_config' },
    ]);
  });

  test('a weight of zeros is no fault', () => {
    const codes = new Uint8Array(bytesOf(fp8, weight).length);
    const zeros = replace(weight, { bytes: () => codes })(fp8);
    const { weights, findings } = audit(sourceFrom(zeros), fp32);
    expect(findings).toEqual([]);
    expect(signalToNoiseOf(auditOf(weights, weight))).toBeNaN();
  });

  test('scales whose weight is not there', () => {
    expect(audit(sourceFrom(drop(weight)(fp8)), fp32).findings).toMatchObject([
      { code: 'ERR_BALEEN_CHECKPOINT_MISSING', tensor: scales },
    ]);
  });

  test('weights that are not finite, and weights too small for the scale’s floor', () => {
    const plain = weightsToWrite(model);
    const lost = changeValues(weight, (v) => (v[7] = NaN))(plain);
    expect(audit(sourceFrom(lost)).findings).toMatchObject([
      { code: 'ERR_BALEEN_CHECKPOINT_NOT_FINITE', tensor: weight },
    ]);
    const small = changeValues(weight, (v) => {
      v.forEach((x, i) => (v[i] = 1e-8 * x));
    })(plain);
    const { findings } = audit(sourceFrom(small));
    expect(findings).toMatchObject([{ code: 'ERR_BALEEN_CHECKPOINT_PRECISION', tensor: weight }]);
    expect(findings[0].message).toMatch(/[\d.]+ % of its codes are zero/);
    const zero = changeValues(weight, (v) => v.fill(0))(plain);
    expect(audit(sourceFrom(zero)).findings).toEqual([]);
  });

  test('a file that ends early is an error, not a finding', () => {
    const source = sourceFrom(fp8);
    const cut: TensorSource = {
      ...source,
      read: () => {
        throw Object.assign(new Error('cut'), { code: 'ERR_BALEEN_CHECKPOINT_CORRUPT' });
      },
    };
    expect(() => audit(cut, fp32)).toThrow('cut');
  });
});
