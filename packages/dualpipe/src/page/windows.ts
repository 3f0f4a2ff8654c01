// The part of the time that is shown: where it may be, and how it moves.

/** A part of the time. */
export interface Window {
  /** Begin. */
  from: number;
  /** End. */
  to: number;
}

/** The smallest part, of all time. */
const smallest = 1e-4;

/** A part of a length that begins at a moment, moved so that it lies inside of all time. */
export function at(from: number, length: number, total: number): Window {
  const all = total || 1;
  const kept = Math.min(all, Math.max(smallest * all, length));
  const begin = Math.max(0, Math.min(all - kept, from));
  return { from: begin, to: begin + kept };
}

/** What is shown of a stored part: all where there is none. */
export function fitted(stored: readonly [number, number] | null, total: number): Window {
  return stored ? at(stored[0], stored[1] - stored[0], total) : { from: 0, to: total || 1 };
}

/** What to store of a part: null where it is all. */
export function stored({ from, to }: Window, total: number): [number, number] | null {
  return to - from >= (1 - 1e-9) * (total || 1) ? null : [from, to];
}

/** A part enlarged by a factor; what is at a share of its length stays there. */
export function zoomed(
  { from, to }: Window,
  { factor, share }: { factor: number; share: number },
  total: number,
): Window {
  const length = Math.min(total || 1, Math.max(smallest * (total || 1), (to - from) / factor));
  return at(from + share * (to - from - length), length, total);
}

/** A part that has a moment in it: the same, or one that begins a little before the moment. */
export function including(part: Window, time: number, total: number): Window {
  const { from, to } = part;
  if (time >= from && time <= to) return part;
  return at(time - 0.1 * (to - from), to - from, total);
}
