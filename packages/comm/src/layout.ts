// The layout pass of expert dispatch: from the experts that tokens chose to what goes where, before a byte is sent. It is
// what DeepEP calls `get_dispatch_layout`. A token goes once to a rank however many of its experts are there, and once to a
// node however many of its ranks it goes to.
//
// Legend: T tokens of this rank, K experts a token, E experts, R ranks, N nodes of neighbouring ranks.
import { checkLength, checkWhole, refuse } from './checks';

/** Sizes of a layout pass. */
export interface LayoutSizes {
  /** Tokens of this rank, T. */
  tokens: number;
  /** Experts a token is sent to, K. */
  expertsPerToken: number;
  /** Experts, E: with replicas, their slots, and tokens choose among these. */
  experts: number;
  /** Ranks, R. */
  ranks: number;
  /** Ranks of a node (default: all, one node). */
  ranksPerNode?: number;
}

/** What one rank sends where. */
export interface DispatchLayout {
  /** Tokens that go to each rank [R], this one among them. */
  tokensPerRank: Int32Array;
  /** Tokens that go to each node [N], this rank's among them. */
  tokensPerNode: Int32Array;
  /** Tokens that go to each expert [E]. */
  tokensPerExpert: Int32Array;
  /** 1 where a token goes to a rank, else 0 [T, R]. */
  isTokenInRank: Uint8Array;
}

/**
 * Which tokens go to which ranks and nodes, and how many to each expert.
 * @param indices - chosen experts [T, K], −1 where a choice is left out
 * @param sizes - see {@link LayoutSizes}
 * @param options - `rankOfExpert` [E] (default: as many neighbouring experts on every rank), and where the result goes
 * @returns the layout
 * @throws ERR_BALEEN_COMM_SIZES where sizes, lengths, indices and placement do not agree
 *
 * @example
 * ```ts
 * import { dispatchLayout } from '@baleen/comm';
 * const sizes = { tokens: 2, expertsPerToken: 2, experts: 8, ranks: 4, ranksPerNode: 2 };
 * const layout = dispatchLayout(Int32Array.of(0, 1, 3, 7), sizes);
 * console.log([...layout.tokensPerRank].join(' '), '|', [...layout.tokensPerNode].join(' ')); // => 1 1 0 1 | 2 1
 * console.log([...layout.isTokenInRank].join(' ')); // => 1 0 0 0 0 1 0 1
 * ```
 */
export function dispatchLayout(
  indices: Int32Array,
  sizes: LayoutSizes,
  options: { rankOfExpert?: Int32Array; out?: DispatchLayout } = {},
): DispatchLayout {
  const { tokens, expertsPerToken: k, experts, ranks, ranksPerNode = ranks } = sizes;
  const nodes = checkSizes(sizes);
  checkChosen(indices, sizes);
  const rankOf = placement(experts, ranks, options.rankOfExpert);
  const out = options.out ?? {
    tokensPerRank: new Int32Array(ranks),
    tokensPerNode: new Int32Array(nodes),
    tokensPerExpert: new Int32Array(experts),
    isTokenInRank: new Uint8Array(tokens * ranks),
  };
  const { tokensPerRank, tokensPerNode, tokensPerExpert, isTokenInRank } = out;
  checkLength('out.tokensPerRank', tokensPerRank, { ranks });
  checkLength('out.tokensPerNode', tokensPerNode, { nodes });
  checkLength('out.tokensPerExpert', tokensPerExpert, { experts });
  checkLength('out.isTokenInRank', isTokenInRank, { tokens, ranks });
  for (const counts of [tokensPerRank, tokensPerNode, tokensPerExpert, isTokenInRank])
    counts.fill(0);
  for (let t = 0; t < tokens; t += 1)
    for (let slot = t * k; slot < (t + 1) * k; slot += 1) {
      const expert = indices[slot];
      if (expert === -1) continue;
      tokensPerExpert[expert] += 1;
      const rank = rankOf(expert);
      if (isTokenInRank[t * ranks + rank] === 1) continue;
      tokensPerRank[rank] += 1;
      const node = Math.floor(rank / ranksPerNode);
      if (!reaches(isTokenInRank, t * ranks + node * ranksPerNode, ranksPerNode))
        tokensPerNode[node] += 1;
      isTokenInRank[t * ranks + rank] = 1;
    }
  return out;
}

/** Whether a token already goes to a rank of a node. */
function reaches(isTokenInRank: Uint8Array, from: number, count: number): boolean {
  for (let i = from; i < from + count; i += 1) if (isTokenInRank[i] === 1) return true;
  return false;
}

/** Refuses sizes that cannot be. @returns the number of nodes */
function checkSizes({
  tokens,
  expertsPerToken,
  experts,
  ranks,
  ranksPerNode = ranks,
}: LayoutSizes): number {
  checkWhole({ tokens }, 0);
  checkWhole({ expertsPerToken, experts, ranks, ranksPerNode });
  if (ranks % ranksPerNode !== 0)
    refuse(
      'ranksPerNode',
      `ranksPerNode (${ranksPerNode}) does not divide ranks (${ranks})`,
      'give every node as many ranks',
    );
  return ranks / ranksPerNode;
}

/**
 * Where experts are.
 * @param experts - how many
 * @param ranks - how many
 * @param rankOfExpert - [E], or nothing for as many neighbouring experts on every rank
 * @returns the rank of an expert
 * @throws ERR_BALEEN_COMM_SIZES where that cannot be
 */
export function placement(
  experts: number,
  ranks: number,
  rankOfExpert?: Int32Array,
): (expert: number) => number {
  if (rankOfExpert) {
    checkLength('rankOfExpert', rankOfExpert, { experts });
    checkRange('rankOfExpert', rankOfExpert, 0, ranks, 'name a rank for every expert');
    return (expert) => rankOfExpert[expert];
  }
  if (experts % ranks !== 0)
    refuse(
      'experts',
      `ranks (${ranks}) do not divide experts (${experts})`,
      'say with rankOfExpert where each expert is',
    );
  const expertsPerRank = experts / ranks;
  return (expert) => Math.floor(expert / expertsPerRank);
}

/**
 * Checks the experts that tokens chose.
 * @param indices - [T, K], −1 where a choice is left out
 * @param sizes - T, K and E
 * @throws ERR_BALEEN_COMM_SIZES
 */
export function checkChosen(
  indices: Int32Array,
  { tokens, expertsPerToken, experts }: Pick<LayoutSizes, 'tokens' | 'expertsPerToken' | 'experts'>,
): void {
  checkLength('indices', indices, { tokens, expertsPerToken });
  const hint = 'give chosen experts, and −1 where a choice is left out';
  checkRange('indices', indices, -1, experts, hint);
}

function checkRange(
  path: string,
  values: Int32Array,
  least: number,
  end: number,
  hint: string,
): void {
  for (let i = 0; i < values.length; i += 1)
    if (values[i] < least || values[i] >= end)
      refuse(`${path}[${i}]`, `${path}[${i}] (${values[i]}) is not in ${least} … ${end - 1}`, hint);
}
