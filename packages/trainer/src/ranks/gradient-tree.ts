// Gradients of micro-batches, added in one binary tree over their index (the deterministic layout): whatever ranks took
// which of them, the same sums are made of the same terms.
import type { Kernels } from '@baleen/kernels';
import {
  carry,
  emptyTensor,
  type Parameter,
  type Region,
  type Tensor,
  type TreeNode,
} from '@baleen/tensor';

/** The sum of a node: a tensor a parameter, as many elements, in rows of one dimension. */
export type GradientSum = readonly Tensor[];

/** The nodes that a rank holds of one source's micro-batches. */
export class GradientTree {
  /** In the order of their terms. */
  readonly nodes: TreeNode<GradientSum>[] = [];
  private readonly free: GradientSum[] = [];
  /** Stands for what the last micro-batch left with the parameters. */
  private readonly live: GradientSum = [];

  /**
   * @param region - where sums live; none is given back
   * @param parameters - whose gradients
   * @param source - of parameters that keep gradients by source, which
   */
  constructor(
    private readonly region: Region,
    private readonly parameters: readonly Parameter[],
    private readonly source: number,
  ) {}

  /**
   * Takes what a micro-batch left with the parameters. The caller clears it.
   * @param index - which micro-batch
   */
  add(index: number): void {
    const { kernels } = this.region;
    const node = { level: 0, index, sum: this.live };
    carry(this.nodes, node, (left, right) => {
      if (right === this.live) this.fromLive(left, true);
      else {
        left.forEach((sum, i) => {
          kernels.add(sum, sum, right[i]);
        });
        this.free.push(right);
      }
      return left;
    });
    const last = this.nodes.at(-1);
    if (last?.sum !== this.live) return;
    last.sum =
      this.free.pop() ?? this.parameters.map(({ size }) => emptyTensor(this.region, [size]));
    this.fromLive(last.sum, false);
  }

  /** Forgets the nodes: the memory is used again. */
  clear(): void {
    for (const { sum } of this.nodes) this.free.push(sum);
    this.nodes.length = 0;
  }

  /** Copies or adds gradients as they lie with the parameters. */
  private fromLive(out: GradientSum, accumulate: boolean): void {
    const { kernels } = this.region;
    this.parameters.forEach(({ grad, sourceGrads, shape }, i) => {
      // Gradients by source are [n, sources, …] of a parameter [n, …].
      const [rows] = shape;
      const cols = grad.size / rows;
      const sources = sourceGrads?.shape[1] ?? 1;
      kernels.copyStrided(out[i], sourceGrads ?? grad, {
        ...{ rows, cols, outStride: cols, xStride: sources * cols, xOffset: this.source * cols },
        accumulate,
      });
    });
  }
}

/**
 * Clears gradients once their trees have taken them.
 * @param kernels - the backend
 * @param parameters - whose
 */
export function clearGradients(kernels: Kernels, parameters: readonly Parameter[]): void {
  for (const { grad, sourceGrads } of parameters) kernels.fill(sourceGrads ?? grad, 0);
}
