// Numbers as people read them, in the picture and on the page.

/** Four digits that count. */
export function figure(value: number): string {
  return String(Number(value.toPrecision(4)));
}

/** A share in percent. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Marks of an axis: their distance, such that they are at least so many pixels apart. */
export function tickStep(length: number, width: number, apart: number): number {
  const wanted = Math.max(2, width / apart);
  const power = 10 ** Math.floor(Math.log10((length || 1) / wanted));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => length / m <= wanted) ?? 10 * power;
}

/** Text that is safe inside of markup. */
export function escapeMarkup(content: string): string {
  return content
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
