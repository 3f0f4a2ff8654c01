// Runs a lab: settles what is measured, lets it measure, judges, and gives the whole record back.
import { type Kernels, loadKernels } from '@baleen/kernels';

import type { Lab, LabBudget, LabMeasurements, LabPlan, LabRecord, LabRow } from './lab';
import { inequalityText, judge } from './verdict';

/** How to run a lab. */
export interface LabOptions {
  /** How much time it may take (default quick). */
  budget?: LabBudget;
  /** The first seed (default 1). */
  seed?: number;
  /** Ends the lab early; there is no verdict then. */
  signal?: AbortSignal;
  /** Kernels to measure with (default: this process's). */
  kernels?: Kernels;
  /** Told what is settled before anything runs, and of a full lab how many seconds it may take. */
  onPlan?: (plan: LabPlan, seconds: number | null) => void;
  /** Told how far the lab is, from 0 to 1, and what it does. */
  onProgress?: (share: number, parts: readonly string[]) => void;
  /** Given every line of the grid as it is measured. */
  onRow?: (row: LabRow) => void;
}

/**
 * Runs a lab.
 * @param lab - which
 * @param options - see {@link LabOptions}
 * @returns the record, with its verdict
 * @throws `ERR_BALEEN_LAB_STOPPED` when the signal ended it
 */
export async function runLab(lab: Lab, options: LabOptions = {}): Promise<LabRecord> {
  const { budget = 'quick', seed = 1, kernels = loadKernels() } = options;
  const { signal = new AbortController().signal, onPlan, onProgress, onRow } = options;
  const begin = performance.now();
  const time = new Date().toISOString();
  const plan: LabPlan = {
    budget,
    seed,
    settings: lab.settings[budget],
    quantity: lab.quantity,
    effectOf: lab.effect,
    inequality: lab.inequality,
    holdsIf: inequalityText(lab),
  };
  const { settings } = plan;
  const rows: LabRow[] = [];
  let measurements: LabMeasurements;
  try {
    onPlan?.(plan, budget === 'full' ? await lab.estimate(settings, { kernels, seed }) : null);
    signal.throwIfAborted();
    measurements = await lab.run(settings, {
      kernels,
      seed,
      signal,
      progress: (share, ...parts) => onProgress?.(share, parts),
      row: (row) => {
        rows.push(row);
        onRow?.(row);
      },
    });
  } catch (error) {
    throw signal.aborted ? stopped(lab.name) : error;
  }
  const { mean, ci95, n, smallestResolvable, verdict, values } = judge(lab, measurements.effect);
  return {
    result: {
      lab: lab.name,
      claim: lab.claim,
      source: lab.source,
      published: lab.published,
      measured: measurements.measured ?? mean,
      effect: mean,
      ci95,
      n,
      smallestResolvableEffect: smallestResolvable,
      verdict,
      seconds: (performance.now() - begin) / 1000,
    },
    plan,
    rows,
    values,
    notes: measurements.notes ?? [],
    kernels: { implementation: kernels.implementation, isa: kernels.isa, threads: kernels.threads },
    time,
  };
}

function stopped(name: string): Error {
  return Object.assign(new Error(`lab ${name} was stopped before its end: there is no verdict`), {
    code: 'ERR_BALEEN_LAB_STOPPED',
    hint: 'run it again and let it end: a verdict needs all that was planned',
  });
}
