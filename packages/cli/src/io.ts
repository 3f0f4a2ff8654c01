// Where a command writes: results to stdout, progress and prose to stderr, each in its own colours.
import pc from 'picocolors';

import { failureOf, stackOf } from './errors';
import type { Input } from './stdin';

/** A stream that text is written to. */
export interface Output {
  /** Takes text. */
  write(text: string): unknown;
  /** A terminal, not a file or pipe. */
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal. */
  readonly columns?: number | undefined;
}

/** What a command touches outside itself. */
export interface CliIo {
  /** Results. */
  stdout: Output;
  /** Progress, prose and errors. */
  stderr: Output;
  /** Opens stdin; null where there is none. */
  stdin: (() => Input) | null;
  /** Environment variables. */
  env: Readonly<Record<string, string | undefined>>;
  /** Called once by a command that can end early: the signal is aborted by the first Ctrl-C. */
  interrupts: () => AbortSignal;
}

/** Colours of one stream. */
export type Colors = ReturnType<typeof pc.createColors>;

/** Colours a piece of text. */
export type Formatter = (text: string) => string;

/** A command's voice. */
export class Voice {
  /** stdout is one line of JSON and nothing else. */
  readonly json: boolean;
  /** No progress and no prose. */
  readonly quiet: boolean;
  /** Colours of stdout. */
  readonly out: Colors;
  /** Colours of stderr. */
  readonly err: Colors;
  /** Streams and environment. */
  readonly io: CliIo;
  /** Exit code of a command that ends without an error, yet not well. */
  exitCode: 0 | 1 = 0;

  /**
   * @param io - streams and environment
   * @param options - `json` and `quiet`, from the flags
   */
  constructor(io: CliIo, options: { json?: boolean | undefined; quiet?: boolean | undefined }) {
    this.io = io;
    this.json = options.json ?? false;
    this.quiet = options.quiet ?? false;
    this.out = pc.createColors(wantsColor(io.stdout, io.env));
    this.err = pc.createColors(wantsColor(io.stderr, io.env));
  }

  /**
   * Prose, to stderr; nothing under `--quiet`.
   * @param lines - lines without their ends
   */
  say(...lines: string[]): void {
    if (!this.quiet) for (const line of lines) this.io.stderr.write(`${line}\n`);
  }

  /**
   * A warning, to stderr, under `--quiet` too.
   * @param line - a line without its end
   */
  warn(line: string): void {
    this.io.stderr.write(`${this.err.yellow('note')}  ${line}\n`);
  }

  /**
   * A result for people, to stdout; nothing under `--json`.
   * @param lines - lines without their ends
   */
  print(...lines: string[]): void {
    if (!this.json) for (const line of lines) this.io.stdout.write(`${line}\n`);
  }

  /**
   * A result for programs: one line of JSON on stdout under `--json`.
   * @param value - the result; numbers that JSON cannot hold become null
   */
  result(value: unknown): void {
    if (this.json) this.io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /**
   * A failure: on stdout as JSON under `--json`, else on stderr.
   * @param error - what was thrown
   */
  fail(error: unknown): void {
    const failure = failureOf(error);
    if (this.json) {
      this.io.stdout.write(`${JSON.stringify({ error: failure })}\n`);
      return;
    }
    const { red, dim } = this.err;
    this.io.stderr.write(`${red('error')}  ${failure.message}\n`);
    if (failure.hint !== null) this.io.stderr.write(`${dim(' hint')}  ${failure.hint}\n`);
    const stack = stackOf(error);
    if (stack !== '') this.io.stderr.write(`${dim(stack)}\n`);
  }
}

/** NO_COLOR wins, then FORCE_COLOR, then whether the stream is a terminal that can (https://no-color.org). */
function wantsColor(stream: Output, env: CliIo['env']): boolean {
  if (env.NO_COLOR) return false;
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0';
  return stream.isTTY === true && env.TERM !== 'dumb';
}
