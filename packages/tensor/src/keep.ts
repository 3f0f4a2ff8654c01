// Values kept for backward in fewer bits than forward has them in (§3.3.3). Whoever reads one in backward finds what its
// smaller form stands for: the form is decoded when the first asks for it, into the block that all readers know. Forward
// is not changed in any bit.
import { matrixShape } from './ops';
import type { Block, Rebuildable } from './region';
import type { Tape } from './tape';
import { emptyTensor, shapeError, type Tensor, type Value } from './tensor';

/**
 * What a value is kept in: as it is (`fp32`), rounded to BF16, or in E5M6 or E4M3 (`fp8`) with a scale for each tile of
 * 1×128. Bytes a value: 4, 2, 1.53, 1.03.
 */
export type KeptForm = 'fp32' | 'bf16' | 'e5m6' | 'fp8';

/** What layers keep for backward, and in which forms. */
export interface KeptForms {
  /** Both inputs of SwiGLU; its output is rebuilt from them. */
  readonly swigluInputs: KeptForm;
  /** Attention's output, which its own backward pass and the output projection's weight gradient read. */
  readonly attentionOutput: KeptForm;
}

/**
 * Keeps a value for backward in a smaller form. Call it before the operations that read the value are recorded. If the
 * value itself is still held when backward comes, as a frame's output is, readers find that one.
 * @param tape - the tape
 * @param x - FP32, whole in its block
 * @param form - what it is kept in
 * @param powerOfTwo - scales, where the form has them, are powers of two
 */
export function keepAs(tape: Tape, x: Tensor, form: KeptForm, powerOfTwo = false): void {
  // What is rebuilt anyway takes nothing to keep.
  if (form === 'fp32' || !tape.recording || x.block.source) return;
  if (x.dtype !== 'f32' || x.size * 4 !== x.block.bytes)
    throw shapeError(
      `a ${x.dtype} tensor [${x.shape.join(', ')}] in a block of ${x.block.bytes} bytes cannot be kept as ${form}`,
    );
  const { value, decode } = encoded(tape, x, form, powerOfTwo);
  const kept = new KeptValue(x, decode);
  x.block.source = kept;
  // Behind all readers on the way back, and without outputs: what it is there for is to end.
  tape.record({
    name: `kept as ${form}`,
    inputs: [],
    outputs: [],
    saved: [value],
    backward: () => [],
    discard: () => {
      kept.release();
    },
  });
}

/** The smaller form, and the way back from it. */
function encoded(
  tape: Tape,
  x: Tensor,
  form: Exclude<KeptForm, 'fp32'>,
  powerOfTwo: boolean,
): { value: Value; decode: (out: Tensor) => void } {
  const { kernels } = tape;
  if (form === 'bf16') {
    const value = tape.empty(x.shape, 'bf16');
    kernels.cast(value, x);
    return {
      value,
      decode: (out) => {
        kernels.cast(out, value);
      },
    };
  }
  const [rows, cols] = matrixShape(x);
  const value = tape.emptyScaled([rows, cols], 1, 128, {
    dtype: form === 'fp8' ? 'e4m3' : 'e5m6',
    scaleFormat: powerOfTwo ? 'powerOfTwo' : 'fp32',
  });
  kernels.quantize(value, x, { rows, cols, powerOfTwo });
  return {
    value,
    decode: (out) => {
      kernels.dequantize(out, value, { rows, cols });
    },
  };
}

class KeptValue implements Rebuildable {
  private decoded: Block | null = null;

  constructor(
    private readonly x: Tensor,
    private readonly decode: (out: Tensor) => void,
  ) {}

  rebuild(): void {
    const { block, shape } = this.x;
    if (this.decoded || block.refs > 0) return;
    const out = emptyTensor(block.region, shape);
    this.decode(out);
    this.decoded = out.block;
    block.alias(out.block);
  }

  release(): void {
    this.decoded?.release();
  }
}
