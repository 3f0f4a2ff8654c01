// Text from stdin. A program that starts this one often leaves it a pipe that nobody ever writes to or closes, so only
// who asks for stdin waits for it as long as it takes.
import { setTimeout } from 'node:timers/promises';

/** How long a pipe may be silent at first, in milliseconds; whoever writes to it began when this program did. */
const patience = 500;

/** A stream that text is read from, as bytes. */
export interface Input extends AsyncIterable<Uint8Array> {
  /** A terminal, not a file or pipe. */
  readonly isTTY?: boolean | undefined;
  /** Closes it. */
  destroy(): unknown;
}

/**
 * Reads a stream to its end.
 * @param input - such as `process.stdin`
 * @param wait - wait for its first byte as long as it takes
 * @returns its text, the last line end left out; null where it stayed silent
 */
export async function readText(input: Input, wait: boolean): Promise<string | null> {
  const reader = input[Symbol.asyncIterator]();
  const first = reader.next();
  let next = await (wait
    ? first
    : Promise.race([first, setTimeout(patience, null, { ref: false })]));
  if (next === null) {
    first.catch(() => undefined); // it fails when the stream is closed
    input.destroy(); // left open it would keep the process alive
    return null;
  }
  const chunks: Uint8Array[] = [];
  for (; !next.done; next = await reader.next()) chunks.push(next.value);
  return Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}

/**
 * Reads a stream line by line, as lines come.
 * @param input - such as `process.stdin`
 * @param signal - ends it, also while it waits for a line
 * @returns lines without their ends; the last one may lack its end
 */
export async function* readLines(
  input: Input,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  const reader = input[Symbol.asyncIterator]();
  const aborted = new Promise<null>((resolve) => {
    if (signal.aborted) resolve(null);
    signal.addEventListener('abort', () => {
      resolve(null);
    });
  });
  let rest = '';
  for (;;) {
    const reading = reader.next();
    const next = await Promise.race([reading, aborted]);
    if (next === null) {
      reading.catch(() => undefined); // it fails when the stream is closed
      input.destroy(); // left open it would keep the process alive
      return;
    }
    rest += next.done ? decoder.decode() : decoder.decode(next.value, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? '';
    yield* lines;
    if (!next.done) continue;
    if (rest !== '') yield rest;
    return;
  }
}
