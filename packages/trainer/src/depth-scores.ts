// Sums of what the main model and its depths of multi-token prediction said of held-out text.
import { mtpTargets } from '@baleen/mtp';

import type { TokenBatch } from './data/index';

/** The score of a depth of multi-token prediction, which predicts the token k + 1 later (§2.2); null where none is. */
export interface DepthScore {
  /** Nats a token. */
  loss: number | null;
  /** Share of tokens that are its likeliest. */
  accuracy: number | null;
  /**
   * Share of tokens where its likeliest is the main model's: drafts that stay at temperature 0, where those before them
   * are the text's.
   */
  acceptance: number | null;
  /** Tokens predicted: all but the first k of every document. */
  tokens: number;
}

/** What a batch gave: each array holds the main model's positions [B × L], then [B × (L − k)] of each depth. */
export interface BatchScores {
  /** Losses in nats. */
  losses: Float32Array;
  /** Likeliest tokens. */
  likeliest: Int32Array;
}

/** One list's sums. */
interface Sums {
  nats: number;
  right: number;
  agreed: number;
  tokens: number;
}

/** Targets of a batch: the main model's, then each depth's. */
export function listsOf(batch: TokenBatch, depths: number): Int32Array[] {
  const { targets, documents, sequences, sequence: length } = batch;
  return [
    targets,
    ...Array.from({ length: depths }, (_, k) =>
      mtpTargets(targets, documents, { batch: sequences, length, depth: k + 1 }),
    ),
  ];
}

/** Adds up scores of batches. */
export class DepthScores {
  private readonly sums: Sums[];

  /** @param depths - depths of the model */
  constructor(depths: number) {
    this.sums = Array.from({ length: depths + 1 }, () => ({
      nats: 0,
      right: 0,
      agreed: 0,
      tokens: 0,
    }));
  }

  /**
   * Adds a batch.
   * @param batch - its windows
   * @param lists - what `listsOf` returned
   * @param scores - what the model said
   */
  add({ sequence: length }: TokenBatch, lists: Int32Array[], scores: BatchScores): void {
    const { losses, likeliest } = scores;
    let start = 0;
    lists.forEach((targets, k) => {
      const sums = this.sums[k];
      const own = length - k;
      targets.forEach((target, i) => {
        if (target < 0) return;
        const token = likeliest[start + i];
        // The main model predicts the same token k positions later.
        const main = likeliest[Math.floor(i / own) * length + (i % own) + k];
        sums.nats += losses[start + i];
        sums.right += token === target ? 1 : 0;
        sums.agreed += token === main ? 1 : 0;
        sums.tokens += 1;
      });
      start += targets.length;
    });
  }

  /** Scores of the main model, then of each depth. */
  read(): DepthScore[] {
    return this.sums.map(({ nats, right, agreed, tokens }) => {
      const share = (sum: number): number | null => (tokens === 0 ? null : sum / tokens);
      return { loss: share(nats), accuracy: share(right), acceptance: share(agreed), tokens };
    });
  }
}
