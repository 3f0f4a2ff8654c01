// What labs that train share: every arm of an experiment is trained with the same seeds on the same data in the same order,
// and what they differ in is the lab's own.
import { benchStep } from '../bench-step';
import type { TrainConfig } from '../config';
import { type PresetName, presets } from '../presets';
import { resolveConfig } from '../resolve';
import { prepare, type Session } from '../session';
import { trainSession } from '../train';
import type { LabContext } from './lab';

/** Steps that an estimate is made from; the first two warm up. */
const timedSteps = 7;

/** Settings of a lab that trains. */
export type TrainingSettings = Readonly<{
  /** The preset that runs are made from. */
  preset: PresetName;
  /** What they change in it: configuration keys, nested. */
  changes: Readonly<Record<string, unknown>>;
  /** Pairs of runs: seeds from the lab's first one up. */
  pairs: number;
}>;

/** What one arm of an experiment differs in. */
export interface Arm {
  /** What it changes in the settings' configuration: keys, nested. */
  changes: Readonly<Record<string, unknown>>;
}

/** A run that ended. */
export interface TrainedArm {
  /** Model, text and where the data go on. */
  session: Session;
  /** Held-out loss, nats a token; infinite where the run diverged. */
  loss: number;
  /** Tokens each expert got of the held-out text, layer by layer; none where the run diverged. */
  loads: readonly (readonly number[])[];
}

/**
 * Trains every arm with every seed.
 * @param settings - preset, changes and number of pairs
 * @param arms - what differs, by name
 * @param context - the lab's
 * @param visit - given the arms of one seed, in their order
 */
export async function trainPairs<Name extends string>(
  settings: TrainingSettings,
  arms: Readonly<Record<Name, Arm>>,
  context: LabContext,
  visit: (seed: number, trained: Record<Name, TrainedArm>) => Promise<void> | void,
): Promise<void> {
  const { pairs } = settings;
  const names = Object.keys(arms) as Name[];
  const runs = pairs * names.length;
  for (let pair = 0; pair < pairs; pair += 1) {
    const seed = context.seed + pair;
    const trained: Partial<Record<Name, TrainedArm>> = {};
    for (const [index, name] of names.entries())
      trained[name] = await trainArm(settings, arms[name], seed, {
        ...context,
        progress: (share, ...parts) => {
          const done = (pair * names.length + index + share) / runs;
          context.progress(done, `pair ${pair + 1}/${pairs}, ${name}`, ...parts);
        },
      });
    await visit(seed, trained as Record<Name, TrainedArm>);
  }
}

async function trainArm(
  settings: TrainingSettings,
  arm: Arm,
  seed: number,
  { kernels, signal, progress }: LabContext,
): Promise<TrainedArm> {
  const config = configOf(settings, arm, seed);
  const options = { kernels, signal };
  const session = await prepare(config, options);
  const events = trainSession(session, options, performance.now());
  let loads: TrainedArm['loads'] = [];
  try {
    for (;;) {
      const next = await events.next();
      if (next.done) {
        signal.throwIfAborted();
        return { session, loss: next.value.valLoss ?? NaN, loads };
      }
      const event = next.value;
      if (event.type === 'evaluation') loads = event.loads;
      if (event.type === 'step')
        progress(
          event.step / config.steps,
          `step ${event.step}/${config.steps}`,
          `loss ${event.loss.toFixed(3)}`,
        );
    }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_BALEEN_TRAIN_NOT_FINITE') throw error;
    return { session, loss: Infinity, loads: [] };
  }
}

function configOf(settings: TrainingSettings, arm: Arm, seed: number): TrainConfig {
  const { preset, changes } = settings;
  return resolveConfig([
    { origin: `preset ${preset}`, values: presets[preset]() },
    { origin: 'lab', values: changes },
    { origin: 'arm', values: { ...arm.changes, seed } },
  ]).config;
}

/**
 * Estimates how long the steps of all runs take, from a few that are timed.
 * @param settings - preset, changes and number of pairs
 * @param arms - what differs
 * @param context - the lab's
 * @returns seconds, evaluations left out
 */
export async function trainingSeconds(
  settings: TrainingSettings,
  arms: readonly Arm[],
  { kernels, seed }: Pick<LabContext, 'kernels' | 'seed'>,
): Promise<number> {
  let seconds = 0;
  for (const arm of arms) {
    const config = configOf(settings, arm, seed);
    const { medianStepSeconds } = await benchStep(config, { steps: timedSteps, kernels });
    seconds += medianStepSeconds * config.steps * settings.pairs;
  }
  return seconds;
}
