// Which device takes over what from another placement: devices of one kind are the same to the model, so a new placement's
// go where most of what they hold already is.
import type { FullSizes } from './sizes';

/**
 * A placement on the devices of another one, so that fewest experts are copied; whole nodes change places, and devices within
 * a node.
 * @param slots - the placement
 * @param current - the other one, of the same sizes
 * @param sizes - of both
 * @returns the placement, each device's experts where {@link keepSlots} puts them
 */
export function matchDevices(slots: Int32Array, current: Int32Array, sizes: FullSizes): Int32Array {
  const { devices, nodes, slotsPerDevice } = sizes;
  const devicesOf = (list: Int32Array): Int32Array[] =>
    Array.from({ length: devices }, (_, d) =>
      list.subarray(d * slotsPerDevice, (d + 1) * slotsPerDevice),
    );
  const [now, then] = [devicesOf(slots), devicesOf(current)];
  const perNode = devices / nodes;
  const all = [...Array(nodes).keys()];
  // What a node finds of its experts where another one is, and which device goes where.
  const pairs = all.map((a) =>
    all.map((b) => {
      const overlap = now
        .slice(a * perNode, (a + 1) * perNode)
        .map((own) =>
          then
            .slice(b * perNode, (b + 1) * perNode)
            .map((there) => own.reduce((found, e) => found + (there.includes(e) ? 1 : 0), 0)),
        );
      const to = assign(overlap);
      return { to, kept: to.reduce((sum, d, i) => sum + overlap[i][d], 0) };
    }),
  );
  const matched = new Int32Array(slots.length);
  assign(pairs.map((row) => row.map(({ kept }) => kept))).forEach((b, a) => {
    pairs[a][b].to.forEach((d, i) => {
      matched.set(now[a * perNode + i], (b * perNode + d) * slotsPerDevice);
    });
  });
  return keepSlots(matched, current, slotsPerDevice);
}

/**
 * Orders each device's experts so that those it had before stay in their slots.
 * @param slots - a placement, changed in place
 * @param current - the placement before
 * @param slotsPerDevice - slots of each
 * @returns `slots`
 */
export function keepSlots(
  slots: Int32Array,
  current: Int32Array,
  slotsPerDevice: number,
): Int32Array {
  for (let start = 0; start < slots.length; start += slotsPerDevice) {
    const own = slots.slice(start, start + slotsPerDevice);
    const before = current.subarray(start, start + slotsPerDevice);
    const others = own.filter((e) => !before.includes(e)).values();
    before.forEach((e, i) => {
      slots[start + i] = own.includes(e) ? e : (others.next().value ?? -1);
    });
  }
  return slots;
}

/**
 * The assignment of largest sum (Kuhn 1955, with shortest augmenting paths): rows join one after another, each by the
 * cheapest chain of changes to those before.
 * @param values - of each row and column, as many rows as columns
 * @returns column of each row
 */
export function assign(values: readonly (readonly number[])[]): number[] {
  const n = values.length;
  // Columns n and row -1 stand for none.
  const rowOf = new Array<number>(n + 1).fill(-1);
  const [ofRow, ofColumn] = [new Float64Array(n), new Float64Array(n + 1)];
  for (let row = 0; row < n; row += 1) {
    const least = new Float64Array(n).fill(Infinity);
    const from = new Int32Array(n).fill(n);
    const done = new Uint8Array(n + 1);
    let column = n;
    rowOf[n] = row;
    while (rowOf[column] >= 0) {
      done[column] = 1;
      const r = rowOf[column];
      let next = -1;
      for (let c = 0; c < n; c += 1) {
        if (done[c]) continue;
        const cost = -values[r][c] - ofRow[r] - ofColumn[c];
        if (cost < least[c]) {
          least[c] = cost;
          from[c] = column;
        }
        if (next < 0 || least[c] < least[next]) next = c;
      }
      const step = least[next];
      for (let c = 0; c <= n; c += 1)
        if (done[c]) {
          ofRow[rowOf[c]] += step;
          ofColumn[c] -= step;
        } else if (c < n) least[c] -= step;
      column = next;
    }
    while (column !== n) {
      rowOf[column] = rowOf[from[column]];
      column = from[column];
    }
  }
  const columnOf = new Array<number>(n);
  for (let c = 0; c < n; c += 1) columnOf[rowOf[c]] = c;
  return columnOf;
}
