// What a rank runs where ranks are threads: what it has to say goes to the thread that started it.
import { BroadcastChannel } from 'node:worker_threads';

import type { Communicator } from '@baleen/comm';

import type { StopMessage, ThreadWork } from './rank-messages';
import { trainAsRank } from './train-as-rank';

/**
 * Trains as one rank.
 * @param communicator - all ranks
 * @param work - see {@link ThreadWork}
 */
export default async function rank(communicator: Communicator, work: ThreadWork): Promise<void> {
  const channel = new BroadcastChannel(work.channel);
  const stopping = new AbortController();
  channel.onmessage = ({ data }: MessageEvent) => {
    if ('stop' in (data as StopMessage)) stopping.abort();
  };
  try {
    await trainAsRank(communicator, work, stopping.signal, (message) => {
      channel.postMessage(message);
    });
  } finally {
    channel.close();
  }
}
