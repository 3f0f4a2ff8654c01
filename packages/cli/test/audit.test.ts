// `baleen audit`: tables for people, one line for programs, and the exit code by what was found.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { AuditFinding, WeightAudit } from '@baleen/model';
import { exportCheckpoint, openWeights } from '@baleen/model/node';
import { openRun, type StepAudit } from '@baleen/trainer';
import { expect, test } from 'vitest';

import { cli, failure, json, smallFile, temporaryFolder } from './helpers';

interface Printed {
  kind: string;
  checkpoint: string;
  scaleFormat: string | null;
  weights: WeightAudit[];
  findings: AuditFinding[];
  seconds: number;
}

/** A run of a second, and its weights in FP8. */
async function trained(): Promise<{ run: string; exported: string }> {
  const folder = temporaryFolder();
  const run = join(folder, 'run');
  const { code, stderr } = await cli('train', '--config', smallFile(folder), '--out', run);
  expect(stderr).not.toContain('error');
  expect(code).toBe(0);
  const exported = join(folder, 'fp8');
  const { model } = await openRun(run);
  exportCheckpoint(exported, model, { dtype: 'F8_E4M3' });
  return { run, exported };
}

/** Changes the FP32 values of one tensor where it lies in its file. */
function change(folder: string, name: string, to: (value: number) => number): void {
  const entry = openWeights(folder).tensors.get(name);
  if (!entry) throw new Error(`no tensor ${name}`);
  const file = readFileSync(entry.file);
  for (let at = entry.start; at < entry.start + entry.bytes; at += 4)
    file.writeFloatLE(to(file.readFloatLE(at)), at);
  writeFileSync(entry.file, file);
}

test('a run, its export, one file of that, and an export that went wrong', async () => {
  const { run, exported } = await trained();
  const weight = 'model.layers.0.self_attn.o_proj.weight';

  const own = await json('audit', run);
  expect(own.code).toBe(0);
  const { weights, findings } = own.value as Printed;
  expect(findings).toEqual([]);
  expect(weights[0]).toMatchObject({
    dtype: 'F32',
    codes: { nonFinite: 0 },
    errors: { saturated: 0 },
  });

  const healthy = await json('audit', exported);
  expect(healthy.code).toBe(0);
  expect(Object.keys(healthy.value as object)).toEqual([
    ...['kind', 'checkpoint', 'scaleFormat', 'weights', 'findings', 'others', 'bytes', 'seconds'],
  ]);
  expect(healthy.value).toMatchObject({ kind: 'weights', scaleFormat: 'fp32', findings: [] });
  expect((healthy.value as Printed).weights.map(({ name }) => name)).toEqual(
    weights.map(({ name }) => name),
  );

  // One file alone, away from its config.json.
  const [{ file }] = weights;
  const alone = join(temporaryFolder(), 'alone.safetensors');
  copyFileSync(openWeights(exported).tensors.get(weight)?.file ?? file, alone);
  expect(await json('audit', alone)).toMatchObject({ code: 0, value: { scaleFormat: null } });

  const table = await cli('audit', exported);
  expect(table.code).toBe(0);
  for (const line of [
    /^ {2}weight +SQNR dB +zero % +subnormal % +scales: least +median +largest +spread$/m,
    /mlp\.experts\.\*\.gate_proj ×4 +[23]\d\.\d/,
    /2\^\d+\.\d +worst$/m,
    /and \d+ more: --all shows them/,
    /findings +none/,
  ])
    expect(table.stdout).toMatch(line);
  // Of weights that are not FP8 it is known what became zero or too large.
  expect((await cli('audit', run)).stdout).toMatch(
    /zero % +underflow % +subnormal % +saturated +scales: least/,
  );
  // The worst stands first.
  const ratios = [...table.stdout.matchAll(/^ {2}layers\S+(?: ×\d+)? +(\d+\.\d)/gm)].map(
    ([, ratio]) => Number(ratio),
  );
  expect(ratios.length).toBeGreaterThan(3);
  expect(ratios).toEqual([...ratios].sort((a, b) => a - b));
  expect((await cli('audit', exported, '--all')).stdout).not.toContain('--all shows them');

  change(exported, `${weight}_scale_inv`, (value) => 1 / value);
  const wrong = await json('audit', exported);
  expect(wrong.code).toBe(1);
  expect((wrong.value as Printed).findings).toMatchObject([
    { code: 'ERR_BALEEN_CHECKPOINT_SCALE', tensor: weight },
  ]);
  const told = await cli('audit', exported);
  expect(told.code).toBe(1);
  expect(told.stdout).toMatch(/^ {2}layers\.0\.self_attn\.o_proj .* finding$/m);
  expect(told.stdout).toMatch(/1 finding\n\n {2}ERR_BALEEN_CHECKPOINT_SCALE/);
  expect(told.stdout.replaceAll(/\s+/g, ' ')).toContain('store amax / 448');
}, 60_000);

test('--step: the operands of a step, of a run that stays as it is', async () => {
  const folder = temporaryFolder();
  const run = join(folder, 'run');
  const config = smallFile(folder, { precision: 'fp8' });
  expect((await cli('train', '--config', config, '--out', run)).code).toBe(0);
  const { code, value } = await json('audit', run, '--step');
  const { operands, findings, step } = value as StepAudit;
  expect(step).toBe(5);
  expect(code).toBe(findings.length === 0 ? 0 : 1);
  expect(new Set(operands.map(({ operand }) => operand))).toEqual(
    new Set(['activation', 'weight', 'gradient', 'kept']),
  );
  const { stdout } = await cli('audit', run, '--step', '--all');
  expect(stdout).toMatch(/^Audit of step 5 of /m);
  expect(stdout).toMatch(/^ {2}layers\.1\.feedForward\.experts\.down gradient +\d+\.\d /m);
  expect(stdout).toMatch(/^ {2}layers\.0\.attention\.output kept \(e5m6\) /m);
  const { model } = await openRun(run);
  const alone = join(folder, 'alone');
  exportCheckpoint(alone, model, { dtype: 'BF16' });
  expect(await failure('audit', alone, '--step')).toMatchObject({
    code: 'ERR_BALEEN_USAGE_TARGET',
    exit: 2,
  });
  expect((await failure('audit', 'tiny')).hint).toContain('baleen audit tiny --step');
}, 60_000);

test('what is not there or no checkpoint is an error', async () => {
  expect(await failure('audit', 'nowhere')).toMatchObject({
    code: 'ERR_BALEEN_CHECKPOINT_ABSENT',
    exit: 1,
  });
  const path = join(temporaryFolder(), 'short.safetensors');
  writeFileSync(path, 'abc');
  expect(await failure('audit', path)).toMatchObject({
    code: 'ERR_BALEEN_CHECKPOINT_CORRUPT',
    exit: 1,
  });
  expect(await failure('audit')).toMatchObject({ code: 'ERR_BALEEN_USAGE_ARGUMENT', exit: 2 });
  expect((await cli('audit', '--help')).stdout).toMatch(/\$ baleen audit runs\/tiny-1/);
});
