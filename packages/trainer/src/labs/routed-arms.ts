// Seeded tokens of many ranks, routed by the project's own gate under several limits at once: every arm sees the same scores.
import { type DispatchLayout, dispatchLayout, type Topology, topologyOf } from '@baleen/comm';
import type { Kernels } from '@baleen/kernels';
import { chooseExperts } from '@baleen/moe-router';
import { gaussian } from '@baleen/tensor';

/** How a gate limits tokens, and on how many nodes its experts are. */
export type GateArm = Readonly<{
  /** Nodes of eight devices; every device has as many neighbouring experts. */
  nodes: number;
  /** Groups of neighbouring experts. */
  groups: number;
  /** Groups that a token keeps. */
  limit: number;
  /** Experts that it chooses. */
  expertsPerToken: number;
}>;

/** What an arm made of a seed's tokens. */
export interface RoutedArm {
  /** The arm. */
  arm: GateArm;
  /** What the arm's ranks run on: H800. */
  topology: Topology;
  /** Of every rank; who goes where token by token is not kept. */
  layouts: DispatchLayout[];
  /** Nodes that a token goes to, on average. */
  nodesPerToken: number;
  /** Ranks that a token goes to, on average. */
  ranksPerToken: number;
  /** Nodes that the token with most of them goes to. */
  mostNodes: number;
}

/** Devices of a node, and so ranks. */
const devices = 8;

/**
 * Ranks of an arm.
 * @param arm - which
 * @returns eight a node
 */
export function ranksOfArm({ nodes }: GateArm): number {
  return nodes * devices;
}

/**
 * Routes the tokens of a seed.
 * @param arms - how
 * @param sizes - tokens of a rank, and experts
 * @param seed - of the scores; a rank has the same in every arm
 * @param options - kernels; what is awaited after every rank, told which share of them is done; and how many ranks to route
 *   at most, to see how long that takes (default: those of the largest arm)
 * @returns one result an arm
 */
export async function routeArms(
  arms: readonly GateArm[],
  sizes: { tokens: number; experts: number },
  seed: number,
  options: { kernels: Kernels; ranked?: (share: number) => Promise<void>; ranks?: number },
): Promise<RoutedArm[]> {
  const { tokens, experts } = sizes;
  const { kernels, ranked, ranks = Math.max(...arms.map(ranksOfArm)) } = options;
  const routers = arms.map((arm) => new ArmRouter(arm, sizes));
  const scores = new Float32Array(tokens * experts);
  for (let rank = 0; rank < ranks; rank += 1) {
    const logit = gaussian(seed * 65_536 + rank);
    for (let i = 0; i < scores.length; i += 1) scores[i] = 1 / (1 + Math.exp(-logit()));
    for (const router of routers) if (rank < router.ranks) router.route(scores, kernels);
    await ranked?.((rank + 1) / ranks);
  }
  return routers.map((router) => router.result());
}

/** Routes rank after rank, and adds up. */
class ArmRouter {
  readonly ranks: number;
  readonly #layouts: DispatchLayout[] = [];
  readonly #indices: Int32Array;
  readonly #isTokenInRank: Uint8Array;
  #mostNodes = 0;

  constructor(
    readonly arm: GateArm,
    readonly sizes: { tokens: number; experts: number },
  ) {
    this.ranks = ranksOfArm(arm);
    this.#indices = new Int32Array(sizes.tokens * arm.expertsPerToken);
    this.#isTokenInRank = new Uint8Array(sizes.tokens * this.ranks);
  }

  route(scores: Float32Array, kernels: Kernels): void {
    const { nodes, groups, limit, expertsPerToken } = this.arm;
    const { tokens, experts } = this.sizes;
    const sizes = { tokens, experts, expertsPerToken };
    // V3's K / M best experts make a group's score.
    const groupBest = Math.max(1, Math.floor(expertsPerToken / limit));
    const gate = { ...sizes, groups, groupsPerToken: limit, groupBest };
    chooseExperts(scores, gate, { kernels, out: this.#indices });
    const out: DispatchLayout = {
      tokensPerRank: new Int32Array(this.ranks),
      tokensPerNode: new Int32Array(nodes),
      tokensPerExpert: new Int32Array(experts),
      isTokenInRank: this.#isTokenInRank,
    };
    dispatchLayout(this.#indices, { ...sizes, ranks: this.ranks, ranksPerNode: devices }, { out });
    this.#layouts.push(out);
    this.#count();
  }

  /** Looks for the token with most nodes. */
  #count(): void {
    const { nodes, expertsPerToken } = this.arm;
    const perNode = this.sizes.experts / nodes;
    for (let slot = 0; slot < this.#indices.length; slot += expertsPerToken) {
      const reached = new Set<number>();
      for (let i = slot; i < slot + expertsPerToken; i += 1)
        reached.add(Math.floor(this.#indices[i] / perNode));
      this.#mostNodes = Math.max(this.#mostNodes, reached.size);
    }
  }

  result(): RoutedArm {
    const all = this.#layouts.length * this.sizes.tokens;
    const mean = (of: (layout: DispatchLayout) => Int32Array): number =>
      this.#layouts.reduce((sum, layout) => sum + of(layout).reduce((a, b) => a + b, 0), 0) / all;
    return {
      arm: this.arm,
      topology: topologyOf('h800', { nodes: this.arm.nodes, devicesPerNode: devices }),
      layouts: this.#layouts,
      nodesPerToken: mean(({ tokensPerNode }) => tokensPerNode),
      ranksPerToken: mean(({ tokensPerRank }) => tokensPerRank),
      mostNodes: this.#mostNodes,
    };
  }
}
