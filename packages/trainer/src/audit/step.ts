// A training step under audit: the next step of a run, forward and backward on the run's own text, with every FP8 operand
// compared with the values it was made from. Weights are not updated, and nothing is written.

import { type Kernels, loadKernels, observeKernels, setThreads } from '@baleen/kernels';
import { type AuditFinding, leastSignalToNoise } from '@baleen/model';

import type { TrainConfig } from '../config';
import { prepare } from '../session';
import { type OperandAudit, OperandObserver } from './operands';

/** How to audit a step. */
export interface StepAuditOptions {
  /** A run's folder or a checkpoint whose next step is taken (default: the first step of a new model). */
  resume?: string;
  /** Kernels (default: this process's, with `config.threads`). */
  kernels?: Kernels;
  /** Told the share done, from 0 to 1, and which piece. */
  onProgress?: (share: number, piece: string) => void;
}

/** What came of it. */
export interface StepAudit {
  /** The step that was taken, counted from 1. */
  step: number;
  /** Its tokens. */
  tokens: number;
  /** Every operand of every FP8 linear layer, and what is kept for backward. */
  operands: OperandAudit[];
  /** What is wrong. */
  findings: AuditFinding[];
}

/**
 * Takes one step, forward and backward, and looks at its FP8 operands.
 * @param config - the run; its precision is taken to be fp8
 * @param options - see {@link StepAuditOptions}
 * @returns operands in the order of layers, and findings
 * @throws what preparing the run throws
 */
export async function auditStep(
  config: TrainConfig,
  options: StepAuditOptions = {},
): Promise<StepAudit> {
  const { resume, onProgress } = options;
  const kernels = options.kernels ?? loadKernels();
  if (!options.kernels) setThreads(config.threads);
  const observer = new OperandObserver(kernels);
  let watching = false;
  const session = await prepare(
    { ...config, precision: 'fp8' },
    {
      out: null,
      kernels: observeKernels(kernels, (call) => {
        if (watching) observer.see(call);
      }),
      ...(resume === undefined ? {} : { resume }),
    },
  );
  const { model, step, packer, plan, done } = session;
  observer.name(model.parameters());
  // A run that is complete has no next step: its last one's settings serve.
  const settings = plan.at(Math.min(done, session.config.steps - 1));
  const { sequence, microBatch } = session.config.batch;
  step.load(packer.next(settings.sequences, sequence), settings.mtpWeight);
  const count = settings.sequences / microBatch;
  for (let m = 0; m < count; m += 1) step.countMicroBatch(m, settings.sequences);
  watching = true;
  for (let m = 0; m < count; m += 1) {
    observer.beginMicroBatch();
    step.microBatch(m, settings.sequences);
    onProgress?.((m + 1) / count, `micro-batch ${m + 1}/${count}`);
    await new Promise(setImmediate);
  }
  const operands = observer.results();
  return {
    step: done + 1,
    tokens: settings.sequences * sequence,
    operands,
    findings: operands.flatMap((operand) => [...findingsOf(operand)]),
  };
}

function* findingsOf(audit: OperandAudit): Generator<AuditFinding> {
  const { layer, operand, values, nonFinite, saturated, underflowed, signalToNoise } = audit;
  const name = `${layer} ${operand}`;
  const finding = (what: string, message: string, hint: string): AuditFinding => ({
    code: `ERR_BALEEN_AUDIT_${what}`,
    tensor: name,
    path: name,
    message,
    hint,
  });
  if (nonFinite > 0)
    yield finding(
      'NOT_FINITE',
      `${name}: ${nonFinite} of ${values + nonFinite} values are not finite`,
      'the step diverges: go back to an earlier checkpoint, with a lower learning rate',
    );
  if (saturated > 0)
    yield finding(
      'SATURATED',
      `${name}: ${saturated} of ${values} values lie beyond the format's largest`,
      'scales do not come from these values: online scales leave none',
    );
  if (signalToNoise < leastSignalToNoise(audit.format))
    yield finding(
      'PRECISION',
      `${name}: ${signalToNoise.toFixed(1)} dB of signal to noise, below the ${leastSignalToNoise(audit.format).toFixed(1)} dB of ${audit.format}'s normal values; ${underflowed} of ${values} values became zero`,
      'values are below 1e-4, where scales stop following them, or far apart within a block: use smaller blocks for this operand, or leave the layer in BF16 (fp8.layers)',
    );
}
