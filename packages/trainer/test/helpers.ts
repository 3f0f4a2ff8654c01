// What the trainer's tests share: a text, a model of a few thousand parameters, folders that go away.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { referenceKernels } from '@baleen/kernels';
import { afterAll } from 'vitest';

import {
  presets,
  type TrainConfig,
  type TrainEvent,
  type TrainOptions,
  type TrainResult,
  train,
} from '../src/index';

const folders: string[] = [];

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A new empty folder, removed at the end. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'baleen-trainer-'));
  folders.push(folder);
  return folder;
}

/** A text with structure to learn, in paragraphs. */
export function sampleText(paragraphs = 36): string {
  const words = ['the', 'whale', 'sea', 'ship', 'white', 'and', 'of', 'old', 'captain', 'sails'];
  let state = 7;
  const next = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state >>> 12;
  };
  return Array.from({ length: paragraphs }, () =>
    Array.from({ length: 20 }, () => words[next() % words.length]).join(' '),
  ).join('\n\n');
}

/** A run of a few steps on a file of that text: 2 layers, 4 experts, one depth of multi-token prediction. */
export function smallRun(folder: string, changes: Partial<TrainConfig> = {}): TrainConfig {
  const path = join(folder, 'text.txt');
  writeFileSync(path, sampleText());
  const tiny = presets.tiny();
  return {
    ...tiny,
    model: {
      ...tiny.model,
      hiddenSize: 16,
      layers: 2,
      intermediateSize: 32,
      maxSequence: 16,
      initStd: 0.1,
      attention: {
        ...tiny.model.attention,
        heads: 2,
        nopeDim: 8,
        ropeDim: 4,
        valueDim: 8,
        queryRank: 8,
        kvRank: 8,
      },
      moe: {
        ...tiny.model.moe,
        routedExperts: 4,
        groups: 2,
        groupsPerToken: 2,
        intermediateSize: 16,
      },
    },
    data: { ...tiny.data, sources: [path], heldOutEvery: 5 },
    precision: 'fp32',
    steps: 6,
    batch: { sequence: 16, sequences: 4, microBatch: 2, rampFrom: 4, rampShare: 0, rampBy: null },
    evaluation: { every: 0, tokens: 64, stride: 0.5 },
    checkpoint: { every: 0, keep: 2 },
    ...changes,
  };
}

/** Runs to the end on the reference kernels. */
export async function runAll(
  config: TrainConfig,
  options: TrainOptions = {},
): Promise<{ events: TrainEvent[]; result: TrainResult }> {
  const events: TrainEvent[] = [];
  const run = train(config, { kernels: referenceKernels(), ...options });
  for (;;) {
    const next = await run.next();
    if (next.done) return { events, result: next.value };
    events.push(next.value);
  }
}

/** Events of one type. */
export function only<T extends TrainEvent['type']>(
  events: readonly TrainEvent[],
  type: T,
): Extract<TrainEvent, { type: T }>[] {
  return events.filter((event): event is Extract<TrainEvent, { type: T }> => event.type === type);
}

/** What an asynchronous call throws. */
export async function failure(
  work: Promise<unknown>,
): Promise<Error & { code?: string; path?: string; hint?: string }> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}
