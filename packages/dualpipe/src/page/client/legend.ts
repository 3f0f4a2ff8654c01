// The legend: each part in both shades, with its marks.
import { parts } from '../../palette';
import { byId, make, penOf } from './dom';
import { fillBox, type Look, look, partNames } from './look';

/** What the legend was drawn with. */
let shown: { style: Look; phased: boolean } | null = null;

/** Draws the legend in the colours of the viewer's preference, where it is not drawn so yet; phases stand on two lanes. */
export function showLegend(phased: boolean): void {
  const style = look();
  if (shown?.style === style && shown.phased === phased) return;
  shown = { style, phased };
  const entries = parts.map((part, i) => {
    const canvas = make('canvas', { 'aria-hidden': 'true' });
    canvas.style.width = '32px';
    canvas.style.height = '14px';
    const pen = penOf(canvas, 32, 14);
    fillBox(pen, style, 2 * i, [0, 0, 16, 14]);
    fillBox(pen, style, 2 * i + 1, [16, 0, 16, 14]);
    return make('li', {}, canvas, partNames[part]);
  });
  const note = make(
    'li',
    { class: 'note' },
    phased
      ? 'darker: the rank’s second stage; compute above, communication below'
      : 'darker: the rank’s second stage',
  );
  byId('legend').replaceChildren(...entries, note);
}
