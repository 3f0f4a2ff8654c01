// A row of the page: the choice of its method, what it comes to, its timeline, and numbers of each rank beside it.
import { figure, percent } from '../../format';
import { Lookup } from '../lookup';
import { isMade, type MadeRow, type RefusedRow, type Row } from '../row-model';
import type { Window } from '../windows';
import { factsOf, formWords, type RowChoice } from '../words';
import { make, write } from './dom';
import { look } from './look';
import { drawOverlay, type Focus } from './overlay';
import { Painter } from './painter';
import { listen, type StageEvents } from './stage';

/** What a row asks of the page. */
export interface RowHost extends StageEvents {
  /** Another method. */
  choose: (row: number, id: string) => void;
  /** No such row. */
  remove: (row: number) => void;
  /** Its timeline came on the screen. */
  appeared: () => void;
  /** A value for a field. */
  set: (field: string, value: number) => void;
}

/** Words for a field in a button. */
const fieldWords: Readonly<Record<string, string>> = {
  ranks: 'ranks',
  'micro-batches': 'micro-batches',
  'stages-per-rank': 'stages a rank',
  layers: 'layers a rank',
};

/** One row. */
export class RowView {
  readonly element: HTMLElement = make('section', { class: 'row' });
  private readonly select = make('select', { 'aria-label': 'Method of this row' });
  private readonly about = make('span', { class: 'about' });
  private readonly removal = make('button', { type: 'button', class: 'remove' }, 'Remove');
  private readonly body = make('div');
  private readonly picture = make('canvas', { class: 'picture', 'aria-hidden': 'true' });
  private readonly overlay = make('canvas', { class: 'overlay', 'aria-hidden': 'true' });
  private readonly stage = make(
    'div',
    {
      class: 'stage',
      tabindex: '0',
      role: 'application',
      'aria-roledescription': 'timeline',
      'aria-describedby': 'keys',
    },
    this.picture,
    this.overlay,
  );
  private shown: Row | null = null;
  private painter: Painter | null = null;
  private held: HTMLElement[] = [];
  private heads: HTMLElement[] = [];
  private draws = 0;
  private index = 0;
  private search: Lookup | null = null;
  /** Whether its timeline is on the screen or close to it: nothing is drawn elsewhere. */
  private near = true;

  constructor(private readonly host: RowHost) {
    this.select.addEventListener('change', () => {
      host.choose(this.index, this.select.value);
    });
    this.removal.addEventListener('click', () => {
      host.remove(this.index);
    });
    this.element.append(make('header', {}, this.select, this.about, this.removal), this.body);
    listen(this.stage, host, {
      index: () => this.index,
      pitch: () => this.painter?.heights.pitch ?? 1,
      ranks: () => this.lookup?.timeline.ranks.length ?? 0,
    });
    new IntersectionObserver(
      (entries) => {
        this.near = entries.at(-1)?.isIntersecting ?? true;
        if (this.near) host.appeared();
      },
      { rootMargin: '50%' },
    ).observe(this.stage);
  }

  /** To look things up in what it shows; null where its method was refused. */
  get lookup(): Lookup | null {
    if (!this.shown || !isMade(this.shown)) return null;
    this.search ??= new Lookup(this.shown.timeline);
    return this.search;
  }

  /** Width of its timeline in pixels. */
  get width(): number {
    return this.stage.clientWidth;
  }

  /** Draws it wherever it is, until it's scrolled: on paper everything is seen. */
  bringNear(): void {
    this.near = true;
  }

  focus(): void {
    this.stage.focus({ preventScroll: true });
  }

  /** Shows a row. */
  show(
    row: Row,
    index: number,
    { choices, only }: { choices: readonly RowChoice[]; only: boolean },
  ): void {
    this.index = index;
    this.removal.disabled = only;
    this.removal.setAttribute('aria-label', `Remove ${row.title}`);
    if (row === this.shown) return;
    this.shown = row;
    this.search = null;
    this.select.replaceChildren(
      ...choices.map(({ id, title }) => make('option', { value: id }, title)),
    );
    this.select.value = row.id;
    this.element.setAttribute('aria-label', row.title);
    this.element.dataset.method = row.id;
    if (isMade(row)) this.showMade(row);
    else this.showRefused(row);
  }

  private showRefused(row: RefusedRow): void {
    this.painter = null;
    write(this.about, '');
    const message = make('p', {}, `${row.message}${row.hint === '' ? '' : `: ${row.hint}`}.`);
    const box = make('div', { class: 'refused', role: 'alert' }, message);
    const { remedy } = row;
    if (remedy) {
      const words = `Take ${remedy.value} ${fieldWords[remedy.field] ?? remedy.field}`;
      const button = make('button', { type: 'button' }, words);
      button.addEventListener('click', () => {
        this.host.set(remedy.field, remedy.value);
      });
      box.append(button);
    }
    this.body.replaceChildren(box);
  }

  private showMade(row: MadeRow): void {
    this.painter = new Painter(row);
    write(this.about, row.description);
    const facts = make(
      'dl',
      { class: 'facts' },
      ...factsOf(row).map(([name, value]) =>
        make('div', {}, make('dt', {}, name), make('dd', {}, value)),
      ),
    );
    this.stage.setAttribute('aria-label', `Timeline of ${row.title}`);
    this.stage.style.height = `${this.painter.height}px`;
    this.body.replaceChildren(facts, ...formLine(row), this.table(row, this.painter));
  }

  /** Numbers of each rank, with the timeline between them. */
  private table(
    { timeline: { ranks, total, bubbleShare } }: MadeRow,
    painter: Painter,
  ): HTMLElement {
    const word = (text: string): HTMLElement => make('span', { class: 'word' }, text);
    const head = make(
      'tr',
      {},
      make('th', { scope: 'col', class: 'c-rank' }, word('rank')),
      make('td'),
      make('th', { scope: 'col', class: 'c-idle' }, 'idle'),
      make('th', { scope: 'col', class: 'c-bubble' }, 'bubble'),
      make(
        'th',
        { scope: 'col', class: 'c-held', title: 'activations held now, of at most' },
        'held',
      ),
    );
    this.held = ranks.map(() => make('td', { class: 'held' }));
    this.heads = ranks.map((_, rank) => make('th', { scope: 'row' }, word('rank '), String(rank)));
    const lane = make('td', { class: 'lane', rowspan: String(ranks.length + 1) }, this.stage);
    const rows = ranks.map(({ idle }, rank) =>
      make(
        'tr',
        {},
        this.heads[rank],
        ...(rank === 0 ? [lane] : []),
        make('td', { class: 'idle' }, figure(idle)),
        make('td', { class: 'bubble' }, percent(total === 0 ? 0 : idle / total)),
        this.held[rank],
      ),
    );
    const mean = ranks.reduce((sum, { idle }) => sum + idle, 0) / ranks.length;
    const most = Math.max(...ranks.map(({ peakInFlight }) => peakInFlight));
    const last = make(
      'tr',
      { class: 'all' },
      make('th', { scope: 'row' }, word('mean')),
      make('td', {}, figure(mean)),
      make('td', { class: 'bubble' }, percent(bubbleShare)),
      make('td', {}, `≤ ${most}`),
    );
    const table = make(
      'table',
      { class: 'ranks' },
      make('thead', {}, head),
      make('tbody', {}, ...rows, last),
    );
    table.style.setProperty('--pitch', `${painter.heights.pitch}px`);
    return table;
  }

  /** Draws the part of the time that is shown. */
  draw(window: Window): void {
    const { painter } = this;
    if (!painter || !this.near) return;
    const [boxes, averaged] = painter.draw(this.picture, this.width, window, look());
    this.draws += 1;
    Object.assign(this.picture.dataset, {
      boxes: String(boxes),
      averaged: String(averaged),
      draws: String(this.draws),
    });
  }

  /** Draws what is looked at, and writes what each rank holds then. */
  drawFocus(focus: Focus, window: Window): void {
    const { painter, lookup } = this;
    if (!painter || !lookup) return;
    const { width } = this;
    const frame = { width, height: painter.height, window, heights: painter.heights };
    if (this.near) drawOverlay(this.overlay, lookup, focus, frame, look());
    lookup.timeline.ranks.forEach(({ peakInFlight }, rank) => {
      write(this.held[rank], `${lookup.held(rank, focus.time).inFlight} of ${peakInFlight}`);
      this.heads[rank].parentElement?.classList.toggle('chosen', rank === focus.rank);
    });
  }
}

/** The formula beside the simulation, in a sentence. */
function formLine(row: MadeRow): HTMLElement[] {
  const words = formWords(row);
  if (!words) return [];
  const { verdict, agrees, values, condition } = words;
  const sign = make('span', { class: 'sign', 'aria-hidden': 'true' }, agrees ? '✓' : '≠');
  const line = make(
    'p',
    { class: 'form' },
    make('b', { class: agrees ? 'yes' : 'no' }, sign, verdict),
    ` ${values} `,
    make('span', { class: 'when' }, condition),
  );
  line.dataset.agrees = String(agrees);
  return [line];
}
