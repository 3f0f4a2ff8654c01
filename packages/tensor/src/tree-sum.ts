// Sums whose bits do not depend on who added what (the deterministic layout): terms are added in one binary tree over
// their index, ((0 + 1) + (2 + 3)) + …, however they are spread over ranks.
//
// A node of the tree holds 2^level terms from a multiple of 2^level on. Neighbours that make up such a node are added as
// soon as both are there, as digits carry in a binary counter: of n terms in a row never more than about 2 · log₂ n sums
// are held. What is left at the right edge of the tree is added from the right.

/** A sum of neighbouring terms that is a node of the tree. */
export interface TreeNode<T> {
  /** Its terms' number is 2^level. */
  level: number;
  /** Which of its level: its first term is index · 2^level. */
  index: number;
  /** Their sum. */
  sum: T;
}

/**
 * Adds a node to those that are held, and carries.
 * @param held - nodes in the order of their terms, none of which could be added; changed
 * @param node - its terms follow those held
 * @param add - adds the right sum to the left one and returns the result; it may use the memory of either
 */
export function carry<T>(
  held: TreeNode<T>[],
  node: TreeNode<T>,
  add: (left: T, right: T) => T,
): void {
  let { level, index, sum } = node;
  for (
    let left = held.at(-1);
    left?.level === level && index % 2 === 1 && left.index === index - 1;
    left = held.at(-1)
  ) {
    held.pop();
    sum = add(left.sum, sum);
    level += 1;
    index >>= 1;
  }
  held.push({ level, index, sum });
}

/**
 * The nodes that terms in a row come to: what a rank holds of them, and in which order.
 * @param first - the first term
 * @param end - the one behind the last
 * @returns levels and indices, in the order of their terms
 */
export function nodesOf(first: number, end: number): Omit<TreeNode<null>, 'sum'>[] {
  const held: TreeNode<null>[] = [];
  for (let term = first; term < end; term += 1)
    carry(held, { level: 0, index: term, sum: null }, () => null);
  return held.map(({ level, index }) => ({ level, index }));
}

/**
 * The sum of the whole tree.
 * @param nodes - of all terms from 0 on, in their order, from whichever ranks
 * @param add - see {@link carry}
 * @returns the sum; undefined of no nodes
 */
export function treeSum<T>(
  nodes: Iterable<TreeNode<T>>,
  add: (left: T, right: T) => T,
): T | undefined {
  const held: TreeNode<T>[] = [];
  for (const node of nodes) carry(held, node, add);
  return held
    .map(({ sum }) => sum)
    .reduceRight<T | undefined>(
      (right, left) => (right === undefined ? left : add(left, right)),
      undefined,
    );
}
