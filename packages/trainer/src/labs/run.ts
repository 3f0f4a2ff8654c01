// Runs a lab: settles what is measured, lets it measure, judges, and gives the whole record back.
import { type Kernels, loadKernels } from '@baleen/kernels';

import type {
  ClaimMeasurement,
  ClaimPlan,
  ClaimResult,
  Lab,
  LabBudget,
  LabClaim,
  LabMeasurements,
  LabPlan,
  LabRecord,
  LabRow,
} from './lab';
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
  const claims = lab.further ?? [];
  const plan: LabPlan = {
    budget,
    seed,
    settings: lab.settings[budget],
    ...planOf(lab),
    ...(claims.length > 0 && { further: claims.map(planOf) }),
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
  const measured = measurements.further ?? [];
  if (measured.length !== claims.length) throw wrongMeasurements(claims.length, measured.length);
  const first = judgeClaim(lab, measurements);
  const { claim, ...judged } = first.result;
  const further = claims.map((one, index) => judgeClaim(one, measured[index]));
  const several = further.length > 0;
  return {
    result: {
      lab: lab.name,
      claim,
      source: lab.source,
      ...judged,
      seconds: (performance.now() - begin) / 1000,
      ...(several && { further: further.map((one) => one.result) }),
    },
    plan,
    rows,
    values: first.values,
    ...(several && { furtherValues: further.map((one) => one.values) }),
    notes: measurements.notes ?? [],
    kernels: { implementation: kernels.implementation, isa: kernels.isa, threads: kernels.threads },
    time,
  };
}

function planOf(claim: LabClaim): ClaimPlan {
  const { quantity, effect, inequality } = claim;
  return { quantity, effectOf: effect, inequality, holdsIf: inequalityText(claim) };
}

/** The result of a claim, and the values behind it. */
function judgeClaim(
  claim: LabClaim,
  { effect, measured }: ClaimMeasurement,
): { result: ClaimResult; values: readonly number[] } {
  const { mean, ci95, n, smallestResolvable, verdict, values } = judge(claim, effect);
  const result: ClaimResult = {
    claim: claim.claim,
    published: claim.published,
    measured: measured ?? mean,
    effect: mean,
    ci95,
    n,
    smallestResolvableEffect: smallestResolvable,
    verdict,
  };
  return { result, values };
}

function wrongMeasurements(claims: number, measured: number): Error {
  return Object.assign(new Error(`the lab has ${claims} further claims and measured ${measured}`), {
    code: 'ERR_BALEEN_LAB_CLAIMS',
    hint: 'return one measurement a further claim, in their order',
  });
}

function stopped(name: string): Error {
  return Object.assign(new Error(`lab ${name} was stopped before its end: there is no verdict`), {
    code: 'ERR_BALEEN_LAB_STOPPED',
    hint: 'run it again and let it end: a verdict needs all that was planned',
  });
}
