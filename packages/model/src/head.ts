// The head: hidden states to losses, logits and their gradient in one kernel.
import {
  type Bundle,
  castTo,
  concatRows,
  type Parameter,
  type Tape,
  type Tensor,
  weightView,
} from '@baleen/tensor';

/**
 * Losses of all predicted positions. Main model and depths meet the shared head in one product, so that its gradient is one
 * contribution.
 * @param tape - of the micro-batch
 * @param input - `out0`, `out1`, … [rows, hidden] of the main model and the depths, `targets`, and `rowScale` where the tape
 *   records
 * @param head - [vocab, hidden]
 * @param outer - what its product takes
 * @param withLikeliest - also give the token of each position's largest logit
 * @returns `losses` [rows], and `likeliest` [rows] if asked for
 */
export function headLosses(
  tape: Tape,
  input: Bundle,
  head: Parameter,
  outer: 'fp32' | 'bf16',
  withLikeliest: boolean,
): Bundle {
  const [vocab = 0, hidden = 0] = head.shape;
  const outs = Object.keys(input)
    .filter((name) => /^out\d+$/.test(name))
    .map((name) => {
      const out = input[name] as Tensor;
      return out.reshape([out.size / hidden, hidden]);
    });
  const x = castTo(tape, concatRows(tape, outs), outer);
  const rows = x.size / hidden;
  const targets = input.targets as Tensor;
  const losses = tape.empty([rows]);
  const weight = weightView(head, outer);
  const outputs = withLikeliest ? { losses, likeliest: tape.empty([rows], 'i32') } : { losses };
  const sizes = { rows, hidden, vocab, ...outputs };
  if (!tape.recording) {
    tape.kernels.linearCrossEntropy(losses, x, weight, targets, sizes);
    return outputs;
  }
  const dx = tape.empty([rows, hidden]);
  tape.kernels.linearCrossEntropy(losses, x, weight, targets, sizes, {
    rowScale: input.rowScale as Tensor,
    dx,
    dweight: head.grad,
  });
  tape.record({
    name: 'linearCrossEntropy',
    inputs: [x],
    outputs: [losses],
    saved: [dx],
    backward: () => [dx],
  });
  return outputs;
}
