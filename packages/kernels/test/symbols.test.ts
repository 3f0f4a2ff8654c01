// Nothing that is compiled for one instruction set may run for another. Of an inline function or a template that several
// object files define (a weak symbol) the linker keeps one copy, whichever it meets first: so an instruction set's weak
// functions all stand in its own namespace, where no other set has any.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

const folder = fileURLToPath(new URL('../native/build/Release', import.meta.url));
const required = !['', '0', undefined].includes(process.env.BALEEN_REQUIRE_NATIVE);

/** The instruction sets whose libraries a build left here; none where the addon came prebuilt. */
const sets = existsSync(folder)
  ? readdirSync(folder)
      .filter((name) => name.endsWith('.a'))
      .map((name) => name.slice(0, -2))
  : [];

/** What `nm -C` says of a set's library. */
const symbolsOf = (set: string): string => {
  const { status, stdout, stderr } = spawnSync('nm', ['-C', join(folder, `${set}.a`)], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
};

/** A set's weak definitions outside its namespace. Of references to the exception handler every copy is the same. */
const strangers = (set: string, symbols: string): string[] =>
  Array.from(symbols.matchAll(/^[\da-f]+ [WVu] (.+)$/gm), ([, name]) => name).filter(
    (name) => !name.includes(`baleen::isa_${set}::`) && !name.startsWith('DW.ref.'),
  );

/** Why the libraries cannot be looked at, if they cannot. */
const reason = ((): string | null => {
  if (sets.length === 0) return 'no libraries of instruction sets in native/build/Release';
  if (process.platform !== 'linux') return 'nm marks weak symbols so in ELF files only';
  const { error } = spawnSync('nm', ['--version']);
  return error ? `nm does not run: ${error.message}` : null;
})();

describe('weak functions of an instruction set', () => {
  test('are told from what else nm lists', () => {
    const symbols = `
units.o:
                 U baleen::threads()
                 w __gmon_start__
0000000000000010 T baleen::isa_avx2::fill(baleen::isa_avx2::Args)
0000000000000000 W void baleen::isa_avx2::packRows<false>(long)
0000000000000000 W void baleen::parallelFor<baleen::isa_avx2::fill(baleen::isa_avx2::Args)::{lambda(long)#1}>(long)
0000000000000000 V DW.ref.__gxx_personality_v0
0000000000000000 W baleen::Args::view()
0000000000000000 W void baleen::isa_avx512::packRows<false>(long)
0000000000000000 u std::__detail::waiters
`;
    expect(strangers('avx2', symbols)).toEqual([
      'baleen::Args::view()',
      'void baleen::isa_avx512::packRows<false>(long)',
      'std::__detail::waiters',
    ]);
  });

  test('all stand in its namespace', (context) => {
    const missing = required && sets.length > 0 && process.platform === 'linux';
    if (reason !== null && !missing) context.skip(reason);
    expect(reason).toBeNull();
    for (const set of sets) {
      const symbols = symbolsOf(set);
      expect(symbols, set).toContain(` T baleen::isa_${set}::`);
      expect(strangers(set, symbols), set).toEqual([]);
    }
  });
});
