// What whoever starts ranks and the ranks tell each other, be they threads or processes.
import type { ErrorReport } from '@baleen/comm';

import type { TrainConfig } from './config';
import type { TrainEvent, TrainResult } from './events';
import type { LockHolder } from './run-lock';
import type { TrainOptions } from './session';

/** What every rank is given. */
export interface RankWork {
  /** The run. */
  config: TrainConfig;
  /** How to train, what can be told to a thread or process. */
  options: Pick<TrainOptions, 'out' | 'resume' | 'preset' | 'origins' | 'inject' | 'restarts'>;
}

/** A thread's work, and the channel of all ranks. */
export interface ThreadWork extends RankWork {
  /** Name of the channel on which events go out and a stop comes in. */
  channel: string;
}

/** What ranks say, the first one but for its beginning and end. */
export type RankMessage =
  | { event: TrainEvent }
  | { share: number }
  | { result: TrainResult }
  /** A process says which it is; threads are known. */
  | { began: { rank: number; process: LockHolder } }
  /** A process says how it failed; threads are asked. */
  | { failed: { rank: number; error: ErrorReport } };

/** What ranks are told after their work: to stop. */
export interface StopMessage {
  /** Finish the step under way, save, and end. */
  stop: true;
}

/** Messages in the order in which they came, and what ended them after those. */
export class Inbox {
  private readonly messages: RankMessage[] = [];
  private failure: { error: unknown } | null = null;
  private wake: (() => void) | null = null;

  /** @param message - that has come */
  put(message: RankMessage): void {
    this.messages.push(message);
    this.wake?.();
  }

  /** @param error - why no more will come */
  fail(error: unknown): void {
    this.failure ??= { error };
    this.wake?.();
  }

  /**
   * The next message.
   * @returns it, as soon as it is there
   * @throws what ended them
   */
  async take(): Promise<RankMessage> {
    for (;;) {
      const message = this.messages.shift();
      if (message) return message;
      if (this.failure) throw this.failure.error;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}
