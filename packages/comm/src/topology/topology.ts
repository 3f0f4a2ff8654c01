// The hardware that ranks communicate over, as data: nodes × devices, a fast link within a node and a slow one between
// nodes, and the processors that move the bytes. Rank r is device r mod devicesPerNode of node ⌊r / devicesPerNode⌋.
import { commError } from '../errors';
import { type Machine, type MachineName, machines } from './machines';

/** Nodes of one kind. */
export interface Topology extends Machine {
  /** How many. */
  nodes: number;
}

/** Figures that differ from a machine's. */
export type MachineChanges = {
  readonly [Part in keyof Machine]?: Machine[Part] extends object
    ? Readonly<Partial<Machine[Part]>>
    : Machine[Part];
};

/** What a figure must be, in words, and whether it is. */
type Rule = readonly [words: string, holds: (value: number, total: number) => boolean];

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 1;
const count: Rule = ['a whole number from 1', isCount];
const rate: Rule = ['a number above 0', (value) => value > 0];
const delay: Rule = ['a finite number from 0', (value) => value >= 0 && value < Infinity];
const part: Rule = [
  'a whole number from 1 to processors.total',
  (value, total) => isCount(value) && value <= total,
];

/** Every figure of a topology. */
const figures: Readonly<Record<string, Rule>> = {
  nodes: count,
  devicesPerNode: count,
  'within.gbps': rate,
  'within.latencyUs': delay,
  'between.gbps': rate,
  'between.latencyUs': delay,
  'processors.total': count,
  'processors.communication': part,
  'processors.readGbps': rate,
  'processors.writeGbps': rate,
};

/**
 * Nodes of a machine, with changes.
 * @param machine - a name with published figures ({@link machines}), or one of your own
 * @param options - how many `nodes`, and whatever differs from the machine
 * @returns a new, complete topology
 * @throws ERR_BALEEN_COMM_TOPOLOGY for a machine that is not known, and a figure that is missing, cannot be, or that a
 *   topology does not have
 *
 * @example
 * ```ts
 * import { topologyOf } from '@baleen/comm';
 * const { nodes, within, between, processors } = topologyOf('h800', { nodes: 8, processors: { communication: 24 } });
 * console.log(nodes, within.gbps, between.gbps, `${processors.communication} of ${processors.total}`); // => 8 200 50 24 of 132
 * ```
 */
export function topologyOf(
  machine: MachineName | Machine,
  options: { nodes: number } & MachineChanges,
): Topology {
  const base = typeof machine === 'string' ? machineNamed(machine) : machine;
  const { nodes, devicesPerNode = base.devicesPerNode, within, between, processors } = options;
  const topology: Topology = {
    nodes,
    devicesPerNode,
    within: { ...base.within, ...within },
    between: { ...base.between, ...between },
    processors: { ...base.processors, ...processors },
  };
  checkNames(options);
  const values = leaves(topology);
  checkNames(topology);
  for (const [path, [words, holds]] of Object.entries(figures)) {
    const value = values[path] as number;
    if (!(typeof value === 'number' && holds(value, topology.processors.total)))
      refuse(path, `topology.${path} (${String(value)}) is not ${words}`, `give ${words}`);
  }
  return topology;
}

/**
 * How many ranks a topology has, one a device.
 * @param topology - its nodes and devices
 * @returns their product
 */
export function ranksOf({
  nodes,
  devicesPerNode,
}: Pick<Topology, 'nodes' | 'devicesPerNode'>): number {
  return nodes * devicesPerNode;
}

function machineNamed(name: string): Machine {
  const known = Object.keys(machines);
  if (!known.includes(name))
    refuse(
      'machine',
      `there is no machine ${name}`,
      `the machines are ${known.join(', ')}; or give figures of your own`,
    );
  return machines[name as MachineName];
}

function checkNames(of: object): void {
  for (const path of Object.keys(leaves(of)))
    if (!(path in figures))
      refuse(
        path,
        `topology.${path} is no figure of a topology`,
        `the figures are ${Object.keys(figures).join(', ')}`,
      );
}

/** Values by dotted names; parts that are left out have none. */
function leaves(of: object): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(of).flatMap(([key, value]: [string, unknown]): [string, unknown][] =>
      typeof value === 'object' && value !== null
        ? Object.entries(leaves(value)).map(([name, leaf]) => [`${key}.${name}`, leaf])
        : value === undefined
          ? []
          : [[key, value]],
    ),
  );
}

function refuse(path: string, message: string, hint: string): never {
  throw commError('TOPOLOGY', message, hint, { path });
}
