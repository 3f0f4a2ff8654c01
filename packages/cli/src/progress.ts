// Progress on stderr: a line that is rewritten on a terminal, a plain line every few seconds elsewhere.
import type { SingleBar } from 'cli-progress';

import { block, clock } from './format';
import type { Voice } from './io';

/** Seconds between plain lines. */
const plainEvery = 5;

/** What a moment of work looks like. */
export interface Moment {
  /** Share done, 0 to 1. */
  share: number;
  /** Parts of the line, most important first; the last ones go when the terminal is narrow. */
  parts: readonly string[];
  /** Time left such as `0:38`, or null while it is unknown. */
  left: string | null;
}

/** A piece of work under way. */
export interface Progress {
  /** Shows a moment, if it is time to. */
  update(moment: Moment): void;
  /** Prints a line that stays. */
  note(line: string): void;
  /** Ends the live line. May be called twice. */
  stop(): void;
}

/**
 * Starts showing progress.
 * @param voice - the command's voice; quiet shows nothing
 * @param now - clock in milliseconds
 * @returns where moments go
 */
export async function openProgress(
  voice: Voice,
  now: () => number = () => performance.now(),
): Promise<Progress> {
  if (voice.quiet) return { update: () => undefined, note: () => undefined, stop: () => undefined };
  if (!voice.io.stderr.isTTY) return plainProgress(voice, now);
  const progress = await import('cli-progress');
  return liveProgress(voice, progress.default.SingleBar);
}

/**
 * Follows work that tells its share and perhaps what it does, once it is known to take more than two seconds.
 * @param progress - where it is shown
 * @param what - what is done, where the work does not say
 * @param now - clock in milliseconds
 * @returns takes the share done, and parts of the line; a smaller share than before begins anew
 */
export function paced(
  progress: Progress,
  what: string,
  now: () => number = () => performance.now(),
): (share: number, parts?: readonly string[]) => void {
  let first = { share: 1, at: 0 };
  let before = 1;
  return (share, parts = [what]) => {
    if (share <= before) first = { share, at: now() };
    before = share;
    if (share === first.share) return;
    const pace = (now() - first.at) / 1000 / (share - first.share);
    if (pace > 2) progress.update({ share, parts, left: clock(pace * (1 - share)) });
  };
}

function plainProgress(voice: Voice, now: () => number): Progress {
  let last = -Infinity;
  return {
    update: ({ share, parts, left }) => {
      if (share < 1 && now() - last < plainEvery * 1000) return;
      last = now();
      voice.say(['  ' + percent(share), ...parts, leftOf(left)].filter(Boolean).join('  '));
    },
    note: (line) => {
      voice.say(`  ${line}`);
    },
    stop: () => undefined,
  };
}

function liveProgress(voice: Voice, Bar: typeof SingleBar): Progress {
  const { stderr } = voice.io;
  let bar: SingleBar | undefined;
  const open = (line: string): SingleBar => {
    const created = new Bar({
      stream: stderr as NodeJS.WritableStream,
      format: (_options, _params, payload: { line: string }) => payload.line,
      hideCursor: true,
      clearOnComplete: true,
      // The command has its own: the line must not end while the step and the save go on.
      gracefulExit: false,
    });
    created.start(1, 0, { line });
    return created;
  };
  const stop = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    update: (moment) => {
      const line = liveLine(moment, voice, stderr.columns ?? 80);
      if (bar) bar.update(moment.share, { line });
      else bar = open(line);
    },
    note: (line) => {
      stop();
      voice.say(`  ${line}`);
    },
    stop,
  };
}

function liveLine({ share, parts, left }: Moment, voice: Voice, columns: number): string {
  const { cyan, dim } = voice.err;
  const kept = [...parts];
  const tail = leftOf(left);
  const text = (): string => ['', percent(share), ...kept, tail].filter(Boolean).join('  ');
  const fits = (bar: number): boolean => text().length + bar + 3 < columns;
  // Two widths only: a bar whose room changes with every figure beside it would tremble.
  const [large, small] = [16, 8];
  while (kept.length > 1 && !fits(small)) kept.pop();
  if (!fits(small)) return text().slice(0, columns - 1);
  const room = fits(large) ? large : small;
  const filled = block(share, room);
  return `  ${cyan(filled)}${dim('░'.repeat(room - filled.length))} ${text()}`;
}

function percent(share: number): string {
  return `${String(Math.floor(share * 100)).padStart(3)} %`;
}

function leftOf(left: string | null): string {
  return left === null ? '' : `${left} left`;
}
