// The page in Chromium: its figures are the library's, controls change them, steps and words follow, its address shows the
// same again.
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import {
  generateSchedule,
  publishedProfile,
  readChromeTrace,
  simulate,
  toChromeTrace,
} from '../../src/index';
import { expected, figure, figuresOf, inChromium, set, settled, shown } from './chromium';

const compared = (page: Page): Promise<string[]> =>
  page.locator('#comparison tbody tr th').allTextContents();

inChromium((open) => {
  test('figures are the library’s, for every method and after every change', async () => {
    const page = await open({ methods: ['gpipe', '1f1b', 'zb1p', 'dualpipe', 'dualpipev'] });
    const methods = ['gpipe', '1f1b', 'zb1p', 'dualpipe', 'dualpipev'] as const;
    for (const method of methods)
      expect(await shown(page, method)).toEqual(
        figuresOf(expected(method, { ranks: 8, microBatches: 20 })),
      );
    await set(page, 'ranks', '4');
    await set(page, 'micro-batches', '12');
    await set(page, 'input-grad', '1.5');
    await set(page, 'weight-grad', '0.5');
    const times = { forward: 1, inputGrad: 1.5, weightGrad: 0.5 };
    for (const method of methods)
      expect(await shown(page, method)).toEqual(
        figuresOf(expected(method, { ranks: 4, microBatches: 12 }, times)),
      );
    expect(await page.locator('.ranks').first().locator('tbody tr').count()).toBe(5);
    await page.close();
  });

  test('the formula stands beside the simulation, and it is said whether they agree', async () => {
    const page = await open({ methods: ['dualpipe'] });
    const line = page.locator('.form');
    expect(await line.textContent()).toMatch(
      /Formula and simulation agree\..* = 6, where B = Bᵢ \+ W; every rank stands still for 6\. Exact, since/,
    );
    await set(page, 'input-grad', '1.5');
    await set(page, 'weight-grad', '0.5');
    expect(await line.textContent()).toMatch(
      /Formula and simulation differ\..* = 10\.5, where B = Bᵢ \+ W; every rank stands still for 9\.5\. It need not/,
    );
    expect(await line.getAttribute('data-agrees')).toBe('false');
    await page.close();
  });

  test('methods are compared side by side, added, chosen and removed', async () => {
    const page = await open({ methods: ['dualpipe', 'zb1p'] });
    expect(await compared(page)).toEqual(['DualPipe', 'ZB1P']);
    const cells = page.locator('#comparison tbody tr').nth(1).locator('td');
    const { total } = expected('zb1p', { ranks: 8, microBatches: 20 });
    expect((await cells.allTextContents()).slice(0, 2)).toEqual([
      figure(total),
      `+${(100 * (total / 66 - 1)).toFixed(1)} %`,
    ]);
    await page.getByRole('button', { name: 'Compare with another method' }).click();
    await page.getByLabel('Method of this row').nth(2).selectOption('dualpipev');
    await settled(page);
    expect(await compared(page)).toEqual(['DualPipe', 'ZB1P', 'DualPipeV']);
    await page.getByRole('button', { name: 'Remove DualPipe', exact: true }).click();
    await page.getByRole('button', { name: 'Remove ZB1P' }).click();
    await settled(page);
    expect(await page.locator('.row').count()).toBe(1);
    expect(await page.locator('#side').isVisible()).toBe(false);
    expect(await page.getByRole('button', { name: 'Remove DualPipeV' }).isDisabled()).toBe(true);
    await page.close();
  });

  test('what a method does not allow is said in words beside the size, with a way out', async () => {
    const page = await open({ methods: ['interleaved', '1f1b'] });
    const box = page.locator('.field[data-field=micro-batches]');
    expect(await box.locator('.fault').textContent()).toBe('Interleaved 1F1B takes 16 (or 24).');
    expect(await box.locator('input').getAttribute('aria-invalid')).toBe('true');
    expect(await page.locator('.refused p').textContent()).toBe(
      'microBatches (20) is not a multiple of ranks (8), which interleaved needs: take microBatches 16 (or 24).',
    );
    // The other row is there, and explained.
    expect(await page.locator('.stage').count()).toBe(1);
    expect(await page.locator('#what').textContent()).toBe('1F1B. Rank 0, 0 to 1: forward');
    await page.getByRole('button', { name: 'Take 16 micro-batches' }).click();
    await settled(page);
    expect(await page.locator('.refused').count()).toBe(0);
    expect(await box.locator('.fault').textContent()).toBe('');
    expect(await shown(page, 'interleaved')).toEqual(
      figuresOf(expected('interleaved', { ranks: 8, microBatches: 16 })),
    );
    // What is no size at all changes nothing but the words.
    await set(page, 'micro-batches', '2.5');
    expect(await box.locator('.fault').textContent()).toBe(
      '2.5 is not a whole number from 1 to 1024.',
    );
    expect((await shown(page, '1f1b')).idle).toHaveLength(8);
    await set(page, 'forward', '-1');
    expect(await page.locator('#e-forward').textContent()).toBe('-1 is not a number from 0.');
    await page.close();
  });

  test('steps by keys, buttons and slider; words name what is computed, needed and sent', async () => {
    const page = await open({ methods: ['1f1b'], ranks: 4, microBatches: 8 });
    const clock = page.locator('#clock');
    const what = page.locator('#what');
    const words = page.locator('#words');
    await page.getByRole('button', { name: 'One step on' }).click();
    await page.getByRole('button', { name: 'One step on' }).click();
    await settled(page);
    expect(await clock.textContent()).toBe('time 2 of 33');
    await page.locator('.stage').focus();
    for (const key of ['Home', 'ArrowDown', 'ArrowRight', 'ArrowRight'])
      await page.keyboard.press(key);
    await settled(page);
    expect(await what.textContent()).toBe('Rank 1, 2 to 3: forward');
    expect(await words.textContent()).toContain(
      'Forward of stage 1, micro-batch 1 It needs the activation of stage 0, which came from rank 0 at 2. ' +
        'It sends its activation to rank 2, which goes on with stage 2 at 3.',
    );
    expect(await page.locator('tr.chosen th').textContent()).toBe('rank 1');
    // Idle: rank 1 waits for the first gradient of rank 2.
    await page.locator('#time').fill('5');
    await settled(page);
    expect(await what.textContent()).toBe('Rank 1, 4 to 8: stands still for 4');
    expect(await words.textContent()).toContain(
      'Next: full backward of stage 1, micro-batch 0 Rank 1 waits for the gradient of stage 2, micro-batch 0, from rank 2',
    );
    await page.keyboard.press('End');
    await settled(page);
    expect(await page.locator('#time').evaluate((slider: HTMLInputElement) => slider.value)).toBe(
      '33',
    );
    // Under the pointer.
    const { width = 0 } = (await page.locator('.stage').boundingBox()) ?? {};
    await page.locator('.stage').hover({ position: { x: (1.5 / 33) * width, y: 10 } });
    await settled(page);
    expect(await what.textContent()).toBe('Rank 0, 1 to 2: forward');
    expect(await words.textContent()).toContain('its input is the micro-batch itself');
    await page.close();
  });

  test('plays until the end, and stops', async () => {
    const page = await open({ methods: ['1f1b'], ranks: 2, microBatches: 2 });
    await page.locator('#time').fill('8.9');
    await page.getByRole('button', { name: 'Play' }).click();
    const button = page.locator('#play[aria-pressed=false]');
    await button.waitFor();
    await settled(page);
    const { total } = expected('1f1b', { ranks: 2, microBatches: 2 });
    expect(await page.locator('#clock').textContent()).toBe(
      `time ${figure(total)} of ${figure(total)}`,
    );
    await page.close();
  });

  test('the address shows the same again', async () => {
    const page = await open({ methods: ['dualpipe', '1f1b'] });
    await set(page, 'overlap', '2.5');
    await set(page, 'latency', '0.25');
    await page.locator('#semantics').selectOption('rendezvous');
    await page
      .locator('.stage')
      .nth(1)
      .click({ position: { x: 200, y: 100 } });
    await page.getByRole('button', { name: 'Show less of the time, larger' }).click();
    await settled(page);
    await page.waitForURL(/row=1.*from=/);
    const address = page.url();
    expect(address).toMatch(/#methods=dualpipe,1f1b&.*overlap=2\.5.*semantics=rendezvous.*row=1/);
    const hash = address.slice(address.indexOf('#'));
    const again = await open({ methods: ['gpipe'], ranks: 3 }, { hash });
    for (const method of ['dualpipe', '1f1b'])
      expect(await shown(again, method)).toEqual(await shown(page, method));
    for (const id of ['what', 'why', 'clock'])
      expect(await again.locator(`#${id}`).textContent()).toBe(
        await page.locator(`#${id}`).textContent(),
      );
    expect(await again.locator('#f-overlap').inputValue()).toBe('2.5');
    // An address that is opened in the same page.
    await again.evaluate(() => {
      window.location.hash = 'methods=zb1p&ranks=3&micro-batches=6';
    });
    await settled(again);
    expect(await shown(again, 'zb1p')).toEqual(
      figuresOf(expected('zb1p', { ranks: 3, microBatches: 6 })),
    );
    await page.close();
    await again.close();
  });

  test('phases are taken one by one', async () => {
    const page = await open({ methods: ['dualpipe'], ranks: 4, microBatches: 8 });
    await page.getByRole('button', { name: 'Published profile, ms' }).click();
    await settled(page);
    const schedule = generateSchedule('dualpipe', { ranks: 4, microBatches: 8 });
    const published = simulate(schedule, { times: publishedProfile });
    expect(await shown(page, 'dualpipe')).toEqual(figuresOf(published));
    await set(page, 'forward-dispatch', '30');
    const forward = { ...publishedProfile.forward, dispatch: 30 };
    const slower = simulate(schedule, { times: { ...publishedProfile, forward } });
    expect(slower.total).toBeGreaterThan(published.total);
    expect(await shown(page, 'dualpipe')).toEqual(figuresOf(slower));
    await page.locator('.stage').hover({ position: { x: 10, y: 10 } });
    await settled(page);
    expect(await page.locator('#words').textContent()).toMatch(
      /Computes .* of the forward, layer 0/,
    );
    await page.getByLabel('four numbers').check();
    await settled(page);
    expect(await shown(page, 'dualpipe')).toEqual(
      figuresOf(expected('dualpipe', { ranks: 4, microBatches: 8 })),
    );
    await page.close();
  });

  test('layers that a method’s stages cannot share are refused in its row only', async () => {
    const times = { ...publishedProfile, layers: 1 };
    const page = await open({ methods: ['dualpipev', 'gpipe', '1f1b'], times });
    const fault = page.locator('.field[data-field=layers] .fault');
    expect(await fault.textContent()).toBe('DualPipeV takes 2.');
    expect(await compared(page)).toEqual(['GPipe', '1F1B']);
    await page.close();
  });

  test('a schedule of one’s own, and a measured one, are the first row', async () => {
    const sizes = { ranks: 3, microBatches: 7 };
    const schedule = { ...generateSchedule('zb1p', sizes), method: 'by </script> hand' };
    const page = await open({ own: { name: 'mine <b>', schedule }, methods: ['1f1b'], ...sizes });
    expect(await compared(page)).toEqual(['mine <b>', '1F1B']);
    expect(await shown(page, 'own')).toEqual(figuresOf(expected('zb1p', sizes)));
    await page.close();
    const times = { forward: 1.25, inputGrad: 1, weightGrad: 2 };
    const timeline = readChromeTrace(toChromeTrace(expected('1f1b', sizes, times)));
    const measured = await open({ own: { name: 'run', schedule: timeline } });
    expect(await shown(measured, 'own')).toEqual(figuresOf(expected('1f1b', sizes, times)));
    await measured.close();
  });
});
