// What travels in the cases that every communicator is held to: arrays of every type whose elements name their rank and place,
// and their sums in the order of ranks.
import assert from 'node:assert/strict';

const kinds = {
  f32: Float32Array,
  f64: Float64Array,
  i32: Int32Array,
  bf16: Uint16Array,
  u8: Uint8Array,
};
export const sizes = [0, 1, 3, 64, 4097];

/** An array of a type, in shared memory or not. */
export function array(kind, length, shared) {
  const Kind = kinds[kind];
  if (!shared) return new Kind(length);
  return new Kind(new SharedArrayBuffer(Math.max(1, length) * Kind.BYTES_PER_ELEMENT), 0, length);
}

/** Element i of rank r: values that lose bits in a sum, so that its order shows. */
export function element(kind, r, i, salt = 0) {
  const hash = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(r + 1 + 31 * salt, 0x85ebca6b);
  const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
  if (kind === 'i32') return mixed | 0;
  if (kind === 'u8') return mixed & 255;
  // Finite patterns of BF16 of about one size.
  if (kind === 'bf16') return 0x3c00 + (mixed % 0x400) + (mixed & 0x80000000 ? 0x8000 : 0);
  return ((mixed % 2001) - 1000) * 2 ** ((mixed >>> 16) % 40) * 1.1;
}

export function filled(kind, length, shared, r, salt) {
  const x = array(kind, length, shared);
  for (let i = 0; i < length; i += 1) x[i] = element(kind, r, i, salt);
  return x;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
const fromBf16 = (pattern) => {
  word[0] = pattern << 16;
  return float[0];
};
const toBf16 = (x) => {
  float[0] = x;
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16;
};

/** The sum over ranks in their order of the elements i = from … from + length. */
export function summed(kind, n, from, length, salt) {
  const out = array(kind, length, false);
  for (let i = 0; i < length; i += 1) {
    const at = (r) => {
      const cell = new kinds[kind](1);
      cell[0] = element(kind, r, from + i, salt);
      return cell[0];
    };
    if (kind === 'bf16') {
      let sum = fromBf16(at(0));
      for (let r = 1; r < n; r += 1) sum = Math.fround(sum + fromBf16(at(r)));
      out[i] = toBf16(sum);
    } else {
      let sum = at(0);
      for (let r = 1; r < n; r += 1)
        sum =
          kind === 'f32'
            ? Math.fround(sum + at(r))
            : kind === 'i32'
              ? (sum + at(r)) | 0
              : sum + at(r);
      out[i] = sum;
    }
  }
  return out;
}

export function same(found, expected, what) {
  assert.equal(found.length, expected.length, what);
  const bytes = (x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  if (bytes(found).equals(bytes(expected))) return;
  const i = expected.findIndex((value, j) => !Object.is(value, found[j]));
  assert.fail(`${what}: element ${i} is ${found[i]}, expected ${expected[i]}`);
}

/** Runs a call in each form: blocking, waited for, and as a promise. */
const forms = {
  blocking: (group, name, args) => group[name](...args),
  wait: (group, name, args) => group.start[name](...args).wait(),
  done: (group, name, args) => group.start[name](...args).done,
};

let thorough = false;

/** Says whether every form is run with every type and size, or each with some. */
export function beThorough(value) {
  thorough = value;
}

/** Calls `check` for every type asked for, in all forms and with both kinds of memory. */
export async function everyForm(types, check) {
  const variants = Object.keys(forms).flatMap((form) =>
    [true, false].map((shared) => [form, shared]),
  );
  let turn = 0;
  for (const kind of types)
    for (const length of sizes)
      for (const [form, shared] of thorough ? variants : [variants[turn++ % variants.length]])
        await check({
          kind,
          length,
          shared,
          what: `${form} ${kind} × ${length}${shared ? ' shared' : ''}`,
          call: (group, name, ...args) => forms[form](group, name, args),
        });
}

export const sums = ['f32', 'f64', 'i32', 'bf16'];
export const all = [...sums, 'u8'];
/** Uneven pieces, some of nothing. */
export const ragged = (length, n) => {
  const counts = Array.from({ length: n }, (_, k) => (k % 3 === 1 ? 0 : Math.floor(length / n)));
  counts[n - 1] += length - counts.reduce((a, b) => a + b, 0);
  return counts;
};
export const before = (counts, k) => counts.slice(0, k).reduce((a, b) => a + b, 0);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
