// One depth of multi-token prediction (§2.2): the previous depth's hidden state and the embedding of a later token are
// normed, joined and projected; a decoder block of its own and a norm follow. Embedding and head are the main model's.
import {
  concatColumns,
  type Linear,
  type LinearFactory,
  Module,
  Parameter,
  type Pools,
  rmsNorm,
  sliceSequences,
  type Tape,
  type Tensor,
} from '@baleen/tensor';

/** What a depth is made of. */
export interface MtpSpec {
  /** Width of the stream. */
  hidden: number;
  /** ε of the norms. */
  normEps: number;
}

/** The parts of depth k around its decoder block. */
export class MtpDepth<Block extends Module = Module> extends Module {
  private readonly embeddingNorm: Parameter;
  private readonly hiddenNorm: Parameter;
  private readonly projection: Linear<'projection'>;
  private readonly norm: Parameter;

  /**
   * @param pools - where weights live
   * @param depth - k, from 1
   * @param spec - see {@link MtpSpec}
   * @param block - its decoder block, any module
   * @param factory - makes the projection
   */
  constructor(
    pools: Pools,
    /** k, from 1. */
    readonly depth: number,
    private readonly spec: MtpSpec,
    /** Its decoder block. */
    readonly block: Block,
    factory: LinearFactory,
  ) {
    super();
    const { hidden } = spec;
    const ones = (): Parameter => new Parameter(pools, [hidden], { init: 'ones' });
    this.embeddingNorm = this.parameter('embeddingNorm.weight', ones());
    this.hiddenNorm = this.parameter('hiddenNorm.weight', ones());
    this.projection = this.child(
      '',
      factory.linear(pools, { in: 2 * hidden, outs: { projection: hidden } }),
    );
    this.child('block', block);
    this.norm = this.parameter('norm.weight', ones());
  }

  /**
   * The block's input: position i joins the embedding of token i + k with the hidden state of position i. Sequences
   * become shorter by one token a depth; rotary positions stay i.
   * @param tape - the tape
   * @param hidden - [batch · (length − k + 1), hidden]: the main model's normed output for k = 1, else depth k − 1's
   * @param embedded - [batch · length, hidden], the main model's embeddings
   * @param batch - sequences
   * @returns [batch, length − k, hidden]
   */
  join(tape: Tape, hidden: Tensor, embedded: Tensor, batch: number): Tensor {
    const { depth } = this;
    const rows = (x: Tensor): Tensor => x.reshape([x.size / this.spec.hidden, this.spec.hidden]);
    const length = embedded.size / this.spec.hidden / batch;
    const count = length - depth;
    if (count < 1)
      throw Object.assign(
        new Error(
          `sequences of ${length} are too short for depth ${depth} of multi-token prediction`,
        ),
        { code: 'ERR_BALEEN_MTP_SEQUENCE', hint: 'use longer sequences or a smaller depth' },
      );
    const later = sliceSequences(tape, rows(embedded), batch, depth, count);
    const earlier = sliceSequences(tape, rows(hidden), batch, 0, count);
    return this.joinRows(tape, earlier, later).reshape([batch, count, this.spec.hidden]);
  }

  /**
   * The same where each row's tokens are told: of any positions, of any sequences.
   * @param tape - the tape
   * @param hidden - [rows, hidden], hidden states of positions i
   * @param embedded - [rows, hidden], embeddings of tokens i + k
   * @returns [rows, hidden]
   */
  joinRows(tape: Tape, hidden: Tensor, embedded: Tensor): Tensor {
    const { normEps } = this.spec;
    // The embedding comes first, as in the published weights (the paper's eq. 21 writes it second).
    const joined = concatColumns(tape, [
      rmsNorm(tape, embedded, this.embeddingNorm, normEps),
      rmsNorm(tape, hidden, this.hiddenNorm, normEps),
    ]);
    return this.projection.forward(tape, joined).projection;
  }

  /**
   * What the shared head reads.
   * @param tape - the tape
   * @param hidden - the block's output
   * @returns the same, normed
   */
  normed(tape: Tape, hidden: Tensor): Tensor {
    return rmsNorm(tape, hidden, this.norm, this.spec.normEps);
  }
}
