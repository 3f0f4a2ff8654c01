// The table under the rows: what their methods come to, side by side.
import { figure, percent } from '../../format';
import type { MadeRow } from '../row-model';
import { byId, make } from './dom';

/** Fills the table; with fewer than two rows there is none. */
export function showComparison(rows: readonly MadeRow[]): void {
  byId('side').hidden = rows.length < 2;
  if (rows.length < 2) return;
  const shortest = Math.min(...rows.map(({ timeline }) => timeline.total));
  const names = [
    'method',
    'total',
    'beside the shortest',
    'bubble',
    'idle',
    'by the formula',
    'held, ranks’ shares',
    'copies of parameters',
  ];
  const head = make('tr', {}, ...names.map((name) => make('th', { scope: 'col' }, name)));
  const lines = rows.map(({ title, timeline, form, report, schedule }) => {
    const { total, bubbleShare, ranks } = timeline;
    const idle = ranks.map((rank) => rank.idle);
    const more = shortest === 0 ? 0 : total / shortest - 1;
    const held = (Math.max(...report.peakInFlight) * schedule.ranks) / schedule.stages;
    const cells = [
      figure(total),
      more < 1e-9 ? 'shortest' : `+${percent(more)}`,
      percent(bubbleShare),
      range(idle),
      form ? `${figure(form.bubble)}${form.equal ? '' : ', differs'}` : 'none',
      figure(held),
      String(schedule.pipelines.length),
    ];
    return make(
      'tr',
      {},
      make('th', { scope: 'row' }, title),
      ...cells.map((cell) => make('td', {}, cell)),
    );
  });
  byId('comparison').replaceChildren(make('thead', {}, head), make('tbody', {}, ...lines));
}

/** The least and the most of a list. */
function range(values: readonly number[]): string {
  const [least, most] = [figure(Math.min(...values)), figure(Math.max(...values))];
  return least === most ? least : `${least} to ${most}`;
}
