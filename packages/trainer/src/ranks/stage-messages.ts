// What ranks of a pipeline hand each other: the tensors between two stages in one array, and how it is packed and unpacked.
//
// Values travel in FP32, as they are: a pipeline gives the bits of a single rank.
import type { Communicator } from '@baleen/comm';
import type { MessageLink } from '@baleen/dualpipe';
import {
  type Bundle,
  type BundleGrad,
  emptyTensor,
  type Region,
  type Tensor,
  writeTensor,
} from '@baleen/tensor';

/** Shared memory for messages, used again: ranks keep what they have seen of each other's. */
export class MessagePool {
  private readonly free: Float32Array[] = [];

  /**
   * @param size - elements
   * @returns an array of as many
   */
  take(size: number): Float32Array {
    const fits = this.free.findIndex(({ length }) => length >= size);
    const [whole = new Float32Array(new SharedArrayBuffer(4 * size))] =
      fits < 0 ? [] : this.free.splice(fits, 1);
    return whole.subarray(0, size);
  }

  /**
   * Gives an array back.
   * @param array - from {@link take}
   */
  give({ buffer }: Float32Array): void {
    this.free.push(new Float32Array(buffer));
    this.free.sort((a, b) => a.length - b.length);
  }
}

/** Messages of one size, and what they stand for. */
export class StageMessages {
  private readonly size: number;

  /**
   * @param pool - where they lie
   * @param names - tensors in a message
   * @param shape - of each
   */
  constructor(
    private readonly pool: MessagePool,
    private readonly names: readonly string[],
    private readonly shape: readonly number[],
  ) {
    this.size = shape.reduce((product, size) => product * size, 1);
  }

  /** An array to receive into. */
  take(): Float32Array {
    return this.pool.take(this.names.length * this.size);
  }

  /** Gives an array back. */
  give(array: Float32Array): void {
    this.pool.give(array);
  }

  /**
   * Packs tensors.
   * @param region - theirs
   * @param values - by name; those that are absent are 0
   * @returns an array of its own
   */
  pack({ kernels }: Region, values: Bundle | BundleGrad): Float32Array {
    kernels.flush();
    const array = this.take();
    // Shapes only: the null backend has no values.
    if (kernels.implementation === 'null') return array;
    this.names.forEach((name, index) => {
      const place = array.subarray(index * this.size, (index + 1) * this.size);
      const value = values[name] as Tensor | undefined;
      if (value) place.set(value.readSync());
      else place.fill(0);
    });
    return array;
  }

  /**
   * Unpacks an array, and gives it back.
   * @param region - where the tensors live
   * @param array - a message
   * @returns tensors by name, each held once
   */
  unpack(region: Region, array: Float32Array): Record<string, Tensor> {
    const values = Object.fromEntries(
      this.names.map((name, index) => {
        const tensor = emptyTensor(region, this.shape);
        writeTensor(tensor, array.subarray(index * this.size, (index + 1) * this.size));
        return [name, tensor];
      }),
    );
    this.give(array);
    return values;
  }

  /**
   * A link over a communicator that brings arrays from here, and takes back those that were sent.
   * @param pipe - the ranks of the pipeline
   */
  link({ start }: Communicator): MessageLink<Float32Array> {
    return {
      send: (message, array) => {
        const sent = start.send(array, message.peer);
        const { done } = sent;
        done.then(
          () => {
            this.give(array);
          },
          () => undefined,
        );
        return sent;
      },
      receive: ({ peer }) => {
        const array = this.take();
        const received = start.recv(array, peer);
        return {
          done: received.done,
          wait: () => {
            received.wait();
            return array;
          },
        };
      },
    };
  }
}

/** Lets go of tensors that were unpacked. */
export function letGo(values: Readonly<Record<string, Tensor>>): void {
  for (const { block } of Object.values(values)) block.release();
}
