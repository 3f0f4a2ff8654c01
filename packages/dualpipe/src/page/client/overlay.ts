// What is drawn over a row: the moment that is looked at, what is computed then, the computation that is explained, and lines
// to what it needs and to what needs it. It changes with every step, the picture below does not.
import { neighboursOf } from '../explain';
import type { Lookup, Place } from '../lookup';
import type { Window } from '../windows';
import { penOf } from './dom';
import type { Look } from './look';
import type { Heights } from './painter';

/** What is looked at in a row. */
export interface Focus {
  /** The moment. */
  time: number;
  /** The rank that is explained; null where that is one of another row. */
  rank: number | null;
  /** The computation that is explained: one of that rank, or the one under the pointer. */
  place: Place | null;
}

/** Where things are on the screen. */
interface Frame {
  width: number;
  height: number;
  window: Window;
  heights: Heights;
}

/** Draws what is looked at. */
export function drawOverlay(
  canvas: HTMLCanvasElement,
  lookup: Lookup,
  { time, rank, place }: Focus,
  { width, height, window, heights }: Frame,
  style: Look,
): void {
  const pen = penOf(canvas, width, height);
  const x = (at: number): number => ((at - window.from) / (window.to - window.from)) * width;
  const y = (at: number): number => at * heights.pitch;
  const ranks = lookup.timeline.ranks.length;
  const outline = ({ rank: at, span }: Place, inset: number): void => {
    const left = Math.max(-4, x(span.start));
    const right = Math.min(width + 4, x(span.end));
    pen.strokeRect(
      left + inset,
      y(at) + inset,
      Math.max(1.5, right - left - 2 * inset),
      heights.rank - 2 * inset,
    );
  };
  /** A little inside of a box, so that a line from one to the next has a length. */
  const end = ({ rank: at, span }: Place, side: 'start' | 'end'): [number, number] => {
    const inset = Math.min(8, (x(span.end) - x(span.start)) / 2);
    return [x(span[side]) + (side === 'start' ? inset : -inset), y(at) + heights.rank / 2];
  };
  pen.strokeStyle = style.inks.text;
  pen.lineWidth = 1.5;
  for (let at = 0; at < ranks; at += 1) {
    const running = lookup.running(at, time);
    if (running) outline(running, 0.75);
  }
  if (place) {
    pen.strokeStyle = style.accent;
    pen.fillStyle = style.accent;
    const { from, to } = neighboursOf(lookup, place);
    pen.lineWidth = 1.25;
    pen.setLineDash([3, 2]);
    for (const each of [...from, ...to]) outline(each, 0.5);
    pen.setLineDash([]);
    const link = (early: Place, late: Place): void => {
      arrow(pen, end(early, 'end'), end(late, 'start'));
    };
    for (const each of from) link(each, place);
    for (const each of to) link(place, each);
    pen.lineWidth = 2.5;
    outline(place, 1);
  }
  const line = x(time);
  if (line >= -1 && line <= width + 1) {
    pen.strokeStyle = style.accent;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(line, 0);
    pen.lineTo(line, y(ranks) + 4);
    pen.stroke();
    if (rank !== null) {
      pen.fillStyle = style.accent;
      pen.beginPath();
      pen.arc(line, y(rank) + heights.rank / 2, 4, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}

/** A line from a dot to a point. */
function arrow(
  pen: CanvasRenderingContext2D,
  [x0, y0]: readonly [number, number],
  [x1, y1]: readonly [number, number],
): void {
  const bend = Math.max(3, (x1 - x0) / 2);
  const turn = Math.atan2(y1 - y0, 2 * (x1 - x0 + 6));
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  pen.stroke();
  pen.beginPath();
  pen.arc(x0, y0, 2.5, 0, 2 * Math.PI);
  pen.fill();
  pen.save();
  pen.translate(x1, y1);
  pen.rotate(turn);
  pen.beginPath();
  pen.moveTo(3, 0);
  pen.lineTo(-5, -4);
  pen.lineTo(-5, 4);
  pen.fill();
  pen.restore();
}
