// The plain linear layers: products of FP32 as it is, or rounded to BF16.
import { castTo, inPrecision } from './cast';
import type { LinearFactory } from './linear';
import { linearFactory } from './linear-layer';
import { weightView } from './parameter';
import { shapeError, type Tensor, type Value } from './tensor';

/**
 * The plain factory.
 * @param precision - inputs of the products: FP32 as they are, or rounded to BF16 (sums are FP32 in both)
 * @returns the factory
 */
export function plainLinears(precision: 'fp32' | 'bf16'): LinearFactory {
  return linearFactory({
    precision,
    prepare: (tape, x) => castTo(tape, plain(x), precision),
    weight: (_, weight) => weightView(weight, precision),
    gradient: (tape, grad) => {
      const dy = inPrecision(tape, grad, precision);
      return { rowwise: dy, columnwise: dy };
    },
    columnwise: (_, x) => x,
  });
}

function plain(x: Value): Tensor {
  if (!('codes' in x)) return x;
  throw shapeError('a plain linear layer was given an FP8 tensor: dequantise it first');
}
