// What every kernel is called with, once: how its arguments are laid out for the addon, which sizes its views must have,
// and what it costs. Checks, the null backend and the native binding all read this table.
import type { Kernels } from './kernels';
import type { Signature } from './signature';
import { denseSignatures } from './signatures-dense';
import { latentSignatures } from './signatures-latents';
import { layerSignatures } from './signatures-layers';
import { routingSignatures } from './signatures-routing';

export { type Signature, splitCall } from './signature';

/** The kernels proper: methods of `Kernels` that compute. */
export type KernelName = Exclude<
  keyof Kernels,
  'implementation' | 'isa' | 'threads' | 'createStorage' | 'flush' | 'record'
>;

/** All signatures by kernel. */
export const signatures: Readonly<Record<KernelName, Signature>> = {
  ...denseSignatures,
  ...layerSignatures,
  ...latentSignatures,
  ...routingSignatures,
};

/** The names of all kernels. */
export const kernelNames: readonly KernelName[] = Object.keys(signatures) as KernelName[];
