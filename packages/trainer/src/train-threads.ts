// Ranks as threads of this process: each runs train-rank.js of the build, and what the first one says comes out here.
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';

import { threads } from '@baleen/comm/threads';
import { loadKernels, setThreads } from '@baleen/kernels';

import type { TrainEvent, TrainResult } from './events';
import {
  Inbox,
  type RankMessage,
  type RankWork,
  type StopMessage,
  type ThreadWork,
} from './rank-messages';
import type { TrainOptions } from './session';

/** Threads run the build, whether this is the build or the sources. */
const module = new URL('../dist/train-rank.js', import.meta.url);

/**
 * Trains on `config.layout.ranks` threads, until the end or until a rank is lost.
 * @param work - what every rank is given
 * @param options - of the run: its signal, its deadline, and who hears of evaluations
 * @returns events of the first rank; the generator's return value is the result
 * @throws what the first rank to blame threw
 */
export async function* trainOnThreads(
  work: RankWork,
  options: Pick<TrainOptions, 'signal' | 'onEvaluation' | 'deadlineMs'>,
): AsyncGenerator<TrainEvent, TrainResult, void> {
  const { signal, onEvaluation, deadlineMs } = options;
  const { config } = work;
  const threadWork: ThreadWork = { ...work, channel: `baleen-train-${randomUUID()}` };
  const channel = new BroadcastChannel(threadWork.channel);
  const stop = (): void => {
    channel.postMessage({ stop: true } satisfies StopMessage);
  };
  const ending = new AbortController();
  let job: Promise<unknown> = Promise.resolve();
  try {
    loadKernels();
    setThreads(config.threads);
    const inbox = new Inbox();
    channel.onmessage = ({ data }: MessageEvent) => {
      const message = data as RankMessage;
      if ('share' in message) onEvaluation?.(message.share);
      else inbox.put(message);
    };
    signal?.addEventListener('abort', stop);
    job = threads(config.layout.ranks, module, threadWork, {
      signal: ending.signal,
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
    });
    job.catch((error: unknown) => {
      inbox.fail(error);
    });
    // A signal that came before the ranks listened is told again with every message until they stop.
    for (;;) {
      const message = await inbox.take();
      if (signal?.aborted) stop();
      if ('event' in message) yield message.event;
      else if ('result' in message) {
        await job;
        return message.result;
      }
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    channel.close();
    // Whoever takes no more events wants no more training: it ends when nobody trains any more.
    ending.abort();
    await job.catch(() => undefined);
  }
}
