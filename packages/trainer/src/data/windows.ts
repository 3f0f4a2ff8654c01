// Evaluation: held-out documents as windows in which every token is predicted once, with as much context as fits.
import type { TokenBatch } from './packer';

/** A stretch of one held-out document. */
export interface TokenWindow {
  /** Index of the document. */
  document: number;
  /** Input tokens, the separator before a document's first; at most a sequence. */
  ids: Int32Array;
  /** The token after each; −1 where the input is only context for what follows. */
  targets: Int32Array;
  /** Targets that count. */
  counted: number;
}

/** How windows are cut. */
export interface WindowOptions {
  /** The separator: it stands before a document, and is not itself predicted. */
  documentEnd: number;
  /** Tokens of a window, at most. */
  sequence: number;
  /** Share of a window, in [0, 1), that is only context, except at a document's beginning. */
  stride: number;
}

/**
 * Cuts held-out documents into windows. Every token of every document is the target of exactly one position; windows
 * never reach into another document, so that the sum of losses is −log P of the text and nothing else.
 * @param documents - tokens of each, without separators
 * @param options - separator, length, overlap
 * @returns the windows, in the documents' order; shorter than a sequence only where their document is
 */
export function heldOutWindows(
  documents: readonly Int32Array[],
  { documentEnd, sequence, stride }: WindowOptions,
): TokenWindow[] {
  const context = Math.min(sequence - 1, Math.floor(stride * sequence));
  const windows: TokenWindow[] = [];
  documents.forEach((tokens, document) => {
    const length = Math.min(sequence, tokens.length);
    for (let done = 0; done < tokens.length; ) {
      // The last window is moved back to be full: more context at no cost.
      const start = Math.max(0, Math.min(done - context, tokens.length - length));
      const ids = Int32Array.from({ length }, (_, i) => tokens[start + i - 1] ?? documentEnd);
      const targets = tokens.slice(start, start + length).fill(-1, 0, done - start);
      windows.push({ document, ids, targets, counted: start + length - done });
      done = start + length;
    }
  });
  return windows;
}

/**
 * A part of the windows, spread evenly over all of them, for evaluations in the middle of a run.
 * @param windows - all
 * @param tokens - at most about so many counted tokens; 0 for all
 * @returns some of the windows, always the same ones
 */
export function someWindows(windows: readonly TokenWindow[], tokens: number): TokenWindow[] {
  const all = windows.reduce((sum, { counted }) => sum + counted, 0);
  if (tokens === 0 || tokens >= all) return [...windows];
  const count = Math.max(1, Math.floor((windows.length * tokens) / all));
  return windows.filter(
    (_, index) =>
      Math.floor(((index + 1) * count) / windows.length) >
      Math.floor((index * count) / windows.length),
  );
}

/**
 * Puts windows of the same length together as batches, so that none is padded.
 * @param windows - windows
 * @param sequences - windows of a batch, at most
 * @returns batches over all windows
 */
export function windowBatches(windows: readonly TokenWindow[], sequences: number): TokenBatch[] {
  const byLength = new Map<number, TokenWindow[]>();
  for (const window of windows) {
    const group = byLength.get(window.ids.length);
    if (group) group.push(window);
    else byLength.set(window.ids.length, [window]);
  }
  const batches: TokenBatch[] = [];
  for (const [sequence, group] of byLength)
    for (let first = 0; first < group.length; first += sequences) {
      const members = group.slice(first, first + sequences);
      const size = members.length * sequence;
      const batch: TokenBatch = {
        sequences: members.length,
        sequence,
        ids: new Int32Array(size),
        targets: new Int32Array(size),
        documents: { inputs: new Int32Array(size), targets: new Int32Array(size) },
      };
      members.forEach((window, row) => {
        const from = row * sequence;
        batch.ids.set(window.ids, from);
        batch.targets.set(window.targets, from);
        batch.documents.inputs.fill(window.document, from, from + sequence);
        batch.documents.targets.fill(window.document, from, from + sequence);
      });
      batches.push(batch);
    }
  return batches;
}
