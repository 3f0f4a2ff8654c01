// What a rank's thread begins with, and what it reports when it ends.
import type { ErrorReport } from '../error-report';
import type { JobMemory } from './thread';

/** What a rank's thread begins with. */
export interface RankData {
  readonly job: JobMemory;
  readonly rank: number;
  /** The module that it runs. */
  readonly url: string;
  readonly args: unknown;
}

/** How a rank ended. */
export type RankReport = { result: unknown } | { error: ErrorReport };
