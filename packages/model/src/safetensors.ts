// The safetensors format over bytes: an 8-byte header length, a JSON header, then the tensors. Every header is checked
// against the file before a byte of data is believed.

/** Element types that headers may name here; which of them weights may have, `decodeTensor` and `loadWeights` say. */
export type SafetensorsType =
  | 'F64'
  | 'F32'
  | 'BF16'
  | 'F16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'F8_E8M0'
  | 'I64'
  | 'I32'
  | 'U8'
  | 'BOOL';

const widths: Readonly<Record<SafetensorsType, number>> = {
  F64: 8,
  F32: 4,
  BF16: 2,
  F16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I64: 8,
  I32: 4,
  U8: 1,
  BOOL: 1,
};

/**
 * Bytes that a tensor takes in a file.
 * @param dtype - element type
 * @param shape - sizes
 * @returns their product times the element's width
 */
export function tensorBytes(dtype: SafetensorsType, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, widths[dtype]);
}

/** Where a tensor lies in its file. */
export interface TensorEntry {
  /** The file's name, for messages. */
  file: string;
  /** Element type. */
  dtype: SafetensorsType;
  /** Sizes. */
  shape: number[];
  /** First byte, from the start of the file. */
  start: number;
  /** Bytes. */
  bytes: number;
}

/** A checked header. */
export interface SafetensorsHeader {
  /** Tensors by name. */
  tensors: Map<string, TensorEntry>;
  /** Free text by key. */
  metadata: Record<string, string>;
}

/** Longest header accepted, in bytes. */
const maxHeader = 100_000_000;

function corrupt(file: string, what: string): Error {
  return Object.assign(new Error(`${file}: ${what}`), {
    code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
    path: file,
    hint: 'the file is damaged or was not written to its end: take it from its source again, or use an earlier checkpoint',
  });
}

/**
 * Length of the header, from a file's first 8 bytes.
 * @param prefix - at least 8 bytes
 * @param fileBytes - size of the whole file
 * @param file - its name, for messages
 * @returns bytes of the JSON header
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.length < 8) throw corrupt(file, `holds ${prefix.length} bytes, not even a header`);
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = Number(view.getBigUint64(0, true));
  if (length > maxHeader || 8 + length > fileBytes)
    throw corrupt(file, `its header claims ${length} bytes of a file of ${fileBytes}`);
  return length;
}

/**
 * Reads and checks a header.
 * @param json - the header's bytes
 * @param fileBytes - size of the whole file
 * @param file - its name, for messages
 * @returns the tensors it holds
 */
export function parseHeader(json: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch {
    throw corrupt(file, 'its header is not JSON');
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw corrupt(file, 'its header is not a JSON object');
  const base = 8 + json.length;
  const tensors = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header as Record<string, unknown>)) {
    if (typeof value !== 'object' || value === null)
      throw corrupt(file, `entry "${name}" is not an object`);
    if (name === '__metadata__') {
      metadata = Object.fromEntries(
        Object.entries(value).map(([key, text]) => [key, String(text)]),
      );
      continue;
    }
    tensors.set(name, parseEntry(value as Record<string, unknown>, name, base, fileBytes, file));
  }
  let end = base;
  // Empty tensors begin where the next one does, and come before it.
  const inOrder = [...tensors].sort(([, a], [, b]) => a.start - b.start || a.bytes - b.bytes);
  for (const [name, entry] of inOrder) {
    if (entry.start !== end)
      throw corrupt(file, `tensor "${name}" begins at byte ${entry.start}, expected ${end}`);
    end += entry.bytes;
  }
  if (end !== fileBytes)
    throw corrupt(file, `its tensors end at byte ${end}, the file at byte ${fileBytes}`);
  return { tensors, metadata };
}

function parseEntry(
  entry: Record<string, unknown>,
  name: string,
  base: number,
  fileBytes: number,
  file: string,
): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(widths, dtype))
    throw corrupt(file, `tensor "${name}" has the unknown type ${String(dtype)}`);
  const isSize = (value: unknown): value is number =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize))
    throw corrupt(file, `tensor "${name}" has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw corrupt(file, `tensor "${name}" has no valid offsets`);
  const [from, to] = offsets as [number, number];
  const type = dtype as SafetensorsType;
  const bytes = tensorBytes(type, shape);
  if (to - from !== bytes)
    throw corrupt(
      file,
      `tensor "${name}" [${shape.join(', ')}] ${dtype} needs ${bytes} bytes, its offsets span ${to - from}`,
    );
  if (base + to > fileBytes) throw corrupt(file, `tensor "${name}" reaches beyond the file's end`);
  return { file, dtype: type, shape, start: base + from, bytes };
}

/**
 * A header for tensors written behind each other in the order given.
 * @param entries - names, types and shapes
 * @param metadata - free text
 * @returns the file's first bytes, header length included
 */
export function makeHeader(
  entries: readonly { name: string; dtype: SafetensorsType; shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt', ...metadata } };
  for (const { name, dtype, shape } of entries) {
    const start = end;
    end += tensorBytes(dtype, shape);
    header[name] = { dtype, shape, data_offsets: [start, end] };
  }
  let json = new TextEncoder().encode(JSON.stringify(header));
  // Data begin on a multiple of 8 bytes; JSON may end in spaces.
  const padded = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(0x20);
  padded.set(json);
  json = padded;
  const out = new Uint8Array(8 + json.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  return out;
}
