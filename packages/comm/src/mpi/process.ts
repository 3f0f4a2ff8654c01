// A process of the job: its thread, the mover beside it, and how it ends.
import { writeSync } from 'node:fs';
import { cpus } from 'node:os';
import { inspect } from 'node:util';
import { MessageChannel, type MessagePort } from 'node:worker_threads';

import { commError } from '../errors';
import { type Lease, Mover, type Running } from '../movers';
import { startWorker } from '../start-worker';
import { Bells } from '../threads/bells';
import { launchOf } from './launcher';
import { Mpi, threadLevel } from './library';
import type { PlaceData } from './place';
import type { Order } from './task';

/**
 * Steps before a thread sleeps: each asks the library, which goes on meanwhile. Where ranks have processors of their own
 * these take longer than a nap does, or one that napped would make the other nap as well, and so on.
 */
const spins = 5000;
const spinsCrowded = 100;
/** Numbers of the threads of a process. */
export const thread = { rank: 0, mover: 1 } as const;

/** What a mover begins with. */
export interface MpiMoverData {
  readonly bells: Int32Array;
  readonly port: MessagePort;
  /** Set to 1 by the rank's thread when it wants the mover to stop, to 2 by the mover when it has. */
  readonly stop: Int32Array;
}

/** Memory as one thread tells another of it. */
export interface Span {
  readonly address: number;
  readonly bytes: number;
}

/** What a rank tells its mover. */
export type ToMpiMover =
  | { place: PlaceData }
  | { leave: number }
  | { id: number; on: number; order: Order; x: Span; out: Span; words: Int32Array };

const stopping = { no: 0, asked: 1, done: 2 } as const;

/** Whether the mover was asked to stop; says then that it does. */
export function stops(stop: Int32Array): boolean {
  if (Atomics.load(stop, 0) === stopping.no) return false;
  Atomics.store(stop, 0, stopping.done);
  Atomics.notify(stop, 0);
  return true;
}

/** This process. */
export class Process {
  readonly mpi: Mpi;
  readonly bells: Bells;
  readonly mover: Mover;
  readonly rank: number;
  readonly size: number;
  /** Whether only the mover may call the library. */
  readonly alone: boolean;
  /** The next number for a group. */
  nextGroup = 1;
  private readonly known = new Set<number>();
  private readonly stop = new Int32Array(new SharedArrayBuffer(4));

  /** @param deadlineMs - how long a call waits where it says nothing */
  constructor(readonly deadlineMs: number) {
    this.mpi = new Mpi();
    const level = process.env.BALEEN_MPI_THREADS === 'serialized' ? 'serialized' : 'multiple';
    const granted = this.mpi.init(threadLevel[level]);
    this.rank = this.mpi.rank();
    this.size = this.mpi.size();
    let thrown: unknown = null;
    process.on('uncaughtExceptionMonitor', (error) => {
      thrown = error;
    });
    process.once('exit', (code) => {
      // Node.js would say what was thrown after this, and the job will be no more by then.
      if (thrown !== null) writeSync(2, `${inspect(thrown)}\n`);
      this.end(code);
    });
    checkLauncher(this.size, this.mpi.name);
    if (granted < threadLevel.serialized)
      throw commError(
        'MPI',
        `mpi: ${this.mpi.name} grants thread level ${granted}, and calls beside compute need 2`,
        'use a library with MPI_THREAD_MULTIPLE or MPI_THREAD_SERIALIZED',
      );
    this.alone = granted < threadLevel.multiple;
    const words = Bells.memory(2);
    this.bells = new Bells(words, thread.rank, spinsCrowded);
    this.mover = new Mover(this.bells, thread.mover, () => this.startMover(words));
  }

  /**
   * Says how many of the ranks run on this machine. Launchers bind each to cores of its own, so that all of these count.
   * @param ranks - this one among them
   */
  neighbours(ranks: number): void {
    this.bells.look(ranks <= cpus().length ? spins : spinsCrowded);
  }

  /**
   * Tells the mover of a group, unless it knows it.
   * @param place - this rank's place in it
   */
  introduce(place: PlaceData): void {
    if (this.known.has(place.group)) return;
    this.known.add(place.group);
    this.mover.start();
    this.mover.tell({ place } satisfies ToMpiMover);
  }

  /**
   * Leaves a group.
   * @param group - its number
   */
  leave(group: number): void {
    if (this.known.delete(group)) this.mover.tell({ leave: group } satisfies ToMpiMover);
  }

  private startMover(bells: Int32Array): Running {
    const { port1: port, port2 } = new MessageChannel();
    const data: MpiMoverData = { bells, port: port2, stop: this.stop };
    return { port, worker: startWorker('mpi-mover', data, [port2]) };
  }

  /** Ends the process's part of the job: with all others, or with everybody where it failed. */
  private end(code: number): void {
    if (this.mover.started) {
      Atomics.store(this.stop, 0, stopping.asked);
      this.mover.wake();
      Atomics.wait(this.stop, 0, stopping.asked, 2000);
    }
    if (code === 0) this.mpi.finalize();
    else this.mpi.abort(code);
  }
}

/** Arrays of failed calls: the library may still read them. */
const graveyard: unknown[] = [];

/**
 * Keeps arrays while a call is under way, and for good where it failed.
 * @param arrays - that the library reads or writes
 */
export function pin(...arrays: unknown[]): Lease {
  return {
    end: (well) => {
      if (!well) graveyard.push(arrays);
    },
  };
}

/** Under the launcher of another library each process would see itself alone, silently. */
function checkLauncher(size: number, name: string): void {
  const launch = launchOf(process.env);
  const expected = launch?.ranks ?? size;
  if (size !== expected)
    throw commError(
      'LAUNCHER',
      `mpi: the launcher started ${expected} ranks (${launch?.variable ?? ''}), ${name} sees ${size}`,
      'start the job with the launcher of that library, or name the launcher’s library in BALEEN_MPI_LIBRARY',
      { path: launch?.variable ?? '' },
    );
}
