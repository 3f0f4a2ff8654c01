// Labs that train, at a size of seconds: runs are paired, a run that diverges is a result, and gradients are compared with
// exact ones.
import { dequantize, fp8Linears, quantize } from '@baleen/fp8';
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import {
  initialize,
  type LinearFactory,
  Pools,
  plainLinears,
  Region,
  Tape,
  tensorFrom,
  writeTensor,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import {
  type LabContext,
  labs,
  modelConfigOf,
  type PresetName,
  presets,
  resolveConfig,
  runLab,
  type TokenBatch,
} from '../src/index';
import { decodedLinears } from '../src/labs/decoded-linears';
import { copyValues, gradientsOf } from '../src/labs/gradients';
import { type Arm, type TrainedArm, type TrainingSettings, trainPairs } from '../src/labs/training';
import { TrainingStep } from '../src/step';
import { smallRun, temporaryFolder } from './helpers';

/** Settings of pairs of runs that take a second each. */
function smallSettings(changes: Parameters<typeof smallRun>[1] = {}, pairs = 2): TrainingSettings {
  return { preset: 'tiny', pairs, changes: { ...smallRun(temporaryFolder(), changes) } };
}

function contextOf(told: { shares?: number[]; parts?: string[][] } = {}): LabContext {
  return {
    kernels: referenceKernels(),
    seed: 5,
    signal: new AbortController().signal,
    progress: (share, ...parts) => {
      told.shares?.push(share);
      told.parts?.push(parts);
    },
    row: () => undefined,
  };
}

/** The lab of this name, at a size of seconds. */
function shortened(name: string, changes: Parameters<typeof smallRun>[1] = {}, pairs = 2) {
  const lab = labs.find((one) => one.name === name);
  if (!lab) throw new Error(`there is no lab ${name}`);
  return {
    ...lab,
    settings: { quick: smallSettings(changes, pairs), full: smallSettings(changes, pairs) },
  };
}

describe('pairs of runs', () => {
  const plain: Arm = { changes: { precision: 'fp32' } };

  test('start from the same weights and see the same data: arms that do not differ end the same', async () => {
    const losses: number[][] = [];
    const seeds: number[] = [];
    const told = { shares: [] as number[], parts: [] as string[][] };
    await trainPairs(smallSettings(), { a: plain, b: plain }, contextOf(told), (seed, { a, b }) => {
      seeds.push(seed);
      losses.push([a.loss, b.loss]);
    });
    expect(seeds).toEqual([5, 6]);
    for (const [a, b] of losses) expect(a).toBe(b);
    expect(losses[0][0]).not.toBe(losses[1][0]);
    expect(told.shares).toEqual([...told.shares].sort((a, b) => a - b));
    expect(told.shares.at(-1)).toBe(1);
    expect(told.parts[0][0]).toBe('pair 1/2, a');
    expect(told.parts.at(-1)?.slice(0, 2)).toEqual(['pair 2/2, b', 'step 6/6']);
  });

  test('arms may differ in anything of the configuration', async () => {
    const seen: Record<string, TrainedArm>[] = [];
    await trainPairs(
      smallSettings({}, 1),
      {
        tiles: { changes: { precision: 'fp8' } },
        blocks: { changes: { precision: 'fp8', fp8: { gradients: { block: '128x128' } } } },
      },
      contextOf(),
      (_, arms) => {
        seen.push(arms);
      },
    );
    expect(seen[0].blocks.loss).not.toBe(seen[0].tiles.loss);
    expect(seen[0].blocks.loss).toBeCloseTo(seen[0].tiles.loss, 1);
  });

  test('a run that diverges has an infinite loss, and the others go on', async () => {
    const learningRate = { peak: 1e38, end: 1e38 };
    const losses: number[] = [];
    await trainPairs(
      smallSettings({}, 1),
      { wild: { changes: { ...plain.changes, schedule: { learningRate } } }, plain },
      contextOf(),
      (_, arms) => {
        losses.push(arms.wild.loss, arms.plain.loss);
      },
    );
    expect(losses[0]).toBe(Infinity);
    expect(losses[1]).toBeLessThan(7);
  });
});

test.each([
  ['loss-free', 4, 3],
  ['loss-free-updates', 8, 3],
  ['router-collapse', 2, 2],
])('%s from end to end: every arm, a verdict a claim', async (name, arms, claims) => {
  const record = await runLab(shortened(name, { steps: 3 }, 1), {
    kernels: referenceKernels(),
    seed: 3,
  });
  const { result, rows, values: effects, furtherValues = [] } = record;
  expect(rows).toHaveLength(arms);
  expect(new Set(rows.map(({ arm }) => arm)).size).toBe(arms);
  // Arms differ in how they balance alone, and end apart.
  const first = rows.filter(({ seed }) => seed === 3).map(({ MaxVio }) => MaxVio);
  expect(new Set(first).size).toBeGreaterThan(1);
  expect(result.further).toHaveLength(claims);
  for (const pairs of [effects, ...furtherValues]) {
    expect(pairs).toHaveLength(1);
    expect(pairs.every(Number.isFinite)).toBe(true);
  }
});

test('loss-free: effects are those of the grid', async () => {
  const {
    rows,
    values: effects,
    furtherValues,
    notes,
  } = await runLab(shortened('loss-free', { steps: 3 }, 1), {
    kernels: referenceKernels(),
    seed: 3,
  });
  const of = (arm: string, column: string): number[] =>
    rows.filter((row) => row.arm === arm).map((row) => row[column] as number);
  effects.forEach((effect, i) => {
    expect(effect).toBe(of('lossFree', 'MaxVio')[i] / of('auxiliary', 'MaxVio')[i]);
    const [a, b] = [of('auxiliary', 'perplexity')[i], of('lossFree', 'perplexity')[i]];
    expect(furtherValues?.[0][i]).toBe((b - a) / a);
    const [c, d] = [of('sequenceWise', 'perplexity')[i], of('lossFree', 'perplexity')[i]];
    expect(furtherValues?.[1][i]).toBeCloseTo(Math.log(d / c) / Math.log(c), 10);
    expect(furtherValues?.[2][i]).toBeCloseTo(Math.log(a / b) / Math.log(b), 10);
  });
  for (const arm of ['none', 'auxiliary', 'sequenceWise', 'lossFree']) {
    const [perplexity, violation] = ['perplexity', 'MaxVio'].map((column) => {
      const list = of(arm, column);
      return (list.reduce((sum, value) => sum + value, 0) / list.length).toFixed(3);
    });
    expect(notes).toContain(`${arm}: perplexity ${perplexity}, MaxVio ${violation}`);
  }
});

test('fp8-loss from end to end', async () => {
  const {
    result,
    rows,
    values: gaps,
  } = await runLab(shortened('fp8-loss'), {
    kernels: referenceKernels(),
    seed: 3,
  });
  expect(result).toMatchObject({ lab: 'fp8-loss', published: 0.0025, n: 2 });
  expect(rows.map(({ seed }) => seed)).toEqual([3, 4]);
  rows.forEach((row, i) => {
    const [bf16, fp8] = [Number(row['BF16 loss']), Number(row['FP8 loss'])];
    expect(fp8).not.toBe(bf16);
    expect(gaps[i]).toBeCloseTo((fp8 - bf16) / bf16, 12);
    expect(Math.abs(gaps[i])).toBeLessThan(0.05);
  });
  expect(result.effect).toBeCloseTo((gaps[0] + gaps[1]) / 2, 12);
  expect(result.ci95?.[0]).toBeLessThan(result.effect);
});

test('fp8-dgrad-blocks from end to end', async () => {
  const {
    result,
    rows,
    values: ratios,
    notes,
  } = await runLab(shortened('fp8-dgrad-blocks'), {
    kernels: referenceKernels(),
  });
  expect(result).toMatchObject({ lab: 'fp8-dgrad-blocks', n: 2 });
  expect(rows).toHaveLength(8);
  for (const { what, '1×128': tiles, '128×128': blocks, ratio } of rows) {
    expect(Number(tiles), String(what)).toBeGreaterThan(0.1);
    expect(Number(tiles), String(what)).toBeLessThan(20);
    expect(Number(blocks) / Number(tiles)).toBeCloseTo(Number(ratio), 12);
  }
  const first = rows.filter(({ what }) => String(what).includes('first layer'));
  expect(first).toHaveLength(2);
  first.forEach(({ ratio }, i) => {
    expect(ratios[i]).toBeCloseTo(Number(ratio), 12);
  });
  expect(notes[0]).toMatch(/^held-out loss, blocks over tiles: .*95 %: .*resolvable from/);
  expect(notes[1]).toMatch(/loudest token.* at most; E4M3 spans × 28672/);
});

test('a stopped lab ends within a step', async () => {
  const stop = new AbortController();
  const shares: number[] = [];
  const work = runLab(shortened('fp8-loss'), {
    kernels: referenceKernels(),
    signal: stop.signal,
    onProgress: (share) => {
      shares.push(share);
      stop.abort();
    },
  });
  await expect(work).rejects.toMatchObject({ code: 'ERR_BALEEN_LAB_STOPPED' });
  expect(shares).toHaveLength(1);
});

test('a full lab is timed by a few of its steps', async () => {
  const seconds: (number | null)[] = [];
  const stop = new AbortController();
  await runLab(shortened('fp8-loss'), {
    kernels: referenceKernels(),
    budget: 'full',
    signal: stop.signal,
    onPlan: (_, estimate) => {
      seconds.push(estimate);
      stop.abort();
    },
  }).catch(() => undefined);
  expect(seconds[0]).toBeGreaterThan(0);
});

test.each(labs.map((lab) => [lab.name, lab] as const))(
  '%s: its settings are configurations',
  (_, lab) => {
    for (const settings of Object.values(lab.settings)) {
      if (!('preset' in settings)) continue;
      const { preset, changes } = settings as { preset: PresetName; changes: object };
      const layers = [
        { origin: 'preset', values: presets[preset]() },
        { origin: 'lab', values: changes },
      ];
      expect(() => resolveConfig(layers)).not.toThrow();
    }
  },
);

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  const [rows, wide, outs] = [150, 136, 200];
  const x = values(rows * wide, 1);
  const w = values(outs * wide, 2);
  const grad = values(rows * outs, 3);

  function through(factory: LinearFactory, input: Float32Array, weight: Float32Array) {
    const layer = factory.linear(new Pools(kernels), { in: wide, outs: { out: outs } });
    writeTensor(layer.weights.out.data, weight);
    layer.weights.out.version += 1;
    const region = new Region(kernels, 'inputs');
    const given = tensorFrom(region, [rows, wide], input);
    const tape = new Tape(new Region(kernels, 'test'));
    const [y] = tape.frame('test', () => [layer.forward(tape, given).out]);
    const [dx] = tape.backFrame([y], [tensorFrom(region, [rows, outs], grad)], [given]);
    return [y, dx, layer.weights.out.grad].map((t) => t?.readSync().slice() as Float32Array);
  }

  test('decoded linear layers: the output of FP8 ones, and the exact gradients of what they compute', () => {
    const [y, dx, dw] = through(decodedLinears(), x, w);
    const decodedX = dequantize(quantize(x, { rows, cols: wide }));
    const decodedW = dequantize(quantize(w, { rows: outs, cols: wide }, { block: '128x128' }));
    const plain = through(plainLinears('fp32'), decodedX, decodedW);
    expect([y, dx, dw].map((list, i) => firstDifference(list, plain[i]))).toEqual([-1, -1, -1]);
    const [fp8] = through(fp8Linears(), x, w);
    expect(decibels(fp8, y)).toBeGreaterThan(110);
  });

  test('experts’ weights are decoded in blocks of their own', () => {
    const layers = [decodedLinears(), fp8Linears()].map((factory) => {
      const spec = { experts: 3, in: wide, outs: { out: 40 } };
      const layer = factory.groupedLinear(new Pools(kernels), spec);
      // Loud and quiet experts: a block that held both would lose the quiet one.
      const size = (i: number): number => 1e-3 ** Math.floor(i / (40 * wide));
      const loud = values(3 * 40 * wide, 2).map((v, i) => v * size(i));
      writeTensor(layer.weights.out.data, loud);
      layer.weights.out.version += 1;
      const region = new Region(kernels, 'inputs');
      const given = tensorFrom(region, [rows, wide], x);
      const offsets = tensorFrom(region, [4], Int32Array.of(0, 50, 50, rows));
      const tape = new Tape(new Region(kernels, 'test'));
      const [y] = tape.frame('test', () => [layer.forward(tape, given, offsets).out]);
      return (y.readSync() as Float32Array).slice(50 * 40);
    });
    expect(decibels(layers[1], layers[0])).toBeGreaterThan(100);
  });

  describe('gradients of a batch', () => {
    const config = modelConfigOf(smallRun(temporaryFolder()), 40);
    const batch: TokenBatch = {
      sequences: 2,
      sequence: 16,
      ids: Int32Array.from({ length: 32 }, (_id, i) => (i * 7) % 40),
      targets: Int32Array.from({ length: 32 }, (_id, i) => (i % 5 === 4 ? -1 : (i * 11) % 40)),
      documents: { inputs: new Int32Array(32), targets: new Int32Array(32) },
    };
    const made = (precision: 'fp32' | 'fp8', linears?: LinearFactory): Decoder => {
      const sizes = { ...config, mtp: { depth: 0 } };
      const model = new Decoder(kernels, sizes, precision, linears ? { linears } : {});
      initialize(model, 0.1, 1);
      for (const [, { data }] of model.states())
        if (data.dtype === 'f32') writeTensor(data, values(data.size, 9));
      return model;
    };

    test('are those of a training step, to the bit; the stream’s are what the embedding adds up', () => {
      const model = made('fp8');
      const { input, weights } = gradientsOf(model, batch);
      const other = made('fp8');
      const { batch: sizes, optimizer } = smallRun(temporaryFolder());
      const step = new TrainingStep(other, {
        batch: { ...sizes, sequences: 2, microBatch: 2 },
        optimizer,
        balanceFactor: 0,
      });
      step.load(batch, 0);
      step.microBatch(0, 2);
      const expected = [...other.parameters()]
        .filter(([name, { shape }]) => /^layers\.(?!.*router)/.test(name) && shape.length > 1)
        .flatMap(([, parameter]) => [...parameter.grad.readSync()]);
      expect(firstDifference(weights, expected)).toBe(-1);
      const table = new Map(model.parameters()).get('embedding.weight')?.grad.readSync() ?? [];
      const { hiddenSize } = model.config;
      const sums = new Float64Array(table.length);
      input.forEach((value, i) => {
        sums[batch.ids[Math.floor(i / hiddenSize)] * hiddenSize + (i % hiddenSize)] += value;
      });
      expect(decibels(sums, table)).toBeGreaterThan(110);
    });

    test('FP8’s differ from exact ones by a few percent, the losses only by FP32’s rounding', () => {
      const trained = made('fp8');
      const [exact, fp8] = [decodedLinears(), fp8Linears()].map((linears) => {
        const copy = new Decoder(kernels, trained.config, 'fp8', { linears });
        copyValues(copy, trained);
        return gradientsOf(copy, batch);
      });
      expect(exact.loss / fp8.loss).toBeCloseTo(1, 5);
      expect(fp8.loss).toBe(gradientsOf(trained, batch).loss);
      for (const name of ['input', 'weights'] as const) {
        expect(decibels(exact[name], fp8[name]), name).toBeGreaterThan(15);
        expect(decibels(exact[name], fp8[name]), name).toBeLessThan(45);
      }
    });
  });
});
