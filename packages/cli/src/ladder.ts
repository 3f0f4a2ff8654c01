// The n-gram ladder with the model's place in it: what bits per byte mean, seen at a glance.
import { block } from './format';
import type { Colors } from './io';

/** One rung: an n-gram model of the training bytes, on the same held-out bytes. */
export interface Rung {
  /** Bytes it looks at, the predicted one included. */
  order: number;
  /** Lower is better. */
  bitsPerByte: number;
}

/**
 * Draws the ladder, worst rung first.
 * @param rungs - the n-gram models
 * @param bitsPerByte - the model's own
 * @param colors - of the stream it goes to
 * @param width - columns
 * @returns its lines
 */
export function ladder(
  rungs: readonly Rung[],
  bitsPerByte: number,
  colors: Colors,
  width: number,
): string[] {
  const rows = rungs.map(({ order, bitsPerByte: bits }) => ({
    label: `order ${order}`,
    bits,
    own: false,
  }));
  rows.push({ label: 'this model', bits: bitsPerByte, own: true });
  rows.sort((a, b) => b.bits - a.bits);
  const most = Math.max(...rows.map(({ bits }) => bits), 1e-9);
  const labels = Math.max(...rows.map(({ label }) => label.length));
  const room = Math.max(10, width - labels - 14);
  return rows.map(({ label, bits, own }) => {
    const bar = block(bits / most, room);
    const line = `${label.padEnd(labels)}  ${bits.toFixed(3)}  `;
    return own ? colors.bold(colors.cyan(`  ${line}${bar}`)) : `  ${line}${colors.dim(bar)}`;
  });
}

/**
 * The model's place in words.
 * @param rungs - the n-gram models
 * @param bitsPerByte - the model's own
 * @returns such as `below order 4 of the n-gram ladder`
 */
export function place(rungs: readonly Rung[], bitsPerByte: number): string {
  const beaten = rungs.filter((rung) => bitsPerByte < rung.bitsPerByte);
  if (rungs.length === 0) return '';
  if (beaten.length === 0) return 'above every n-gram: it has not learnt enough yet';
  const best = beaten.reduce((a, b) => (b.bitsPerByte < a.bitsPerByte ? b : a));
  const all = beaten.length === rungs.length ? 'every n-gram here, ' : '';
  return `better than ${all}order ${best.order} included (${best.bitsPerByte.toFixed(3)})`;
}
