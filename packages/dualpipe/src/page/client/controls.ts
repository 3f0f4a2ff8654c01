// The controls above the rows: numbers, with what is wrong with one beside it, and choices.
import { publishedProfile } from '../../profile';
import { type Field, faultOf, fields } from '../fields';
import { type PageState, phaseValues, writeNumber } from '../state';
import { byId, typed, write } from './dom';

/** Changes of a state. */
export type Change = Partial<Pick<PageState, 'values' | 'timing' | 'semantics'>>;

/** Reads what is in a box: null for nothing, NaN for what is no number. */
function valueIn(input: HTMLInputElement): number | null {
  if (input.validity.badInput) return Number.NaN;
  return input.value === '' ? null : Number(input.value);
}

/** The controls. */
export class Controls {
  constructor(
    private readonly state: () => PageState,
    private readonly change: (change: Change) => void,
  ) {
    for (const field of fields) this.listenTo(field);
    for (const radio of this.radios())
      radio.addEventListener('change', () => {
        change({ timing: radio.value === 'phases' ? 'phases' : 'four' });
      });
    const semantics = typed('semantics', HTMLSelectElement);
    semantics.addEventListener('change', () => {
      change({ semantics: semantics.value === 'rendezvous' ? 'rendezvous' : 'buffered' });
    });
    byId('preset-unit').addEventListener('click', () => {
      const ones = { forward: 1, 'input-grad': 1, 'weight-grad': 1, overlap: null };
      this.set({ ...ones }, 'four');
    });
    byId('preset-published').addEventListener('click', () => {
      this.set(phaseValues(publishedProfile), 'phases');
    });
    byId('controls').addEventListener('submit', (event) => {
      event.preventDefault();
    });
  }

  private radios(): HTMLInputElement[] {
    return [...document.querySelectorAll<HTMLInputElement>('input[name=times]')];
  }

  private set(values: Readonly<Record<string, number | null>>, timing: PageState['timing']): void {
    this.change({ values: { ...this.state().values, ...values }, timing });
    this.show();
  }

  private listenTo(field: Field): void {
    const input = typed(`f-${field.name}`, HTMLInputElement);
    input.addEventListener('input', () => {
      const value = valueIn(input);
      const fault = faultOf(field, value);
      this.tell(field, fault);
      if (fault === '') this.change({ values: { ...this.state().values, [field.name]: value } });
    });
  }

  private tell({ name }: Field, fault: string): void {
    const input = typed(`f-${name}`, HTMLInputElement);
    if (fault === '') input.removeAttribute('aria-invalid');
    else input.setAttribute('aria-invalid', 'true');
    write(byId(`e-${name}`), fault);
  }

  /** Shows the state; a box whose number is the same already keeps its text. */
  show(): void {
    const { values, timing, semantics, rows } = this.state();
    for (const field of fields) {
      const input = typed(`f-${field.name}`, HTMLInputElement);
      const value = values[field.name];
      if (valueIn(input) !== value) input.value = value === null ? '' : writeNumber(value);
      this.tell(field, '');
    }
    for (const radio of this.radios()) radio.checked = radio.value === timing;
    byId('four').hidden = timing !== 'four';
    byId('phases').hidden = timing !== 'phases';
    typed('semantics', HTMLSelectElement).value = semantics;
    this.showFor(rows);
  }

  /** Shows what the rows' methods take. */
  showFor(rows: readonly string[]): void {
    const box = document.querySelector<HTMLElement>('.field[data-field=stages-per-rank]');
    if (box) box.hidden = !rows.includes('interleaved');
  }

  /** Says at a size which rows cannot be made with it. */
  refuse(faults: ReadonlyMap<string, string>): void {
    for (const field of fields) {
      const input = typed(`f-${field.name}`, HTMLInputElement);
      const own = faultOf(field, valueIn(input));
      this.tell(field, own !== '' ? own : (faults.get(field.name) ?? ''));
    }
  }
}
