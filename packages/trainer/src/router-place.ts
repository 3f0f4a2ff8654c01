// Which router of a model a phase runs.
import type { ModelConfig } from '@baleen/model';
import type { ComputePhase, Phase } from '@baleen/tensor';

/**
 * Whether a phase sends tokens to experts: its output has `offsets` of the choices made.
 * @param phase - of a model
 * @returns true for a layer's compute phase `dispatch`
 */
export function routes(phase: Phase): phase is ComputePhase {
  return phase.kind === 'compute' && phase.name.endsWith('.dispatch');
}

/**
 * The place of a phase's router among all routers of the model: layers first, then depths of multi-token prediction.
 * @param phase - one that routes
 * @param config - the model
 * @returns its index
 */
export function routerPlace({ name }: Phase, { layers, denseLayers }: ModelConfig): number {
  const [, kind, number] = /^(layers|mtp)\.(\d+)\./.exec(name) ?? [];
  // Depths count from 1.
  return kind === 'mtp' ? layers - denseLayers + Number(number) - 1 : Number(number) - denseLayers;
}
