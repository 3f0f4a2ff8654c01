// Small tensors that are added over ranks where they lie.
import type { Communicator } from '@baleen/comm';
import type { Kernels } from '@baleen/kernels';
import type { Tensor } from '@baleen/tensor';

/**
 * Adds a tensor over ranks, in place.
 * @param kernels - that write it
 * @param x - the tensor
 * @param ranks - collective
 */
export function addOver(kernels: Kernels, x: Tensor, ranks: Communicator): void {
  if (ranks.size === 1) return;
  kernels.flush();
  const values = x.readSync() as Float32Array | Int32Array;
  ranks.allReduce(values, values);
}
