// How messages travel between the ranks of a pipeline: an interface, and the one that sends typed arrays over a communicator.
//
// Messages need no tags. Between two ranks they are received in the order in which they are sent, which `validateSchedule` proves
// of a schedule; so a transport that keeps the order of a pair of ranks is enough.
import type { Message } from './schedule';
import type { Handle } from './stage';

/** Carries messages between ranks. Neither call waits. */
export interface MessageLink<T> {
  /**
   * Begins to send.
   * @param message - its name, and the rank that it goes to
   * @param value - what is sent; not touched until `done`
   * @returns resolves when the value may be used again
   */
  send(message: Message, value: T): Handle<void>;
  /**
   * Begins to receive.
   * @param message - its name, and the rank that it comes from
   * @returns a handle on what arrives
   */
  receive(message: Message): Handle<T>;
}

/** What a link needs of a communicator; that of `@baleen/comm` fits. */
export interface Messenger<A> {
  /** Calls that do not wait. */
  readonly start: {
    /** Sends all elements to a rank. Messages between two ranks arrive in the order of their calls. */
    send(x: A, to: number): Handle<void>;
    /** Receives as many as were sent. */
    recv(out: A, from: number): Handle<void>;
  };
}

/**
 * A link that sends typed arrays over a communicator, whose ranks are those of the schedule.
 *
 * Both ends know the size of each message beforehand, so that it can be on its way while the receiver computes. Where
 * micro-batches differ in size, ranks agree on the sizes before the step.
 * @param communicator - `threads`, `mpi`, or a group that was split off; see {@link Messenger}
 * @param arrayFor - an array of the message's type and size, to receive into; used by the stage from then on
 * @returns the link
 *
 * @example
 * ```ts
 * import { arrayLink } from '@baleen/dualpipe';
 * const handle = { done: Promise.resolve(), wait: () => undefined };
 * const loopback = { start: { send: () => handle, recv: (out: Float32Array) => (out.fill(7), handle) } };
 * const link = arrayLink(loopback, ({ microBatch }) => new Float32Array(microBatch + 1));
 * const message = { kind: 'receive', tensor: 'activation', stage: 0, microBatch: 1, peer: 0 } as const;
 * console.log(link.receive(message).wait().join(' ')); // => 7 7
 * ```
 */
export function arrayLink<A>(
  communicator: Messenger<A>,
  arrayFor: (message: Message) => A,
): MessageLink<A> {
  const { start } = communicator;
  return {
    send: (message, value) => start.send(value, message.peer),
    receive: (message) => {
      const out = arrayFor(message);
      const under = start.recv(out, message.peer);
      return {
        get done() {
          return under.done;
        },
        wait: () => {
          under.wait();
          return out;
        },
      };
    },
  };
}
