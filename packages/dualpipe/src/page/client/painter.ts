// Draws a schedule in time, or the part of it that is looked at. What lies outside is left out, and where boxes are narrower
// than a few pixels each column of pixels gets the mean of what is in it instead, so that drawing takes about as long for
// thousands of computations as for tens.
import { type Box, boxesOf, phaseBoxes, shadesOf, turnOf } from '../../boxes';
import { figure, tickStep } from '../../format';
import { parts } from '../../palette';
import type { Part } from '../../schedule';
import type { ComputeSpan } from '../../timeline';
import { countUpTo } from '../lookup';
import type { MadeRow } from '../row-model';
import type { Window } from '../windows';
import { penOf } from './dom';
import { fillBox, type Look, letters } from './look';

/** Heights of a row, in pixels. */
export interface Heights {
  /** From a rank to the next. */
  pitch: number;
  /** Of a rank's boxes. */
  rank: number;
  /** Of the axis under all of them. */
  axis: number;
}

/** Heights that suit a number of ranks; phases need two lanes. */
function heightsOf(ranks: number, phased: boolean): Heights {
  const rank = phased
    ? ranks > 16
      ? 28
      : 36
    : ranks > 32
      ? 14
      : ranks > 16
        ? 18
        : ranks > 8
          ? 22
          : 26;
  return { pitch: rank + (ranks > 16 ? 3 : 5), rank, axis: 24 };
}

/** All boxes of a rank in time, in order, as plain arrays. */
interface Track {
  spans: readonly ComputeSpan[];
  /** Of each computation, its first box; and the number of boxes at the end. */
  first: Int32Array;
  start: Float64Array;
  end: Float64Array;
  /** Part · 2 + shade. */
  kind: Uint8Array;
  /** 0 all of the height, 1 the upper half, 2 the lower. */
  lane: Uint8Array;
  microBatch: Uint16Array;
}

const partIndex: Readonly<Record<Part, number>> = { forward: 0, inputGrad: 1, weightGrad: 2 };

/** Boxes narrower than this on average are averaged. */
const fine = 2.5;

/** Draws one row. */
export class Painter {
  readonly heights: Heights;
  private readonly tracks: Track[];
  private readonly shades: Map<number, 0 | 1>[];
  private readonly strip = document.createElement('canvas');

  constructor(private readonly row: MadeRow) {
    const { timeline, schedule } = row;
    this.shades = shadesOf(schedule);
    const turn = turnOf('costs' in timeline ? timeline.costs : null);
    this.tracks = timeline.ranks.map(({ computations }, rank) =>
      trackOf(computations, turn, this.shades[rank]),
    );
    this.heights = heightsOf(schedule.ranks, this.phases !== null);
  }

  private get phases(): Extract<MadeRow['timeline'], { phases: unknown }>['phases'] {
    return 'phases' in this.row.timeline ? this.row.timeline.phases : null;
  }

  /** Height of the whole picture. */
  get height(): number {
    return this.tracks.length * this.heights.pitch + this.heights.axis;
  }

  /**
   * Draws.
   * @returns how many boxes were drawn one by one, and how many were averaged
   */
  draw(canvas: HTMLCanvasElement, width: number, window: Window, style: Look): [number, number] {
    const pen = penOf(canvas, width, this.height);
    const scale = width / (window.to - window.from);
    const { pitch, rank: high } = this.heights;
    const { total } = this.row.timeline;
    const [begin, end] = [(0 - window.from) * scale, (total - window.from) * scale];
    let [drawn, averaged] = [0, 0];
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    this.tracks.forEach((track, rank) => {
      const y = rank * pitch;
      pen.globalAlpha = 0.45;
      pen.fillStyle = style.inks.line;
      const left = Math.max(0, begin);
      pen.fillRect(left, y, Math.max(0, Math.min(width, end) - left), high);
      pen.globalAlpha = 1;
      const [low, past] = visible(track, window);
      if (past <= low) return;
      const [firstBox, lastBox] = [track.first[low], track.first[past]];
      const mean =
        (scale * (track.end[lastBox - 1] - track.start[firstBox])) / (lastBox - firstBox);
      if (mean < fine) {
        this.average(pen, track, [firstBox, lastBox], { y, width, window, style });
        averaged += lastBox - firstBox;
      } else if (this.phases && mean > 10)
        drawn += this.drawPhases(pen, track, [low, past], { y, scale, rank, window, style });
      else drawn += this.drawBoxes(pen, track, [firstBox, lastBox], { y, scale, window, style });
    });
    this.drawAxis(pen, width, window, style);
    return [drawn, averaged];
  }

  private drawBoxes(
    pen: CanvasRenderingContext2D,
    track: Track,
    [first, last]: readonly [number, number],
    at: { y: number; scale: number; window: Window; style: Look },
  ): number {
    const { y, scale, window, style } = at;
    const half = this.heights.rank / 2;
    for (let kind = 0; kind < style.fills.length; kind += 1)
      for (let i = first; i < last; i += 1) {
        if (track.kind[i] !== kind) continue;
        const x = (track.start[i] - window.from) * scale;
        const width = (track.end[i] - track.start[i]) * scale;
        const lane = track.lane[i];
        const top = y + (lane === 2 ? half : 0);
        const gap = width > 4 ? 0.8 : 0;
        fillBox(pen, style, kind, [
          x,
          top,
          width - gap,
          (lane === 0 ? 2 * half : half) - (lane === 1 ? 0.8 : 0),
        ]);
      }
    // One size for all numbers of a rank, so that neighbours look alike: smaller where boxes of a whole height are narrow.
    const digits = String(this.row.schedule.microBatches - 1).length;
    let narrowest = Infinity;
    for (let i = first; i < last; i += 1)
      if (track.lane[i] === 0)
        narrowest = Math.min(narrowest, (track.end[i] - track.start[i]) * scale);
    const small = half < 10 || narrowest < 6.2 * digits + 3;
    const digit = small ? 5.2 : 6.2;
    pen.fillStyle = style.inks.ink;
    pen.font = `${small ? 9 : 10.5}px ui-sans-serif, system-ui, sans-serif`;
    for (let i = first; i < last; i += 1) {
      const width = (track.end[i] - track.start[i]) * scale;
      const number = String(track.microBatch[i]);
      if (width < digit * number.length + 2) continue;
      const lane = track.lane[i];
      if (lane !== 0 && half < 8) continue;
      // For all numbers or for none.
      const letter = width < digit * (digits + 1) + 5 ? '' : letters[parts[track.kind[i] >> 1]];
      const middle = lane === 0 ? half : lane === 1 ? half / 2 : 1.5 * half;
      const x = (track.start[i] - window.from) * scale + width / 2;
      pen.fillText(letter + number, x, y + middle + 0.5);
    }
    return last - first;
  }

  private drawPhases(
    pen: CanvasRenderingContext2D,
    track: Track,
    [low, past]: readonly [number, number],
    at: { y: number; scale: number; rank: number; window: Window; style: Look },
  ): number {
    const { y, scale, rank, window, style } = at;
    const high = this.heights.rank;
    pen.font = '10px ui-sans-serif, system-ui, sans-serif';
    let drawn = 0;
    for (const span of track.spans.slice(low, past))
      for (const box of phaseBoxes(span, this.phases?.[span.action.kind].spans ?? [])) {
        if (box.end < window.from || box.start > window.to) continue;
        drawn += 1;
        const x = (box.start - window.from) * scale;
        const width = (box.end - box.start) * scale;
        const top = y + box.top * high;
        fillBox(pen, style, kindOf(box, this.shades[rank]), [
          x,
          top,
          width - (width > 4 ? 0.8 : 0),
          box.height * high - 0.8,
        ]);
        const label = `${letters[box.part]}${box.microBatch}`;
        if (width < 6.2 * label.length + 3) continue;
        pen.fillStyle = style.inks.ink;
        pen.fillText(label, x + width / 2, top + (box.height * high) / 2 + 0.5);
      }
    return drawn;
  }

  /** The mean colour of each column of pixels, of the upper half and the lower. */
  private average(
    pen: CanvasRenderingContext2D,
    track: Track,
    [first, last]: readonly [number, number],
    at: { y: number; width: number; window: Window; style: Look },
  ): void {
    const { y, width, window, style } = at;
    const columns = Math.max(1, Math.round(width * (globalThis.devicePixelRatio || 1)));
    const scale = columns / (window.to - window.from);
    const colours = style.fills.map(rgb);
    const sums = new Float32Array(columns * 8);
    const spread = (i: number, half: number): void => {
      const [r, g, b] = colours[track.kind[i]];
      const from = Math.max(0, (track.start[i] - window.from) * scale);
      const to = Math.min(columns, (track.end[i] - window.from) * scale);
      for (let column = Math.floor(from); column < to; column += 1) {
        const part = Math.min(to, column + 1) - Math.max(from, column);
        const k = 8 * column + 4 * half;
        sums[k] += part * r;
        sums[k + 1] += part * g;
        sums[k + 2] += part * b;
        sums[k + 3] += part;
      }
    };
    for (let i = first; i < last; i += 1) {
      if (track.lane[i] !== 2) spread(i, 0);
      if (track.lane[i] !== 1) spread(i, 1);
    }
    if (this.strip.width !== columns) this.strip.width = columns;
    if (this.strip.height !== 2) this.strip.height = 2;
    const own = this.strip.getContext('2d');
    if (!own) return;
    const image = own.createImageData(columns, 2);
    for (let column = 0; column < columns; column += 1)
      for (let half = 0; half < 2; half += 1) {
        const k = 8 * column + 4 * half;
        const cover = sums[k + 3];
        if (cover <= 0) continue;
        const out = 4 * (half * columns + column);
        for (let c = 0; c < 3; c += 1) image.data[out + c] = sums[k + c] / cover;
        image.data[out + 3] = 255 * Math.min(1, cover);
      }
    own.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.strip, 0, y, width, this.heights.rank);
  }

  private drawAxis(
    pen: CanvasRenderingContext2D,
    width: number,
    window: Window,
    style: Look,
  ): void {
    const y = this.tracks.length * this.heights.pitch;
    const length = window.to - window.from;
    const step = tickStep(length, width, 90);
    pen.strokeStyle = style.inks.faint;
    pen.fillStyle = style.inks.faint;
    pen.font = '11px ui-sans-serif, system-ui, sans-serif';
    pen.lineWidth = 1;
    pen.beginPath();
    for (
      let i = Math.ceil(window.from / step - 1e-9);
      i * step <= window.to + 1e-9 * length;
      i += 1
    ) {
      const x = ((i * step - window.from) / length) * width;
      const line = Math.min(width - 0.5, Math.max(0.5, Math.round(x) + 0.5));
      pen.moveTo(line, y);
      pen.lineTo(line, y + 5);
      pen.textAlign = x < 12 ? 'left' : x > width - 12 ? 'right' : 'center';
      pen.fillText(figure(i * step), x, y + 14);
    }
    pen.stroke();
    pen.textAlign = 'center';
  }
}

function trackOf(
  spans: readonly ComputeSpan[],
  turn: number,
  shades: ReadonlyMap<number, 0 | 1>,
): Track {
  const first = new Int32Array(spans.length + 1);
  const boxes: Box[] = [];
  spans.forEach((span, i) => {
    first[i] = boxes.length;
    boxes.push(...boxesOf(span, turn));
  });
  first[spans.length] = boxes.length;
  return {
    spans,
    first,
    start: Float64Array.from(boxes, ({ start }) => start),
    end: Float64Array.from(boxes, ({ end }) => end),
    kind: Uint8Array.from(boxes, (box) => kindOf(box, shades)),
    lane: Uint8Array.from(boxes, ({ top, height }) => (height === 1 ? 0 : top === 0 ? 1 : 2)),
    microBatch: Uint16Array.from(boxes, ({ microBatch }) => microBatch),
  };
}

function kindOf({ part, stage }: Box, shades: ReadonlyMap<number, 0 | 1>): number {
  return 2 * partIndex[part] + (shades.get(stage) ?? 0);
}

/** Computations that are in the window at least in part. */
function visible({ spans }: Track, { from, to }: Window): [number, number] {
  return [countUpTo(spans, from, ({ end }) => end), countUpTo(spans, to, ({ start }) => start)];
}

function rgb(hex: string): [number, number, number] {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
