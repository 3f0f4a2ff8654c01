// The words at the foot of the page about what is looked at.
import type { Paragraph } from '../explain';
import { byId, make, write } from './dom';

/** Shows words; what is the same stays, so that a screen reader does not say it again. */
export function showWords(title: string, paragraphs: readonly Paragraph[]): void {
  write(byId('what'), title);
  const place = byId('why');
  const key = JSON.stringify(paragraphs);
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(
    ...paragraphs.map(({ about, text }) => make('p', {}, make('b', {}, about), ` ${text}`)),
  );
}
