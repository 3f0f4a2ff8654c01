// What doctor looks for beside the kernels, in a folder of programs that say when they are run.
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { findToolchain } from '../src/machine';
import { temporaryFolder } from './helpers';

test.skipIf(process.platform === 'win32')(
  'programs are run where it matters that they work, else on Linux only compilers until one answers',
  async () => {
    const folder = temporaryFolder();
    const log = join(folder, 'log');
    const add = (name: string, script: string): void => {
      writeFileSync(join(folder, name), `#!/bin/sh\necho ${name} >> "${log}"\n${script}\n`);
      chmodSync(join(folder, name), 0o755);
    };
    const ran = (): string[] => {
      const names = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
      rmSync(log, { force: true });
      return names.sort();
    };
    add('c++', 'exit 1');
    add('g++', 'echo "g++ 12.2"; echo "no warranty"');
    add('make', 'echo "make 4.3"');
    add('python3', 'exit 127');
    writeFileSync(join(folder, 'clang++'), 'not a program');
    const env = { PATH: `/nowhere:${folder}` };
    const compilers = [{ name: 'g++', version: 'g++ 12.2' }];

    expect(await findToolchain(env, true)).toEqual({
      compilers,
      tools: [{ name: 'make', version: 'make 4.3' }],
      lacking: ['python3'],
    });
    expect(ran()).toEqual(['c++', 'g++', 'make', 'python3']);

    const quick = await findToolchain(env, false);
    expect(quick.compilers).toEqual(compilers);
    if (process.platform === 'linux') {
      expect(ran()).toEqual(['c++', 'g++']);
      expect(quick.tools.map(({ name }) => name)).toEqual(['make', 'python3']);
    }

    const named = await findToolchain({ ...env, CXX: join(folder, 'g++') }, false);
    expect(named.compilers[0]).toEqual({ name: join(folder, 'g++'), version: 'g++ 12.2' });
    expect(await findToolchain({ PATH: '/nowhere' }, false)).toEqual({
      compilers: [],
      tools: [],
      lacking: ['a C++20 compiler', 'make', 'python3'],
    });
  },
);
