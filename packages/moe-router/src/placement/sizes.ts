// What a placement of experts on devices is, and which cannot be. Planning runs once in minutes and not in a step, so these
// functions allocate; loads are doubles.
//
// Legend: E experts, S slots, D devices; the slots of a device are neighbours, and so are the devices of a node.
import { checkLength, checkWhole, refuse } from '../checks';

/** Sizes of a placement. */
export interface PlacementSizes {
  /** Experts of the layer. */
  experts: number;
  /** Places for experts on all devices together; what exceeds `experts` holds further replicas. */
  slots: number;
  /** Devices; each has slots / devices. */
  devices: number;
  /**
   * Nodes (default 1). From 2 up the placement is hierarchical: groups stay on one node, as node-limited routing wants
   * it, and replicas on their group's. With 1 it is global: any expert on any device.
   */
  nodes?: number;
  /** Groups of neighbouring experts (default: one a node). */
  groups?: number;
}

/** Where experts are. Every replica of an expert gets the same share of its load. */
export interface ExpertPlacement {
  /** Expert in each slot [S]. */
  expertOfSlot: Int32Array;
  /** First replica of each expert, and their number [E + 1]. */
  offsets: Int32Array;
  /** Slot of each replica, sorted by expert, then by slot [S]. */
  slotOfReplica: Int32Array;
  /** Load of each device [D], in the unit of the loads given. */
  deviceLoad: Float64Array;
}

/** Sizes without gaps, and per node. */
export interface FullSizes extends Required<PlacementSizes> {
  /** Slots of a device. */
  slotsPerDevice: number;
  /** Of one node. */
  node: { experts: number; slots: number; devices: number; groups: number };
  /** Experts of a group. */
  groupSize: number;
}

/**
 * Refuses placements that cannot be.
 * @param load - of each expert
 * @param sizes - see {@link PlacementSizes}
 * @param distinct - no device may hold an expert twice
 * @returns the sizes, complete
 */
export function checkPlacement(
  load: ArrayLike<number>,
  sizes: PlacementSizes,
  distinct: boolean,
): FullSizes {
  const { experts, slots, devices, nodes = 1, groups = nodes } = sizes;
  checkWhole({ experts, slots, devices, nodes, groups }, 1);
  checkLength('load', load, { experts });
  for (let e = 0; e < experts; e += 1)
    if (!(load[e] >= 0 && load[e] < Infinity))
      refuse(
        `load[${e}]`,
        `load[${e}] (${load[e]}) is negative or not finite`,
        'give how many tokens each expert got',
      );
  const divides = (part: string, count: number, of: string, total: number, hint: string): void => {
    if (total % count !== 0)
      refuse(part, `${part} (${count}) does not divide ${of} (${total})`, hint);
  };
  const global = 'choose a divisor, or place globally with nodes: 1';
  divides('groups', groups, 'experts', experts, global);
  divides('nodes', nodes, 'groups', groups, global);
  divides('nodes', nodes, 'devices', devices, global);
  divides('devices', devices, 'slots', slots, 'give every device as many slots');
  if (slots < experts)
    refuse(
      'slots',
      `slots (${slots}) are fewer than experts (${experts})`,
      'give every expert one',
    );
  const slotsPerDevice = slots / devices;
  const node = {
    experts: experts / nodes,
    slots: slots / nodes,
    devices: devices / nodes,
    groups: groups / nodes,
  };
  if (distinct && slotsPerDevice > node.experts)
    refuse(
      'slots',
      `slots (${slots}) give each device ${slotsPerDevice}, more than the ${node.experts} experts of its node: some would be there twice`,
      `take at most ${node.experts * devices}, or fewer nodes`,
    );
  return {
    experts,
    slots,
    devices,
    nodes,
    groups,
    slotsPerDevice,
    node,
    groupSize: experts / groups,
  };
}

/** A placement from what its slots hold. */
export function placementOf(
  expertOfSlot: Int32Array,
  load: ArrayLike<number>,
  { experts, devices, slotsPerDevice }: FullSizes,
): ExpertPlacement {
  const offsets = new Int32Array(experts + 1);
  for (const e of expertOfSlot) offsets[e + 1] += 1;
  for (let e = 0; e < experts; e += 1) offsets[e + 1] += offsets[e];
  const next = offsets.slice();
  const slotOfReplica = new Int32Array(expertOfSlot.length);
  const deviceLoad = new Float64Array(devices);
  expertOfSlot.forEach((e, slot) => {
    slotOfReplica[next[e]++] = slot;
    deviceLoad[Math.floor(slot / slotsPerDevice)] += load[e] / (offsets[e + 1] - offsets[e]);
  });
  return { expertOfSlot, offsets, slotOfReplica, deviceLoad };
}
