// What a placement of experts makes of loads it was not planned for.
import { checkLength } from '../checks';
import type { Counts } from '../telemetry';
import type { ExpertPlacement } from './sizes';

/**
 * What a placement of experts makes of loads it was not planned for.
 * @param loads - tokens each expert got [experts]
 * @param placement - where experts and their replicas are; replicas share their expert's load evenly
 * @param options - where the result goes
 * @returns load of each device [devices]
 */
export function deviceLoads(
  loads: Counts,
  placement: ExpertPlacement,
  options: { out?: Float64Array } = {},
): Float64Array {
  const { offsets, slotOfReplica } = placement;
  const devices = placement.deviceLoad.length;
  checkLength('loads', loads, { experts: offsets.length - 1 });
  const out = options.out ?? new Float64Array(devices);
  checkLength('out', out, { devices });
  out.fill(0);
  const slotsPerDevice = slotOfReplica.length / devices;
  let e = 0;
  for (const load of loads) {
    const replicas = offsets[e + 1] - offsets[e];
    for (let r = offsets[e]; r < offsets[e + 1]; r += 1)
      out[Math.floor(slotOfReplica[r] / slotsPerDevice)] += load / replicas;
    e += 1;
  }
  return out;
}
