// One call of every kernel in many shapes, for comparing implementations: odd sizes, single rows, no rows, empty groups.
import type { KernelName, Kernels, ViewArray } from '@baleen/kernels';

import { e5m2Cases } from './cases-e5m2';
import { e5m6Cases } from './cases-e5m6';
import { fp8Cases } from './cases-fp8';
import { fusedCases } from './cases-fused';
import { latentCases } from './cases-latents';
import { layerCases } from './cases-layers';
import { memoryCases } from './cases-memory';
import { productCases } from './cases-product';
import { routingCases } from './cases-routing';
import { summationCases } from './cases-summation';
import type { Arena } from './compare';

/** A kernel call that can be repeated on any implementation: the same arena seed gives the same operands. */
export interface Case {
  readonly kernel: KernelName;
  readonly label: string;
  /** Part of the norm by which results may differ; `'bits'` for none. */
  readonly tolerance: number | 'bits';
  /** Calls the kernel and returns its outputs. */
  readonly run: (kernels: Kernels, arena: Arena) => Readonly<Record<string, ViewArray>>;
}

/** All cases. */
export const cases: readonly Case[] = [
  ...memoryCases(),
  ...productCases(),
  ...summationCases,
  ...fp8Cases(),
  ...e5m2Cases(),
  ...e5m6Cases(),
  ...fusedCases([
    [0, 16],
    [1, 1],
    [5, 256],
    [67, 129],
  ]),
  ...layerCases(),
  ...latentCases(),
  ...routingCases(),
];
