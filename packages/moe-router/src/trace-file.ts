// A routing trace as a file: the 8 bytes "BALEENRT", the length of a JSON header as a 32-bit integer, the header, each layer's
// bias where there is one, then for each batch its scores (FP32) and, where it has them, its domains (I32), little-endian, in the
// header's order.
import { checkTrace, type RoutingTrace, type TraceBatch, type TraceChoice } from './trace';

const magic = 'BALEENRT';
const begin = magic.length + 4;

/** What the header holds: everything but the arrays, and their lengths. */
interface Header {
  format: 2;
  experts: number;
  layers: number;
  choice: TraceChoice;
  bias: boolean;
  domains: string[] | null;
  batches: { step: number; layer: number; tokens: number }[];
}

/** Numbers behind the header: [length, whether they are integers], in order. */
function* arraysOf({
  experts,
  layers,
  bias,
  domains,
  batches,
}: Header): Generator<[number, boolean]> {
  if (bias) yield [layers * experts, false];
  for (const { tokens } of batches) {
    yield [tokens * experts, false];
    if (domains) yield [tokens, true];
  }
}

/**
 * Writes a trace.
 * @param trace - see {@link RoutingTrace}
 * @returns the file's bytes
 * @throws ERR_BALEEN_ROUTER_SIZES for a trace that cannot be
 */
export function writeTrace(trace: RoutingTrace): Uint8Array {
  checkTrace(trace);
  const { experts, layers, choice, bias, domains, batches } = trace;
  const header: Header = {
    format: 2,
    experts,
    layers,
    choice,
    bias: bias !== undefined,
    domains: domains ? [...domains] : null,
    batches: batches.map(({ step, layer, scores }) => ({
      step,
      layer,
      tokens: scores.length / experts,
    })),
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  let words = 0;
  for (const [length] of arraysOf(header)) words += length;
  const bytes = new Uint8Array(begin + json.length + 4 * words);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setUint32(magic.length, json.length, true);
  bytes.set(json, begin);
  let at = begin + json.length;
  const put = (list: Float32Array | Int32Array): void => {
    const whole = list instanceof Int32Array;
    for (const value of list) {
      if (whole) view.setInt32(at, value, true);
      else view.setFloat32(at, value, true);
      at += 4;
    }
  };
  bias?.forEach(put);
  for (const { scores, domains: own } of batches) {
    put(scores);
    if (own) put(own);
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
  if (!isTrace(bytes)) corrupt(`the file does not begin with ${magic}`);
  const start = begin + view.getUint32(magic.length, true);
  if (start > bytes.length) corrupt('the header is longer than the file');
  const header = parseHeader(bytes.subarray(begin, start));
  const { experts, layers, choice, domains } = header;
  let words = 0;
  for (const [length] of arraysOf(header)) words += length;
  if (bytes.length !== start + 4 * words)
    corrupt(`the file has ${bytes.length} bytes, its header promises ${start + 4 * words}`);
  let at = start;
  const take = (length: number): Float32Array =>
    Float32Array.from({ length }, () => view.getFloat32((at += 4) - 4, true));
  const bias = header.bias ? Array.from({ length: layers }, () => take(experts)) : null;
  const batches = header.batches.map(({ step, layer, tokens }): TraceBatch => {
    const scores = take(tokens * experts);
    if (!domains) return { step, layer, scores };
    const own = Int32Array.from({ length: tokens }, () => view.getInt32((at += 4) - 4, true));
    return { step, layer, scores, domains: own };
  });
  const trace: RoutingTrace = {
    ...{ experts, layers, choice },
    ...(bias && { bias }),
    ...(domains && { domains }),
    batches,
  };
  try {
    checkTrace(trace);
  } catch (error) {
    corrupt((error as Error).message);
  }
  return trace;
}

/**
 * Whether a file is a trace, by its first bytes.
 * @param bytes - the file, or its beginning
 * @returns true where it begins as traces do
 */
export function isTrace(bytes: Uint8Array): boolean {
  return (
    bytes.length >= begin && new TextDecoder().decode(bytes.subarray(0, magic.length)) === magic
  );
}

function parseHeader(json: Uint8Array): Header {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    corrupt(`the header is not JSON: ${(error as Error).message}`);
  }
  const fault = headerFault(header);
  if (fault) corrupt(`the header’s ${fault}`);
  return header as Header;
}

/** What is wrong with a header, in its own names, or null. What counts mean together `checkTrace` says. */
function headerFault(header: unknown): string | null {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  // Products of counts stay whole numbers.
  const isCount = (value: unknown): boolean =>
    Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 31;
  if (!isObject(header)) return 'value is not an object';
  const { format, experts, layers, choice, bias, domains, batches } = header;
  if (format !== 2) return `format (${JSON.stringify(format)}) is not 2`;
  if (!isCount(experts) || !isCount(layers) || experts === 0)
    return 'experts or layers are no counts';
  if (!Array.isArray(batches) || batches.length < Number(layers))
    return 'batches are no list, or fewer than layers';
  if (!isObject(choice) || !isCount(choice.expertsPerToken)) return 'choice has no expertsPerToken';
  const known = ['expertsPerToken', 'groups', 'groupsPerToken', 'groupBest'];
  for (const [key, value] of Object.entries(choice))
    if (!known.includes(key) || !isCount(value)) return `choice.${key} is no count that is known`;
  if (typeof bias !== 'boolean') return 'bias is neither true nor false';
  const named = Array.isArray(domains) && domains.every((name) => typeof name === 'string');
  if (domains !== null && !named) return 'domains are no list of names';
  const index = batches.findIndex(
    (batch) => !isObject(batch) || ![batch.step, batch.layer, batch.tokens].every(isCount),
  );
  return index < 0 ? null : `batches[${index}] has no step, layer or tokens`;
}
