// A link of a chosen speed: calls take what their bytes would take, one after another, and no processor.
import { emulatedLink, self } from '@baleen/comm';
import { threads } from '@baleen/comm/threads';
import { expect, test } from 'vitest';

test('calls take the time of their bytes and the latency, and transfers follow one another', async () => {
  const ranks = 2;
  // 500 kB to the other rank at 5 MB/s are 100 ms.
  const results = await threads<Record<string, number>>(
    ranks,
    new URL('./job.mjs', import.meta.url),
    { what: 'link', gbps: 0.005, latencyUs: 20_000 },
  );
  for (const { exchange, twice, barrier, message, got, sent } of results) {
    // A busy machine may be later, never earlier.
    expect(exchange).toBeGreaterThan(119);
    expect(twice).toBeGreaterThan(219);
    expect(barrier).toBeGreaterThan(19);
    // But a receiver's clock may start when the message is on its way already.
    expect(message).toBeGreaterThan(201);
    expect(sent).toBe(3 * 500_000);
    expect(got).toBe(2);
  }
  // Of 340 ms on each rank; what runs on this thread is counted as well.
  expect(results[0].cpuMs).toBeLessThan(150);
});

test('a rank alone sends nothing', () => {
  const start = performance.now();
  const communicator = emulatedLink(self(), { gbps: 1e-6, latencyUs: 1e6 });
  communicator.allReduce(new Float32Array(1000), new Float32Array(1000));
  communicator.split(0)?.barrier();
  expect(performance.now() - start).toBeLessThan(500);
});

test.each([
  ['gbps', { gbps: 0, latencyUs: 0 }],
  ['latencyUs', { gbps: 1, latencyUs: -1 }],
])('a link without %s is refused', (path, options) => {
  expect(() => emulatedLink(self(), options)).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_COMM_OPTIONS', path }),
  );
});
