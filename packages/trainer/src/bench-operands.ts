// Operands for kernel benchmarks: made-up values in every form that kernels take.
import type { Kernels } from '@baleen/kernels';
import { emptyTensor, Region, ScaledTensor, type Tensor, writeTensor } from '@baleen/tensor';

/** Values that share a scale, along one axis or both. */
export const block = 128;

/** Makes operands in a region of their own. */
export class Operands {
  private readonly region: Region;
  private seed = 1;

  constructor(private readonly kernels: Kernels) {
    this.region = new Region(kernels, 'bench');
  }

  /** FP32 values spread evenly over (−1, 1), from a linear congruential sequence. */
  f32(...shape: number[]): Tensor {
    const tensor = emptyTensor(this.region, shape);
    const values = new Float32Array(tensor.size);
    let state = (this.seed += 1);
    for (let i = 0; i < values.length; i += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      values[i] = state / 2 ** 31;
    }
    writeTensor(tensor, values);
    return tensor;
  }

  /** The same in BF16. */
  bf16(...shape: number[]): Tensor {
    const out = emptyTensor(this.region, shape, 'bf16');
    this.kernels.cast(out, this.f32(...shape));
    return out;
  }

  /** The same of many rows, of which a thousand differ: making each would take longer than what is measured. */
  bf16Rows(rows: number, cols: number): Tensor {
    const out = emptyTensor(this.region, [rows, cols], 'bf16');
    const most = Math.min(rows, 1000);
    const some = this.bf16(most, cols);
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      this.kernels.copy(out.rows(row, count), some.rows(0, count));
    }
    return out;
  }

  /** These integers. */
  i32(values: readonly number[]): Tensor {
    const out = emptyTensor(this.region, [values.length], 'i32');
    writeTensor(out, Int32Array.from(values));
    return out;
  }

  /** An FP8 tensor with room for its scales, not written yet. */
  scaled(
    shape: readonly number[],
    blockRows: number,
    blockCols: number,
    scaleRows?: number,
  ): ScaledTensor {
    const [stack, r, c] = shape.length === 3 ? shape : [1, ...shape];
    return new ScaledTensor(
      emptyTensor(this.region, shape, 'e4m3'),
      emptyTensor(this.region, [
        stack * (scaleRows ?? Math.ceil(r / blockRows)),
        Math.ceil(c / blockCols),
      ]),
      blockRows,
      blockCols,
    );
  }

  /** The same values in FP8. */
  fp8(shape: readonly number[], blockRows: number, blockCols: number): ScaledTensor {
    const out = this.scaled(shape, blockRows, blockCols);
    const [stack, r, c] = shape.length === 3 ? shape : [1, ...shape];
    this.kernels.quantize(out, this.f32(...shape), { rows: r, cols: c, stack });
    return out;
  }
}
