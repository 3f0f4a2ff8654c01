// A slow link in front of any communicator: what is sent leaves after the time that it would take, and nobody computes
// meanwhile. It shows on a small machine what overlap of communication and computation would give on a large one.
import { bytesOfCall } from './call-bytes';
import { type Call, calls } from './calls';
import type { CallOptions, Communicator, Handle, Operations } from './communicator';
import { commError } from './errors';

/** A link between a rank and all others. */
export interface LinkOptions {
  /** What it carries in each direction, 10⁹ bytes a second. */
  gbps: number;
  /** Microseconds from the end of a transfer until its data are there. */
  latencyUs: number;
}

/** A rank's link, which all groups of the rank share: transfers follow one another. */
class Link {
  private freeAt = 0;

  constructor(private readonly options: LinkOptions) {}

  /**
   * Puts a call on the link.
   * @param call - a checked call
   * @param communicator - that it is made on
   * @param options - of the call
   * @returns the options with the time until its data are through
   */
  send<Options extends CallOptions>(
    call: Call,
    { rank, size }: Communicator,
    options: Options,
  ): Options {
    if (size === 1 || call.operation === 'recv') return options;
    const { gbps, latencyUs } = this.options;
    const time = performance.now();
    // Both directions at once: the fuller one decides.
    const bytes = Math.max(...bytesOfCall(call, rank, size));
    this.freeAt = Math.max(time, this.freeAt) + bytes / (gbps * 1e6);
    const delayMs = (options.delayMs ?? 0) + this.freeAt - time + latencyUs / 1000;
    return { ...options, delayMs };
  }
}

/** Calls as they go over a link. */
function over<Result>(
  link: Link,
  communicator: Communicator,
  through: Operations<Result>,
): Operations<Result> {
  return {
    send: (x, to, options = {}) =>
      through.send(x, to, link.send(calls.send(communicator, x, to), communicator, options)),
    recv: (out, from, options = {}) => through.recv(out, from, options),
    broadcast: (x, root, options = {}) =>
      through.broadcast(
        x,
        root,
        link.send(calls.broadcast(communicator, x, root), communicator, options),
      ),
    allReduce: (out, x, options = {}) =>
      through.allReduce(
        out,
        x,
        link.send(calls.allReduce(communicator, out, x), communicator, options),
      ),
    reduceScatter: (out, x, options = {}) =>
      through.reduceScatter(
        out,
        x,
        link.send(calls.reduceScatter(communicator, out, x, options), communicator, options),
      ),
    allGather: (out, x, options = {}) =>
      through.allGather(
        out,
        x,
        link.send(calls.allGather(communicator, out, x, options), communicator, options),
      ),
    allToAll: (out, x, options = {}) =>
      through.allToAll(
        out,
        x,
        link.send(calls.allToAll(communicator, out, x, options), communicator, options),
      ),
    barrier: (options = {}) => through.barrier(link.send(calls.barrier(), communicator, options)),
  };
}

function linked(link: Link, communicator: Communicator): Communicator {
  const start: Operations<Handle> = over(link, communicator, communicator.start);
  return {
    ...over(link, communicator, communicator),
    rank: communicator.rank,
    size: communicator.size,
    traffic: communicator.traffic,
    get spentMs() {
      return communicator.spentMs;
    },
    start,
    split(color, key, options) {
      const group = communicator.split(color, key, options);
      return group && linked(link, group);
    },
    close: () => {
      communicator.close();
    },
  };
}

/**
 * Puts a link of a chosen speed between a rank and the others. A call's data leave when those of the calls before are
 * through and their own would be, `latencyUs` + bytes / `gbps` later; no processor is used until then. Bytes are those of
 * the call's `traffic`, in the direction that has more. All ranks of a group wrap their ends alike.
 * @param communicator - this rank's end of any group; groups that are split off share its link
 * @param options - see {@link LinkOptions}
 * @returns the same communicator behind the link
 * @throws ERR_BALEEN_COMM_OPTIONS where the link cannot be
 *
 * @example
 * ```ts
 * import { emulatedLink, self } from '@baleen/comm';
 * const communicator = emulatedLink(self(), { gbps: 0.05, latencyUs: 20 });
 * communicator.barrier(); // at once: a rank alone sends nothing
 * console.log(communicator.size); // => 1
 * ```
 */
export function emulatedLink(communicator: Communicator, options: LinkOptions): Communicator {
  const { gbps, latencyUs } = options;
  const refuse = (path: string, value: number, what: string): never => {
    throw commError('OPTIONS', `emulatedLink: ${path} (${value}) is not ${what}`, `give ${what}`, {
      path,
    });
  };
  if (!(gbps > 0)) refuse('gbps', gbps, 'a number above 0');
  if (!(latencyUs >= 0)) refuse('latencyUs', latencyUs, 'a number from 0');
  return linked(new Link(options), communicator);
}
