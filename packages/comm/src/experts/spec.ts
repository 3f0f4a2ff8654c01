// What an expert exchange is made of, and the checks that every rank made the same.
import { checkWhole, refuse } from '../checks';
import type { Communicator } from '../communicator';
import { commError } from '../errors';
import { placement } from '../layout';

/** What an {@link ExpertExchange} is made of: the same on every rank. */
export interface ExpertExchangeSpec {
  /** Routed experts, E: with replicas, their slots. */
  experts: number;
  /** Experts a token is sent to, K. */
  expertsPerToken: number;
  /** Width of a token. */
  hidden: number;
  /** Rank of each expert [E] (default: as many neighbouring experts on every rank). */
  rankOfExpert?: Int32Array;
  /**
   * Devices of a node (default: all ranks, one node): a token then crosses the slow link once a node, to the device of its
   * own index there, which passes it on (§3.2.2). Rank r is device r mod `devicesPerNode`.
   */
  devicesPerNode?: number;
  /** What the rows of every expert are filled up to a multiple of, with zeros (default 1). */
  alignment?: number;
}

/** Figures in the order in which ranks compare them. */
const compared = [
  'experts',
  'expertsPerToken',
  'hidden',
  'devicesPerNode',
  'alignment',
  'rankOfExpert',
] as const;

/**
 * Checks a spec, also against those of the other ranks. Collective, and blocks.
 * @param communicator - the ranks
 * @param spec - of this rank
 * @returns devices of a node, alignment, and the rank of each expert
 * @throws ERR_BALEEN_COMM_SIZES where it cannot be, ERR_BALEEN_COMM_MISMATCH where ranks have different ones
 */
export function checkSpec(
  communicator: Communicator,
  spec: ExpertExchangeSpec,
): { devicesPerNode: number; alignment: number; rankOf: Int32Array } {
  const { size } = communicator;
  const { experts, expertsPerToken, hidden, devicesPerNode = size, alignment = 1 } = spec;
  checkWhole({ experts, expertsPerToken, hidden, devicesPerNode, alignment });
  if (size % devicesPerNode !== 0)
    refuse(
      'devicesPerNode',
      `devicesPerNode (${devicesPerNode}) does not divide ranks (${size})`,
      'give every node as many devices',
    );
  const rankOfExpert = placement(experts, size, spec.rankOfExpert);
  const rankOf = Int32Array.from({ length: experts }, (_, expert) => rankOfExpert(expert));
  const hash = rankOf.reduce((h, rank) => Math.imul(h ^ rank, 0x01000193), 0x811c9dc5);
  const own = Int32Array.of(experts, expertsPerToken, hidden, devicesPerNode, alignment, hash);
  const all = new Int32Array(size * own.length);
  communicator.allGather(all, own);
  compared.forEach((path, figure) => {
    const values = Array.from({ length: size }, (_, rank) => all[rank * own.length + figure]);
    const ranks = values.flatMap((value, rank) => (value === values[0] ? [] : [rank]));
    if (ranks.length > 0)
      throw commError(
        'MISMATCH',
        path === 'rankOfExpert'
          ? `ranks 0 and ${ranks[0]} have experts in different places`
          : `${path} is ${values[0]} on rank 0, ${values[ranks[0]]} on rank ${ranks[0]}`,
        'make the exchange of the same spec on every rank',
        { path, ranks },
      );
  });
  return { devicesPerNode, alignment, rankOf };
}
