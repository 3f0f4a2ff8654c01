// Stepping through time: buttons, a slider, keys, and playing.
import { figure } from '../../format';
import { byId, typed, write } from './dom';

/** What stepping works on. */
export interface TransportHost {
  /** Goes to a moment. */
  to: (time: number) => void;
  /** Goes to the next moment at which something begins, or the one before. */
  step: (direction: 1 | -1) => void;
  /** The moment. */
  time: () => number;
  /** The last moment. */
  total: () => number;
  /** Length of the part of the time that is shown. */
  length: () => number;
}

/** Seconds in which the shown part is played. */
const seconds = 15;

/** Stepping through time. */
export class Transport {
  private playing = false;
  private readonly slider = typed('time', HTMLInputElement);
  private readonly button = byId('play');

  constructor(private readonly host: TransportHost) {
    const click = (id: string, call: () => void): void => {
      byId(id).addEventListener('click', () => {
        this.stop();
        call();
      });
    };
    click('first', () => {
      host.to(0);
    });
    click('last', () => {
      host.to(host.total());
    });
    click('back', () => {
      host.step(-1);
    });
    click('forth', () => {
      host.step(1);
    });
    this.button.addEventListener('click', () => {
      this.toggle();
    });
    this.slider.addEventListener('input', () => {
      this.stop();
      host.to(Number(this.slider.value));
    });
    document.addEventListener('keydown', (event) => {
      this.key(event);
    });
  }

  private key(event: KeyboardEvent): void {
    const { key, target } = event;
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const element = target instanceof HTMLElement ? target : document.body;
    if (element !== this.slider && element.matches('input, select, textarea')) return;
    if (key === 'ArrowRight' || key === 'ArrowLeft') {
      this.stop();
      this.host.step(key === 'ArrowRight' ? 1 : -1);
    } else if (key === ' ' && element === document.body) this.toggle();
    else return;
    event.preventDefault();
  }

  /** Plays, or stops. */
  toggle(): void {
    if (this.playing) {
      this.stop();
      return;
    }
    this.playing = true;
    this.showPlaying();
    if (this.host.time() >= this.host.total()) this.host.to(0);
    let before = performance.now();
    const turn = (now: number): void => {
      if (!this.playing) return;
      const time =
        this.host.time() + (Math.max(0, now - before) / 1000 / seconds) * this.host.length();
      before = now;
      this.host.to(Math.min(time, this.host.total()));
      if (time >= this.host.total()) this.stop();
      else requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }

  private stop(): void {
    if (!this.playing) return;
    this.playing = false;
    this.showPlaying();
  }

  private showPlaying(): void {
    this.button.setAttribute('aria-pressed', String(this.playing));
    // While it plays, words change too fast to be read aloud.
    byId('words').setAttribute('aria-live', this.playing ? 'off' : 'polite');
  }

  /** Shows the moment. */
  show(): void {
    const [time, total] = [this.host.time(), this.host.total()];
    this.slider.max = String(total);
    this.slider.value = String(time);
    const words = `${figure(time)} of ${figure(total)}`;
    this.slider.setAttribute('aria-valuetext', words);
    write(byId('clock'), `time ${words}`);
  }
}
