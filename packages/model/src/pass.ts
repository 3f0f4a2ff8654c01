// Passes over sequences while they are generated: depths draft, then the main model reads what is pending of every sequence
// at once. A row gets what it would get alone, so texts do not depend on those beside them.
import type { CachedRows, DecodePass, LatentAttention } from '@baleen/mla';
import {
  type Block,
  type Bundle,
  concatRows,
  type Phase,
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
  const rows = sequences
    .map((sequence, place) => ({ ...sequence.rows, sequence, place, ids: sequence.pending() }))
    // Those with as many new tokens are attended to together where they stand beside each other.
    .sort((a, b) => a.count - b.count || a.place - b.place);
  const { latentAttention } = model.layers[0];
  const phases = (pass: DecodePass): Phase[] => model.hiddenPhases(pass);
  return run(region, latentAttention, rows, phases, (tape, output) => {
    const hidden = partsOf(output.h as Tensor, rows);
    // Logits after the last known token and after every draft.
    const logits = readLogits(
      model,
      tape,
      rows.map(({ count, sequence: { drafts } }, r) =>
        hidden[r].rows(count - drafts.length - 1, drafts.length + 1),
      ),
    );
    const made: number[][] = [];
    rows.forEach(({ sequence, place }, r) => {
      made[place] = sequence.settle(tape, logits[r], hidden[r]);
    });
    return made;
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
      return { ...sequence.depthRows(depth.depth, count), ids, hidden: own };
    });
    const before = held;
    const states = rows.map(({ hidden }) => hidden);
    const phases = (pass: DecodePass): Phase[] => model.draftPhases(depth, pass, states);
    running = run(region, depth.block.latentAttention, rows, phases, (tape, output) => {
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

/** Runs phases over the ids of all sequences; where they fail the caches are as before. */
function run<T>(
  region: Region,
  attention: LatentAttention,
  rows: readonly (CachedRows & { ids: readonly number[] })[],
  phasesOf: (pass: DecodePass) => readonly Phase[],
  use: (tape: Tape, output: Bundle) => T,
): T {
  const pass = attention.begin(region, rows);
  const list = rows.flatMap(({ ids }) => ids);
  const ids = tensorFrom(region, [1, list.length], Int32Array.from(list));
  const chain = new Run(region, { grad: false });
  try {
    let output: Bundle = { ids };
    phasesOf(pass).forEach((phase, index) => {
      output = chain.forward(phase, index === 0 ? output : undefined);
    });
    const results: T[] = [];
    chain.tape.scoped(() => {
      results.push(use(chain.tape, output));
      return [];
    });
    chain.finish();
    return results[0];
  } catch (error) {
    chain.abandon();
    pass.undo();
    throw error;
  } finally {
    pass.release();
    ids.block.release();
  }
}
