// Scores of multi-token prediction on held-out text: sums worked out by hand, and a model asked position by position.
import { referenceKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import { type Bundle, initialize, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { expect, test } from 'vitest';

import { DepthScores, listsOf } from '../src/depth-scores';
import { evaluate, makeTokenizer } from '../src/index';
import { smallRun, temporaryFolder } from './helpers';

test('a depth predicts the token k + 1 later, and agrees with what the main model says there', () => {
  // Two windows of four tokens; the second one's first token is context.
  const targets = Int32Array.of(11, 12, 13, 14, -1, 22, 23, 24);
  const document = Int32Array.of(0, 0, 0, 0, 1, 1, 1, 1);
  const documents = { inputs: document, targets: document };
  const batch = { sequences: 2, sequence: 4, ids: new Int32Array(8), targets, documents };
  const lists = listsOf(batch, 2);
  expect(lists.map((list) => [...list])).toEqual([
    [11, 12, 13, 14, -1, 22, 23, 24],
    [12, 13, 14, 22, 23, 24],
    [13, 14, 23, 24],
  ]);
  const main = [11, 9, 13, 9, 9, 22, 9, 24];
  const first = [12, 13, 9, 22, 9, 9];
  const second = [9, 14, 9, 9];
  const likeliest = Int32Array.from([...main, ...first, ...second]);
  const losses = Float32Array.from({ length: 18 }, (_, i) => i);
  const scores = new DepthScores(2);
  scores.add(batch, lists, { losses, likeliest });
  expect(scores.read()).toEqual([
    // Of 11 12 13 14 22 23 24 the first, third, fifth and last.
    { loss: (0 + 1 + 2 + 3 + 5 + 6 + 7) / 7, accuracy: 4 / 7, acceptance: 1, tokens: 7 },
    // 12 and 13 are right, of which the main model has 13; both say 9 where 14 and 23 are, and 22 where 22 is.
    { loss: (8 + 9 + 10 + 11 + 12 + 13) / 6, accuracy: 3 / 6, acceptance: 4 / 6, tokens: 6 },
    { loss: (14 + 15 + 16 + 17) / 4, accuracy: 1 / 4, acceptance: 1 / 4, tokens: 4 },
  ]);
  scores.add(batch, lists.slice(0, 1), { losses, likeliest });
  expect(scores.read().map(({ tokens }) => tokens)).toEqual([14, 6, 4]);
  expect(new DepthScores(1).read()[1]).toEqual({
    loss: null,
    accuracy: null,
    acceptance: null,
    tokens: 0,
  });
});

test('evaluation scores every depth, and the main model as it does alone', async () => {
  const kernels = referenceKernels();
  const config = smallRun(temporaryFolder()).model;
  const model = new Decoder(kernels, { ...config, vocabSize: 257, mtp: { depth: 2 } }, 'fp32');
  initialize(model, 0.3, 5);
  const tokenizer = await makeTokenizer({ kind: 'bytes' }, []);
  const documents = [
    { name: 'a', text: 'The whale!' },
    { name: 'b', text: 'No' },
    { name: 'c', text: 'I' },
  ];
  const { mtp, loss, accuracy, tokens } = await evaluate(model, tokenizer, documents);
  expect(tokens).toBe(10 + 2 + 1);
  expect(mtp.map((score) => score.tokens)).toEqual([9 + 1, 8]);

  // Document by document, each position's logits.
  const region = new Region(kernels, 'inputs');
  const sums = [0, 1, 2].map(() => ({ nats: 0, right: 0, agreed: 0 }));
  for (const { text } of documents) {
    const wanted = [...tokenizer.encode(text)];
    const ids = [tokenizer.documentEnd, ...wanted.slice(0, -1)];
    const depths = Math.min(2, ids.length - 1);
    const run = new Run(new Region(kernels, 'test'), { grad: false });
    let out: Bundle = { ids: tensorFrom(region, [1, ids.length], Int32Array.from(ids)) };
    const phases = model.lossPhases({ depths });
    phases.slice(0, -1).forEach((phase, p) => {
      out = run.forward(phase, p === 0 ? out : undefined);
    });
    const said = Array.from({ length: depths + 1 }, (_, k) => {
      const logits: number[][] = [];
      run.tape.scoped(() => {
        const all = model.logits(run.tape, out[`out${k}`] as Tensor).readSync();
        for (let i = 0; i < all.length; i += 257) logits.push([...all.slice(i, i + 257)]);
        return [];
      });
      return logits;
    });
    run.finish();
    const top = (row: number[]): number => row.indexOf(Math.max(...row));
    said.forEach((rows, k) => {
      expect(rows).toHaveLength(wanted.length - k);
      rows.forEach((row, i) => {
        const token = wanted[i + k];
        const total = row.reduce((sum, logit) => sum + Math.exp(logit), 0);
        sums[k].nats += Math.log(total) - row[token];
        sums[k].right += top(row) === token ? 1 : 0;
        sums[k].agreed += top(row) === top(said[0][i + k]) ? 1 : 0;
      });
    });
  }
  expect(loss).toBeCloseTo(sums[0].nats / 13, 5);
  expect(accuracy).toBe(sums[0].right / 13);
  mtp.forEach((score, k) => {
    const { nats, right, agreed } = sums[k + 1];
    expect(score.loss).toBeCloseTo(nats / score.tokens, 5);
    expect(score.accuracy).toBe(right / score.tokens);
    expect(score.acceptance).toBe(agreed / score.tokens);
  });
});
