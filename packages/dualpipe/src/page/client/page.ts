// The page at work: holds its state, makes rows again that a change touches, and draws once a frame at most.
import { figure } from '../../format';
import { methods } from '../../methods/index';
import { explain } from '../explain';
import { faultOf, fieldOf } from '../fields';
import type { Place } from '../lookup';
import { isMade, keyOf, type MadeRow, makeRow, type OwnSchedule, type Row } from '../row-model';
import { mostRows, ownRow, type PageState, readAddress, titles, writeAddress } from '../state';
import { Steps } from '../steps';
import type { Window } from '../windows';
import * as windows from '../windows';
import type { RowChoice } from '../words';
import { showComparison } from './comparison';
import { Controls } from './controls';
import { byId, typed } from './dom';
import { showLegend } from './legend';
import { onThemeChange } from './look';
import { RowView } from './row-view';
import { Transport } from './transport';
import { showWords } from './words';

/** What must be brought up to date in the next frame. */
type Due = 'rows' | 'picture' | 'focus';

/** The page. */
export class Page {
  private rows: Row[] = [];
  private readonly views: RowView[] = [];
  private readonly controls: Controls;
  private readonly transport: Transport;
  private readonly due = new Set<Due>();
  private frame = 0;
  private saving: ReturnType<typeof setTimeout> | undefined;
  private hovered: { row: number; rank: number; share: number } | null = null;
  private steps = new Steps([]);

  constructor(
    private state: PageState,
    private readonly start: PageState,
    private readonly own: OwnSchedule | null,
  ) {
    this.controls = new Controls(
      () => this.state,
      (change) => {
        this.set(change, 'rows');
      },
    );
    this.transport = new Transport({
      to: (time) => {
        this.goTo(time);
      },
      step: (direction) => {
        this.step(direction);
      },
      time: () => this.time,
      total: () => this.total,
      length: () => this.window.to - this.window.from,
    });
    this.listen();
    this.controls.show();
    if (window.matchMedia('(max-width: 720px)').matches)
      typed('settings', HTMLDetailsElement).open = false;
    this.need('rows');
  }

  private listen(): void {
    byId('add').addEventListener('click', () => {
      this.addRow();
    });
    const zoomed = (factor: number) => (): void => {
      this.zoom(factor, 0.5);
    };
    byId('zoom-in').addEventListener('click', zoomed(2));
    byId('zoom-out').addEventListener('click', zoomed(0.5));
    byId('zoom-all').addEventListener('click', () => {
      this.set({ window: null }, 'picture');
    });
    const pan = typed('pan', HTMLInputElement);
    pan.addEventListener('input', () => {
      const { from, to } = this.window;
      const length = to - from;
      this.show(windows.at(Number(pan.value) * (this.total - length), length, this.total));
    });
    window.addEventListener('hashchange', () => {
      const own = this.own !== null;
      if (window.location.hash.slice(1) === writeAddress(this.state, this.start)) return;
      this.state = readAddress(window.location.hash, this.start, own);
      this.controls.show();
      this.need('rows');
    });
    // Rows that are not on the screen are drawn for paper only.
    window.addEventListener('beforeprint', () => {
      for (const view of this.views) view.bringNear();
      this.need('picture');
      this.updateNow();
    });
    onThemeChange(() => {
      this.need('picture');
    });
    new ResizeObserver(() => {
      this.need('picture');
    }).observe(byId('rows'));
  }

  /** The latest end of all rows. */
  private get total(): number {
    return Math.max(0, ...this.made().map(({ timeline }) => timeline.total));
  }

  private get time(): number {
    return Math.min(this.state.time, this.total);
  }

  private get window(): Window {
    return windows.fitted(this.state.window, this.total);
  }

  private made(): MadeRow[] {
    return this.rows.filter(isMade);
  }

  private set(change: Partial<PageState>, due: Due): void {
    this.state = { ...this.state, ...change };
    this.need(due);
  }

  private need(due: Due): void {
    this.due.add(due);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.update();
    });
  }

  /** Where the next click must find rows at their places. */
  private updateNow(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.update();
  }

  private update(): void {
    const due = new Set(this.due);
    this.due.clear();
    if (due.has('rows')) this.updateRows();
    if (due.has('rows') || due.has('picture')) {
      const shown = this.window;
      showLegend(this.state.timing === 'phases');
      for (const view of this.views) view.draw(shown);
      this.showZoom();
    }
    this.updateFocus();
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      this.save();
    }, 200);
  }

  /** Puts the state into the address. */
  private save(): void {
    const address = `#${writeAddress(this.state, this.start)}`;
    if (address !== window.location.hash) window.history.replaceState(null, '', address);
  }

  private updateRows(): void {
    const { state, own } = this;
    const known = new Map(this.rows.map((row, i) => [this.keys[i], row]));
    this.keys = state.rows.map((id) => keyOf(id, state));
    this.rows = state.rows.map((id, i) => known.get(this.keys[i]) ?? makeRow(id, state, own));
    const place = byId('rows');
    while (this.views.length < this.rows.length) {
      const view = new RowView(this.host());
      this.views.push(view);
      place.append(view.element);
    }
    for (const view of this.views.splice(this.rows.length)) view.element.remove();
    const choices = this.choices();
    this.rows.forEach((row, i) => {
      this.views[i].show(row, i, { choices, only: this.rows.length === 1 });
    });
    this.steps = new Steps(this.made().map(({ timeline }) => timeline));
    this.controls.showFor(state.rows);
    this.controls.refuse(this.faults());
    typed('add', HTMLButtonElement).disabled = this.rows.length >= mostRows;
    showComparison(this.made());
  }

  /** Keys of the rows that are shown. */
  private keys: string[] = [];

  /** What the rows say about sizes, by field. */
  private faults(): Map<string, string> {
    const faults = new Map<string, string>();
    for (const row of this.rows) {
      if (isMade(row) || !row.remedy) continue;
      const { field, words } = row.remedy;
      const before = faults.get(field);
      faults.set(field, `${before === undefined ? '' : `${before} `}${row.title} takes ${words}.`);
    }
    return faults;
  }

  private choices(): RowChoice[] {
    const own = this.own ? [{ id: ownRow, title: this.own.name }] : [];
    return [...own, ...Object.entries(titles).map(([id, title]) => ({ id, title }))];
  }

  private host(): ConstructorParameters<typeof RowView>[0] {
    return {
      choose: (row, id) => {
        this.set({ rows: this.state.rows.with(row, id) }, 'rows');
        this.updateNow();
      },
      remove: (row) => {
        const rows = this.state.rows.toSpliced(row, 1);
        this.set({ rows, row: Math.min(this.state.row, rows.length - 1) }, 'rows');
        this.updateNow();
      },
      appeared: () => {
        this.need('picture');
      },
      set: (field, value) => {
        if (faultOf(fieldOf(field), value) !== '') return;
        this.set({ values: { ...this.state.values, [field]: value } }, 'rows');
        this.controls.show();
      },
      hover: (row, at) => {
        this.hovered = at && { row, ...at };
        this.need('focus');
      },
      pick: (row, { rank, share }) => {
        const { from, to } = this.window;
        this.hovered = null;
        this.set({ row, rank, time: from + share * (to - from) }, 'focus');
      },
      zoom: (factor, share) => {
        this.zoom(factor, share);
      },
      pan: (share) => {
        const { from, to } = this.window;
        const length = to - from;
        this.show(windows.at(from + share * length, length, this.total));
      },
      key: (row, key) => this.key(row, key),
      focused: (row) => {
        if (row !== this.state.row) this.set({ row }, 'focus');
      },
    };
  }

  private show(window: Window): void {
    this.set({ window: windows.stored(window, this.total) }, 'picture');
  }

  private zoom(factor: number, share: number): void {
    this.show(windows.zoomed(this.window, { factor, share }, this.total));
  }

  private showZoom(): void {
    const { from, to } = this.window;
    const length = to - from;
    const pan = typed('pan', HTMLInputElement);
    const all = this.state.window === null;
    pan.disabled = all;
    pan.value = String(this.total > length ? from / (this.total - length) : 0);
    pan.setAttribute('aria-valuetext', `${figure(from)} to ${figure(to)} of ${figure(this.total)}`);
    typed('zoom-all', HTMLButtonElement).disabled = all;
    typed('zoom-out', HTMLButtonElement).disabled = all;
  }

  private goTo(time: number): void {
    this.hovered = null;
    const kept = windows.including(this.window, time, this.total);
    if (kept === this.window || (kept.from === this.window.from && kept.to === this.window.to))
      this.set({ time }, 'focus');
    else this.set({ time, window: windows.stored(kept, this.total) }, 'picture');
  }

  private step(direction: 1 | -1): void {
    const next = this.steps.from(this.time, direction);
    if (next !== null) this.goTo(next);
  }

  /** Keys on a timeline. */
  private key(row: number, key: string): boolean {
    const lookup = this.views[row].lookup;
    if (!lookup) return false;
    const rank = this.rankIn(row);
    const move = (place: Place | null): boolean => {
      if (place) {
        this.set({ row, rank }, 'focus');
        this.goTo(place.span.start);
      }
      return true;
    };
    const { time } = this;
    switch (key) {
      case 'ArrowRight':
        return move(lookup.next(rank, time));
      case 'ArrowLeft': {
        const running = lookup.running(rank, time);
        const inside = running && time - running.span.start > lookup.slack;
        return move(
          inside ? running : running ? lookup.at(rank, running.index - 1) : lookup.last(rank, time),
        );
      }
      case 'ArrowUp':
      case 'ArrowDown':
        this.hovered = null;
        this.changeRank(row, rank + (key === 'ArrowUp' ? -1 : 1));
        return true;
      case 'Home':
        return move(lookup.at(rank, 0));
      case 'End':
        return move(lookup.last(rank, this.total));
      case '+':
      case '=':
        this.zoom(2, this.share(time));
        return true;
      case '-':
        this.zoom(0.5, this.share(time));
        return true;
      case '0':
        this.set({ window: null }, 'picture');
        return true;
      case ' ':
        this.transport.toggle();
        return true;
      default:
        return false;
    }
  }

  /** Where a moment is in the window. */
  private share(time: number): number {
    const { from, to } = this.window;
    return Math.max(0, Math.min(1, (time - from) / (to - from)));
  }

  /** Another rank, in the row above or below where this one has no more. */
  private changeRank(row: number, rank: number): void {
    const ranks = this.views[row].lookup?.timeline.ranks.length ?? 0;
    if (rank >= 0 && rank < ranks) {
      this.set({ row, rank }, 'focus');
      return;
    }
    const other = row + Math.sign(rank || -1) * (rank < 0 || rank >= ranks ? 1 : 0);
    const lookup = this.views.at(other)?.lookup;
    if (other < 0 || !lookup) return;
    this.set({ row: other, rank: rank < 0 ? lookup.timeline.ranks.length - 1 : 0 }, 'focus');
    this.views[other].focus();
  }

  private rankIn(row: number): number {
    const ranks = this.views[row].lookup?.timeline.ranks.length ?? 1;
    return Math.min(this.state.rank, ranks - 1);
  }

  private addRow(): void {
    const names = Object.keys(methods).filter((name) => !this.state.rows.includes(name));
    const allowed = names.find((name) => isMade(makeRow(name, this.state, this.own)));
    const id = allowed ?? names.at(0) ?? 'dualpipe';
    this.set({ rows: [...this.state.rows, id] }, 'rows');
  }

  private updateFocus(): void {
    const { time } = this;
    const { from, to } = this.window;
    const { hovered } = this;
    // Where the chosen row's method was refused, there is something to say about another one.
    const some = this.views[this.state.row]?.lookup
      ? this.state.row
      : this.views.findIndex(({ lookup }) => lookup !== null);
    const row = hovered?.row ?? Math.max(0, some);
    const rank = hovered?.rank ?? this.rankIn(Math.min(row, this.views.length - 1));
    const moment = hovered ? from + hovered.share * (to - from) : time;
    this.views.forEach((view, i) => {
      const here = i === row ? (view.lookup?.running(rank, moment) ?? null) : null;
      const chosen = i === some ? this.rankIn(i) : null;
      view.drawFocus({ time, rank: chosen, place: here }, this.window);
    });
    this.transport.show();
    const lookup = this.views.at(row)?.lookup;
    const words = lookup ? explain(lookup, rank, moment) : { title: '', paragraphs: [] };
    const made = this.rows.at(row);
    const name = this.rows.length > 1 && made ? `${made.title}. ` : '';
    showWords(words.title === '' ? '' : name + words.title, words.paragraphs);
  }
}
