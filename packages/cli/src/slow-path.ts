// Without native kernels the preset tiny would take hours: it is cut to what ends in minutes, and says so.
import type { KernelsReport } from '@baleen/kernels';
import type { ConfigLayer } from '@baleen/trainer';

import { whole } from './format';
import type { Settings } from './settings';

/** About a hundred seconds on the reference kernels: the loss falls, the report is the same. */
const cut = {
  steps: 32,
  batch: { sequences: 4, microBatch: 4, rampFrom: 4, rampShare: 0 },
  data: { heldOutEvery: 100 },
  evaluation: { every: 0 },
};

/**
 * The layer that shortens a run, if it should be: only the bare preset is, not one whose steps or batch somebody chose.
 * @param settings - the run as it was asked for
 * @param kernels - what this process has
 * @returns a layer to put over the preset and under file and flags, and what to say; null to leave the run as it is
 */
export function slowPath(
  settings: Settings,
  kernels: KernelsReport,
): { layer: ConfigLayer; note: string } | null {
  const { config, origins, preset, resumed } = settings;
  const chosen = Object.entries(origins).some(
    ([key, origin]) => /^(steps$|batch\.)/.test(key) && !origin.startsWith('preset '),
  );
  if (preset !== 'tiny' || resumed !== null || chosen || kernels.implementation === 'native')
    return null;
  const tokens = cut.batch.sequences * config.batch.sequence;
  // What a file or a flag says wins over the cut: only what changes is told.
  const changed = (key: string): boolean => origins[key].startsWith('preset ');
  const changes = [
    `${cut.steps} steps of ${whole(tokens)} tokens instead of ${whole(config.steps)}`,
    ...(changed('data.heldOutEvery')
      ? [
          `every ${cut.data.heldOutEvery}th document held out to measure with instead of every ${config.data.heldOutEvery}th`,
        ]
      : []),
    ...(changed('evaluation.every') ? ['no measurement before the end'] : []),
  ];
  return {
    layer: { origin: 'reference kernels', values: cut },
    note: `the ${kernels.implementation} kernels are slow: ${changes.join(', ')}; to choose yourself, say --steps`,
  };
}
