// How smooth the interactive page is at V3's size: 16 ranks × 240 micro-batches of two methods in Chromium, while time is stepped
// through, played, zoomed, moved, and sizes are changed.
//
//   node bench/page.mjs [--ranks 16] [--micro-batches 240] [--methods dualpipe,1f1b] [--frames 200] [--json]
//
// Needs a build and Chromium (BALEEN_CHROMIUM, or what the system has). One thing is done in every frame. Frames are not held
// back to the rate of a screen, so that from one to the next is what a frame costs: the page's script, style, layout, and
// painting, which the processor does here. `script` is the page's own part, and `processor` what all of Chromium's processes
// compute for a frame, some of it at once: on a busy machine it says more than the clock. Below 16.7 ms a screen of 60 Hz is kept
// up with.
// Fails where the median of stepping, pointing, zooming or moving is above 16 ms; a change makes schedules or times anew.
/* global document, Event, PointerEvent, requestAnimationFrame, WheelEvent -- of pages */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { schedulePage } from '../packages/dualpipe/dist/page.js';
import { findChromium, launchChromium, noChromium } from '../scripts/chromium.mjs';

const { values } = parseArgs({
  options: {
    ranks: { type: 'string', default: '16' },
    'micro-batches': { type: 'string', default: '240' },
    methods: { type: 'string', default: 'dualpipe,1f1b' },
    frames: { type: 'string', default: '200' },
    json: { type: 'boolean', default: false },
  },
});
const sizes = { ranks: Number(values.ranks), microBatches: Number(values['micro-batches']) };
const frames = Number(values.frames);
const limit = 16;

const chromium = findChromium();
if (chromium === null) throw new Error(noChromium);
const folder = mkdtempSync(join(tmpdir(), 'baleen-page-'));
const browser = await launchChromium(chromium, [
  '--disable-frame-rate-limit',
  '--disable-gpu-vsync',
]);
const session = await browser.newBrowserCDPSession();
/** Seconds that all processes of Chromium have computed. */
const processorTime = async () => {
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
};
try {
  const file = join(folder, 'page.html');
  writeFileSync(file, schedulePage({ methods: values.methods.split(','), ...sizes }));
  const results = [];
  for (const phases of [false, true])
    for (const name of Object.keys(actions())) {
      const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
      await page.goto(pathToFileURL(file).href + (phases ? '#times=phases' : ''));
      await page.waitForTimeout(300);
      const rounds = name.startsWith('change') ? Math.min(frames, 40) : frames;
      const before = await processorTime();
      const measured = await page.evaluate(measure, [name, rounds, actions.toString()]);
      const after = await processorTime();
      await page.close();
      const times = phases ? 'phases' : 'four numbers';
      const processorMs = (1000 * (after - before)) / (rounds + 10);
      results.push({ action: name, times, ...measured, processorMs });
    }
  if (values.json)
    console.log(JSON.stringify({ ...sizes, methods: values.methods.split(','), frames, results }));
  else
    console.table(
      results.map(({ action, times, ...ms }) => ({
        action,
        times,
        ...Object.fromEntries(Object.entries(ms).map(([key, each]) => [key, each.toFixed(1)])),
      })),
    );
  const slow = results.filter(
    ({ action, frameMs }) => frameMs > limit && !action.startsWith('change'),
  );
  if (slow.length > 0) process.exitCode = 1;
} finally {
  await browser.close();
  rmSync(folder, { recursive: true });
}

/** What one does on the page, once a frame. Runs in the page. */
function actions() {
  const find = (selector) => document.querySelector(selector);
  const wheel = (more) =>
    find('.stage').dispatchEvent(
      new WheelEvent('wheel', { clientX: 600, cancelable: true, ...more }),
    );
  const type = (name, value) => {
    find(`#f-${name}`).value = value;
    find(`#f-${name}`).dispatchEvent(new Event('input'));
  };
  return {
    // What a frame costs in any page: the least that the others can come to.
    'change a word': (i) => {
      find('h1').textContent = `Frame ${i}`;
    },
    'step through time': () => find('#forth').click(),
    'move the pointer': (i) => {
      const { left, top, width } = find('.stage').getBoundingClientRect();
      find('.stage').dispatchEvent(
        new PointerEvent('pointermove', {
          clientX: left + ((i * 37) % width),
          clientY: top + 40,
        }),
      );
    },
    // In for a while, then out again, and so on.
    zoom: (i) => wheel({ ctrlKey: true, deltaY: i % 50 < 25 ? -90 : 90 }),
    'move along, zoomed in': (i) => {
      if (i === 0) for (let turn = 0; turn < 8; turn += 1) wheel({ ctrlKey: true, deltaY: -120 });
      wheel({ shiftKey: true, deltaY: i % 100 < 50 ? 40 : -40 });
    },
    'change a time': (i) => type('latency', String((i % 7) / 10)),
    'change micro-batches': (i) => type('micro-batches', i % 2 === 0 ? '238' : '240'),
  };
}

/** Does something once a frame, and times frames. Runs in the page. */
async function measure([name, rounds, source]) {
  const act = Function(`return (${source})()`)()[name];
  // The page asks for a frame while `act` runs: what is called before and after its own callback times that.
  const frame = () => {
    let entered = 0;
    requestAnimationFrame(() => {
      entered = performance.now();
    });
    return {
      end: () =>
        new Promise((done) => {
          requestAnimationFrame(() => {
            done(performance.now() - entered);
          });
        }),
    };
  };
  const [whole, script] = [[], []];
  await frame().end();
  for (let i = 0; i < rounds + 10; i += 1) {
    const begin = performance.now();
    const { end } = frame();
    act(i);
    const acted = performance.now() - begin;
    script.push(acted + (await end()));
    whole.push(performance.now() - begin);
  }
  const sorted = (list) => list.slice(10).sort((a, b) => a - b);
  const at = (list, share) => sorted(list)[Math.floor(share * (list.length - 10 - 1))];
  return {
    frameMs: at(whole, 0.5),
    frame95Ms: at(whole, 0.95),
    worstMs: at(whole, 1),
    scriptMs: at(script, 0.5),
  };
}
