// docs/configuration.md, made from the configuration's schema and the presets.
import { configKeys, presetDescriptions, presets } from '../packages/trainer/src/index';

const columns = ['tiny', 'small', 'base', 'v3-671b'] as const;

const sections: Readonly<Record<string, string>> = {
  model: 'The model',
  data: 'Text and tokens',
  run: 'The run',
  fp8: 'FP8',
  batch: 'Batches',
  optimizer: 'AdamW',
  schedule: 'Schedules',
  balance: 'Balance of experts',
  evaluation: 'Evaluation',
  checkpoint: 'Checkpoints',
  layout: 'Ranks',
};

const opening = `# Configuration

A run is one object, checked before anything else happens. Every key below works in three places:

- in a file, JSON or YAML, with only the keys you change: \`baleen train --config mine.yaml\`;
- as a flag by its dotted name: \`--model.moe.routedExperts 16\` (lists as \`a,b\`, \`null\` for none);
- in code, as a field of the object that \`train()\` of \`@baleen/trainer\` takes.

A flag wins over the file, the file over the preset. \`config.json\` of a run folder holds the result, and where each value
came from. Shares are shares of the run's tokens unless their row says otherwise, so a longer run keeps the schedule's shape.

This page is written from the schema by \`npx -y pnpm@12 docs:configuration\`; a test keeps it true.
`;

/** The value under a dotted key. */
function valueOf(config: unknown, key: string): unknown {
  return key
    .split('.')
    .reduce<unknown>(
      (value, name) => (value as Readonly<Record<string, unknown>> | null)?.[name],
      config,
    );
}

/** A value as a cell of the table: lists one item a line, pieces of a schedule as `share at rate`. */
function shown(value: unknown): string {
  if (value === undefined) return '';
  if (Array.isArray(value)) return value.map(shown).join('<br>');
  if (typeof value === 'number')
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return 'rate' in value ? Object.values(value).map(shown).join(' at ') : 'below';
}

/** What a section's keys have in common. */
const notes: Readonly<Record<string, string>> = {
  layout:
    'Every rank takes some of a step’s micro-batches; a preset’s micro-batch shrinks so that all get some. Under mpirun or srun `layout.ranks` is what was started. See [ranks](ranks.md).',
  fp8: 'The recipe of precision `fp8`; with any other, values that are not V3’s are refused.',
  balance:
    'γ and α are part of the schedules: `schedule.biasSpeed.speed` 0 turns the biases off, `schedule.balanceFactor` 0 the loss.',
};

/** The page, as Markdown. */
export function configurationPage(): string {
  const configs = columns.map((name) => presets[name]());
  const lines = [opening, '## Presets', '', '| preset | |', '| --- | --- |'];
  for (const [name, text] of Object.entries(presetDescriptions))
    lines.push(`| \`${name}\` | ${text} |`);
  for (const [section, title] of Object.entries(sections)) {
    lines.push('', `## ${title}`, '');
    if (section in notes) lines.push(notes[section], '');
    lines.push(`| key | | takes | ${columns.map((name) => `\`${name}\``).join(' | ')} |`);
    lines.push(`| --- | --- | --- | ${columns.map(() => '---').join(' | ')} |`);
    for (const { key, description, takes } of configKeys()) {
      const [first, ...rest] = key.split('.');
      if ((rest.length > 0 ? first : 'run') !== section) continue;
      const values = configs.map((config) => shown(valueOf(config, key)));
      lines.push(`| \`${key}\` | ${description} | ${takes} | ${values.join(' | ')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}
