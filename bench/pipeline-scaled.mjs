// Times of pipeline.mjs, all of them longer or shorter.

/** Times of a stage, as numbers or by phase, by a factor. */
export function scaled(times, by) {
  return Object.fromEntries(
    Object.entries(times).map(([name, value]) => [
      name,
      name === 'layers' ? value : typeof value === 'number' ? value * by : scaled(value, by),
    ]),
  );
}
