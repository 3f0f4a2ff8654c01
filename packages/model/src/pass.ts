// Passes over sequences while they are generated: depths draft, then the main model reads what is pending of every sequence
// at once. A row gets what it would get alone, so texts do not depend on those beside them.
import {
  type Block,
  type Bundle,
  type ComputePhase,
  concatRows,
  type Region,
  Run,
  type Tape,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';

import type { Decoder } from './decoder';
import type { Sequence } from './sequence';

/**
 * Makes the next tokens of sequences, at least one each: drafts where they ask for some, then one pass of the main model.
 * @param model - the decoder
 * @param region - intermediate memory
 * @param sequences - which; none of them has ended
 * @returns the tokens made of each, without stop tokens
 */
export function advance(
  model: Decoder,
  region: Region,
  sequences: readonly Sequence[],
): number[][] {
  draft(model, region, sequences);
  const rows = sequences.map((sequence) => {
    const ids = sequence.pending();
    return { caches: sequence.caches, count: ids.length, ids, asked: sequence.drafts.length + 1 };
  });
  return run(region, model.hiddenPhases(rows), rows, (tape, output) => {
    const hidden = partsOf(output.h as Tensor, rows);
    // Logits after the last known token and after every draft.
    const logits = readLogits(
      model,
      tape,
      rows.map(({ count, asked }, s) => hidden[s].rows(count - asked, asked)),
    );
    return sequences.map((sequence, s) => sequence.settle(tape, logits[s], hidden[s]));
  });
}

/** Drafts as many tokens as sequences want: each drawn from what a depth says after those before it. */
function draft(model: Decoder, region: Region, sequences: readonly Sequence[]): void {
  let running = sequences.flatMap((sequence) => {
    const hidden = sequence.beginDrafts();
    return hidden ? [{ sequence, hidden }] : [];
  });
  let held: Block | null = null as Block | null;
  for (let k = 1; running.length > 0; k += 1) {
    const depth = model.mtp[Math.min(k, model.mtp.length) - 1];
    const rows = running.map(({ sequence, hidden }) => {
      // Beyond its last depth the model applies it to what it gave itself, one position further each time.
      const own = k > depth.depth ? hidden.rows((hidden.shape[0] ?? 1) - 1, 1) : hidden;
      const count = own.shape[0] ?? 0;
      const ids = [...sequence.tokens, ...sequence.drafts].slice(-count);
      return { caches: sequence.caches, count, ids, hidden: own };
    });
    const before = held;
    running = run(region, model.draftPhases(depth, rows), rows, (tape, output) => {
      const h = output.h as Tensor;
      h.block.retain();
      held = h.block;
      const hidden = partsOf(h, rows);
      const outs = partsOf(output[`out${depth.depth}`] as Tensor, rows);
      const logits = readLogits(
        model,
        tape,
        rows.map(({ count }, s) => outs[s].rows(count - 1, 1)),
      );
      return running.map(({ sequence }, s) => {
        sequence.draft(logits[s]);
        return { sequence, hidden: hidden[s] };
      });
    });
    before?.release();
    running = running.filter(({ sequence }) => sequence.drafts.length < sequence.wanted);
  }
  held?.release();
}

/** Rows of each sequence in a matrix of all. */
function partsOf(all: Tensor, rows: readonly { count: number }[]): Tensor[] {
  const width = all.shape.at(-1) ?? 1;
  const matrix = all.reshape([all.size / width, width]);
  let start = 0;
  return rows.map(({ count }) => {
    const part = matrix.rows(start, count);
    start += count;
    return part;
  });
}

/** Logits of hidden states, those of each sequence by themselves, where the pass has its memory: use them within it. */
function readLogits(model: Decoder, tape: Tape, hidden: readonly Tensor[]): Float32Array[] {
  const { vocabSize } = model.config;
  const all = model.logits(tape, concatRows(tape, hidden));
  model.kernels.flush();
  const values = all.readSync() as Float32Array;
  let start = 0;
  return hidden.map(({ shape: [count = 0] }) => {
    const own = values.subarray(start, start + count * vocabSize);
    start += own.length;
    return own;
  });
}

/** Runs phases over the ids of all sequences. */
function run<T>(
  region: Region,
  phases: readonly ComputePhase[],
  rows: readonly { ids: readonly number[] }[],
  use: (tape: Tape, output: Bundle) => T,
): T {
  const list = rows.flatMap(({ ids }) => ids);
  const pass = new Run(region, { grad: false });
  const ids = tensorFrom(region, [1, list.length], Int32Array.from(list));
  try {
    let output: Bundle = { ids };
    phases.forEach((phase, index) => {
      output = pass.forward(phase, index === 0 ? output : undefined);
    });
    const results: T[] = [];
    pass.tape.scoped(() => {
      results.push(use(pass.tape, output));
      return [];
    });
    pass.finish();
    return results[0];
  } catch (error) {
    pass.abandon();
    throw error;
  } finally {
    ids.block.release();
  }
}
