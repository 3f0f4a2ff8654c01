// What a rank does that somebody has started for a run, be it a thread or a process.
import type { Communicator } from '@baleen/comm';

import type { RankMessage, RankWork } from './rank-messages';
import { train } from './train';

/**
 * Trains as one rank.
 * @param communicator - all ranks
 * @param work - see {@link RankWork}
 * @param signal - raised when a stop comes
 * @param say - takes what the first rank has to say
 */
export async function trainAsRank(
  communicator: Communicator,
  { config, options }: RankWork,
  signal: AbortSignal,
  say: (message: RankMessage) => void,
): Promise<void> {
  const leads = communicator.rank === 0;
  const events = train(config, {
    ...options,
    ...{ communicator, signal, locked: true },
    onEvaluation: (share) => {
      if (leads) say({ share });
    },
  });
  for (;;) {
    const next = await events.next();
    if (leads) say(next.done ? { result: next.value } : { event: next.value });
    if (next.done) return;
  }
}
