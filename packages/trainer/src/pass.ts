// One micro-batch's pass through a chain of phases: piece by piece as the program says, or from the recording of an earlier
// one. A micro-batch's kernel calls are the same every time, addresses included: where the kernels can record, each piece
// runs its program once, and from then on only the calls are made again.
import type { Recording } from '@baleen/kernels';
import type { RecomputedPart } from '@baleen/model';
import { type Region, Run } from '@baleen/tensor';

/** A piece of a pass, and what it is called. */
export type Piece = readonly [name: string, work: (run: Run) => void];

/** What a pass runs in. */
export interface PassOptions {
  /** Memory of the micro-batch; empty before and after. */
  region: Region;
  /** Record for backward. */
  grad: boolean;
  /** Parts that are kept for backward rather than made again. */
  keep: readonly RecomputedPart[];
  /** Recordings of passes that were made before, by kind; null where passes of a kind may differ in their calls. */
  recordings: Map<string, Recording[]> | null;
  /** Which of them this is: passes of one kind make the same calls. */
  kind: string;
}

/**
 * Runs a pass.
 * @param pieces - all of it, in order
 * @param options - see {@link PassOptions}
 * @yields the name of each piece when it is done
 */
export function* passPieces(
  pieces: readonly Piece[],
  { region, grad, keep, recordings, kind }: PassOptions,
): Generator<string, void, void> {
  const recorded = recordings?.get(kind);
  if (recorded) {
    region.occupant = 'a micro-batch made from its recording';
    try {
      for (const [p, piece] of recorded.entries()) {
        piece.replay();
        yield pieces[p][0];
      }
    } finally {
      region.occupant = null;
    }
    return;
  }
  const { kernels } = region;
  const made: Recording[] = [];
  const run = new Run(region, { grad, keep });
  let finished = false;
  try {
    for (const [name, work] of pieces) {
      const body = (): void => {
        work(run);
      };
      if (kernels.record && recordings) made.push(kernels.record(body));
      else body();
      yield name;
    }
    run.finish();
    finished = true;
  } finally {
    // A piece failed, or the caller left in the middle.
    if (!finished) run.abandon();
  }
  if (kernels.record) recordings?.set(kind, made);
}
