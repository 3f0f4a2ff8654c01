// A routing trace: the scores that a run's tokens had, written to be routed again by another policy, another gate or another
// placement, without the model.
//
// The file: the 8 bytes "BALEENRT", the length of a JSON header as a 32-bit integer, the header, then for each batch its
// scores (FP32) and, where it has them, its domains (I32), little-endian, in the header's order.
import type { Kernels } from '@baleen/kernels';

import { checkLength, checkWhole, refuse } from './checks';
import { type ChoiceOptions, chooseExperts } from './functions';
import type { LoadSeries } from './loads';
import type { ExpertPlacement } from './placement/sizes';
import { type BalancePolicy, Balancer } from './policy';
import type { Counts } from './telemetry';

/** What one layer's router saw of one micro-batch. */
export interface TraceBatch {
  /** Step of the run; batches of a step follow each other. */
  step: number;
  /** Layer, from 0. */
  layer: number;
  /** Scores without bias, after sigmoid or softmax [tokens, experts]. */
  scores: Float32Array;
  /** Each token's domain [tokens], where it is known. */
  domains?: Int32Array;
}

/** What routers saw over a run. */
export interface RoutingTrace {
  /** Experts of every layer. */
  experts: number;
  /** Layers. */
  layers: number;
  /** In the order they were routed. */
  batches: readonly TraceBatch[];
}

const magic = 'BALEENRT';

interface Header {
  format: 1;
  experts: number;
  layers: number;
  batches: { step: number; layer: number; tokens: number; domains: boolean }[];
}

/**
 * Writes a trace.
 * @param trace - see {@link RoutingTrace}
 * @returns the file's bytes
 * @throws ERR_BALEEN_ROUTER_SIZES for scores and domains that do not fit
 */
export function writeTrace(trace: RoutingTrace): Uint8Array {
  const { experts, layers, batches } = trace;
  checkWhole({ experts, layers }, 1);
  const header: Header = {
    format: 1,
    experts,
    layers,
    batches: batches.map(({ step, layer, scores, domains }, index) => {
      const tokens = scores.length / experts;
      const path = `batches[${index}]`;
      if (!Number.isInteger(tokens))
        refuse(
          `${path}.scores`,
          `${path}.scores holds ${scores.length} values, no multiple of experts (${experts})`,
          'scores are [tokens, experts]',
        );
      if (domains) checkLength(`${path}.domains`, domains, { tokens });
      return { step, layer, tokens, domains: domains !== undefined };
    }),
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const words = batches.reduce(
    (sum, { scores, domains }) => sum + scores.length + (domains?.length ?? 0),
    0,
  );
  const start = magic.length + 4 + json.length;
  const bytes = new Uint8Array(start + 4 * words);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setUint32(magic.length, json.length, true);
  bytes.set(json, magic.length + 4);
  let at = start;
  for (const { scores, domains } of batches) {
    for (const score of scores) view.setFloat32((at += 4) - 4, score, true);
    for (const domain of domains ?? []) view.setInt32((at += 4) - 4, domain, true);
  }
  return bytes;
}

function corrupt(message: string): never {
  throw Object.assign(new Error(message), {
    code: 'ERR_BALEEN_ROUTER_TRACE',
    hint: 'write the trace again: this one is cut short or of another kind',
  });
}

/**
 * Reads a trace.
 * @param bytes - from {@link writeTrace}
 * @returns the trace
 * @throws ERR_BALEEN_ROUTER_TRACE where the bytes are no trace, or not a whole one
 */
export function readTrace(bytes: Uint8Array): RoutingTrace {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begin = magic.length + 4;
  if (bytes.length < begin || new TextDecoder().decode(bytes.subarray(0, magic.length)) !== magic)
    corrupt(`the file does not begin with ${magic}`);
  const start = begin + view.getUint32(magic.length, true);
  if (start > bytes.length) corrupt('the header is longer than the file');
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(begin, start))) as Header;
  const { experts, layers } = header;
  const words = header.batches.reduce(
    (sum, { tokens, domains }) => sum + tokens * (experts + (domains ? 1 : 0)),
    0,
  );
  if (bytes.length !== start + 4 * words)
    corrupt(`the file has ${bytes.length} bytes, its header promises ${start + 4 * words}`);
  let at = start;
  const batches = header.batches.map(({ step, layer, tokens, domains }): TraceBatch => {
    const scores = Float32Array.from({ length: tokens * experts }, () =>
      view.getFloat32((at += 4) - 4, true),
    );
    if (!domains) return { step, layer, scores };
    const own = Int32Array.from({ length: tokens }, () => view.getInt32((at += 4) - 4, true));
    return { step, layer, scores, domains: own };
  });
  return { experts, layers, batches };
}

/**
 * Routes a trace again: the same scores under another policy, other groups or another top-k. What a bias would have changed in
 * the scores themselves, by training, it does not show.
 * @param trace - see {@link RoutingTrace}
 * @param sizes - how tokens choose
 * @param policy - how each layer's bias follows its loads; its schedules see the share of steps done
 * @param options - kernels (default: `loadKernels()`)
 * @returns loads of each step, to be summarised, drawn or placed
 */
export function replayTrace(
  trace: RoutingTrace,
  sizes: Omit<ChoiceOptions, 'tokens' | 'experts'>,
  policy: BalancePolicy,
  options: { kernels?: Kernels } = {},
): LoadSeries {
  const { experts, layers, batches } = trace;
  const balancers = Array.from({ length: layers }, () => new Balancer(experts, policy, options));
  const steps = [...new Set(batches.map(({ step }) => step))];
  const loads: Int32Array[][] = [];
  let next = 0;
  for (const [index, step] of steps.entries()) {
    for (; next < batches.length && batches[next].step === step; next += 1) {
      const { layer, scores } = batches[next];
      const balancer = balancers[layer];
      const indices = chooseExperts(
        scores,
        { ...sizes, tokens: scores.length / experts, experts },
        { ...options, bias: balancer.bias },
      );
      for (const e of indices) balancer.counts[e] += 1;
    }
    loads.push(balancers.map(({ counts }) => counts.slice()));
    for (const balancer of balancers) balancer.update((index + 1) / steps.length);
  }
  return { steps, loads };
}

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
