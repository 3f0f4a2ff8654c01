// Colours and marks of the drawing, by the viewer's preference. Parts differ in more than colour: a gradient of the input has a
// bar at its foot, one of the weights is hatched, and each box has a letter where there is room.
import { fills, inks, parts, type Theme } from '../../palette';
import type { Part } from '../../schedule';

/** Letters in boxes. */
export const letters: Readonly<Record<Part, string>> = {
  forward: 'F',
  inputGrad: 'Bᵢ',
  weightGrad: 'W',
};

/** Names in the legend. */
export const partNames: Readonly<Record<Part, string>> = {
  forward: 'F forward',
  inputGrad: 'Bᵢ input gradient',
  weightGrad: 'W weight gradient',
};

/** What is drawn with. */
export interface Look {
  /** Light or dark. */
  theme: Theme;
  /** Background and what is written on it. */
  inks: (typeof inks)[Theme];
  /** Fills by class: part · 2 + shade. */
  fills: readonly string[];
  /** Lines of what is chosen. */
  accent: string;
  /** Hatching of gradients of weights. */
  hatch: CanvasPattern | null;
}

const query = window.matchMedia('(prefers-color-scheme: dark)');
let known: { ratio: number; look: Look } | null = null;

/** Calls when the preference changes. */
export function onThemeChange(call: () => void): void {
  query.addEventListener('change', () => {
    known = null;
    call();
  });
}

/** What to draw with now. */
export function look(): Look {
  const ratio = window.devicePixelRatio || 1;
  if (known?.ratio === ratio) return known.look;
  const theme = query.matches ? 'dark' : 'light';
  const made: Look = {
    theme,
    inks: inks[theme],
    fills: parts.flatMap((part) => fills[theme][part]),
    accent: theme === 'dark' ? '#8ab4f8' : '#1f5fbf',
    hatch: hatchOf(inks[theme].ink, ratio),
  };
  known = { ratio, look: made };
  return made;
}

/** Diagonal lines, 6 pixels apart. */
function hatchOf(ink: string, ratio: number): CanvasPattern | null {
  const size = 6;
  const tile = document.createElement('canvas');
  tile.width = tile.height = Math.round(size * ratio);
  const pen = tile.getContext('2d');
  if (!pen) return null;
  pen.scale(tile.width / size, tile.height / size);
  pen.globalAlpha = 0.28;
  pen.strokeStyle = ink;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const at of [-size, 0, size]) {
    pen.moveTo(at - 1, size + 1);
    pen.lineTo(at + size + 1, -1);
  }
  pen.stroke();
  const pattern = pen.createPattern(tile, 'repeat');
  pattern?.setTransform(new DOMMatrix().scale(1 / ratio, 1 / ratio));
  return pattern;
}

/** Draws a filled box of a part with its marks. */
export function fillBox(
  pen: CanvasRenderingContext2D,
  { fills: all, hatch, inks: { ink } }: Look,
  kind: number,
  [x, y, width, height]: readonly [number, number, number, number],
): void {
  pen.fillStyle = all[kind];
  pen.fillRect(x, y, width, height);
  if (width < 4) return;
  if (kind >> 1 === 2 && hatch) {
    pen.fillStyle = hatch;
    pen.fillRect(x, y, width, height);
  } else if (kind >> 1 === 1) {
    pen.globalAlpha = 0.5;
    pen.fillStyle = ink;
    pen.fillRect(x, y + height - 2, width, 2);
    pen.globalAlpha = 1;
  }
}
