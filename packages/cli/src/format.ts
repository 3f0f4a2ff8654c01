// Numbers, times and text as people read them; one place, so that a figure looks the same everywhere.

/** Where a comma belongs. `Intl.NumberFormat` knows too, but takes tens of milliseconds to load. */
const thousands = /\B(?=(\d{3})+$)/g;

/**
 * A whole number with its thousands grouped.
 * @param value - the number
 * @returns such as `54,210`
 */
export function whole(value: number): string {
  return value.toFixed(0).replace(thousands, ',');
}

/**
 * A large count in three digits.
 * @param value - the count
 * @returns such as `1.05 M`
 */
export function count(value: number): string {
  for (const [factor, unit] of [
    [1e12, ' T'],
    [1e9, ' B'],
    [1e6, ' M'],
    [1e3, ' k'],
  ] as const)
    if (value >= factor) return digits(value / factor) + unit;
  return whole(value);
}

/**
 * Floating-point operations, or how many a second, with SI prefixes.
 * @param value - operations
 * @returns such as `25.4 GFLOP`
 */
export function flops(value: number): string {
  for (const [factor, unit] of [
    [1e18, 'E'],
    [1e15, 'P'],
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
  ] as const)
    if (value >= factor) return `${digits(value / factor)} ${unit}FLOP`;
  return `${whole(value)} FLOP`;
}

/**
 * A number of bytes in binary units.
 * @param value - bytes
 * @returns such as `61.2 MiB`
 */
export function bytes(value: number): string {
  for (const [factor, unit] of [
    [2 ** 40, ' TiB'],
    [2 ** 30, ' GiB'],
    [2 ** 20, ' MiB'],
    [2 ** 10, ' KiB'],
  ] as const)
    if (value >= factor) return digits(value / factor) + unit;
  return `${whole(value)} B`;
}

/** Two digits where they count. */
function trimmed(value: number): string {
  return value >= 9.95 ? whole(value) : value.toPrecision(2);
}

function digits(value: number): string {
  return value >= 100 ? whole(value) : value.toPrecision(3);
}

/**
 * A time in words.
 * @param seconds - the time
 * @returns such as `1 min 12 s`
 */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'unknown';
  if (seconds < 1) return `${trimmed(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return s % 60 === 0 ? `${minutes} min` : `${minutes} min ${s % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  const days = seconds / 86400;
  if (days >= 730) return `${count(days / 365.25)} years`;
  return `${days < 100 ? days.toFixed(1) : whole(days)} days`;
}

/**
 * A time as a clock shows it, for a line that is rewritten.
 * @param seconds - the time
 * @returns such as `1:12` or `2:03:07`
 */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '-:--';
  const s = Math.round(seconds);
  const two = (value: number): string => String(value).padStart(2, '0');
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes}:${two(s % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
}

/**
 * How far the busiest expert is above its even share.
 * @param maxViolation - (most − mean) / mean (MaxVio, arXiv 2408.15664)
 * @returns such as `+12 %`
 */
export function balance(maxViolation: number): string {
  const percent = maxViolation * 100;
  return `+${percent < 9.95 ? percent.toFixed(1) : whole(percent)} %`;
}

/**
 * A share in percent.
 * @param share - from 0 to 1
 * @returns such as `61.2 %`
 */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/**
 * A horizontal bar of eighth blocks.
 * @param share - filled share, 0 to 1
 * @param width - columns at 1
 * @returns the bar, at least one eighth wide unless the share is 0
 */
export function block(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const filled = share > 0 ? Math.max(1, eighths) : 0;
  const rest = filled % 8;
  return '█'.repeat(Math.floor(filled / 8)) + (rest > 0 ? '▏▎▍▌▋▊▉'.charAt(rest - 1) : '');
}

/**
 * Text broken at spaces.
 * @param text - any text; its own line breaks stay
 * @param width - columns
 * @returns its lines
 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const word of paragraph.split(' ')) {
      if (line !== '' && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === '' ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}

/**
 * Rows in columns; numbers are expected to be formatted already.
 * @param rows - cells of each row
 * @param right - indices of columns that are flush right
 * @returns one line a row, without trailing spaces
 */
export function table(
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    });
  return rows.map((row) =>
    row
      .map((cell, index) =>
        right.includes(index) ? cell.padStart(widths[index]) : cell.padEnd(widths[index]),
      )
      .join('  ')
      .trimEnd(),
  );
}

/**
 * A sample of text with what a terminal must not receive shown as a space.
 * @param text - text a model made: any bytes
 * @returns the text without control characters, line breaks kept
 */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, ' ');
}

/**
 * A word quoted for a shell, if it needs to be.
 * @param word - an argument
 * @returns the argument as it can be typed
 */
export function quote(word: string): string {
  if (/^[\w./:=,+@-]+$/.test(word)) return word;
  if (!/["$`\\!]/.test(word)) return `"${word}"`;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
