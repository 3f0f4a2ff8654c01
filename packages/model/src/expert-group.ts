// Expert parallelism: the routed experts of every layer are spread over a group of ranks, and tokens go to them and back between
// a layer's compute phases (§3.2.2).
//
// Numerics: the same bits as a single rank. Tokens go once a rank, as what the experts' products take (FP8 codes with their
// scales travel undecoded); results come back a row for each of a token's experts, in FP32, and the token's own rank weighs
// and sums them in the order of its choices, as a single rank does. Gradients take the same ways back. V3 sums on the experts'
// ranks first and sends BF16 (§3.3.3), which is fewer bytes and other bits; `transport: 'bf16'` sends the rows rounded.
//
// Legend: T tokens of this rank, K experts a token, L experts of this rank, R ranks.
import { type Communicator, ExpertExchange, type ExpertRoute, type ScaledRows } from '@baleen/comm';
import type { Fp8Recipe } from '@baleen/fp8';
import { formatOf, type Kernels } from '@baleen/kernels';
import {
  type Bundle,
  type BundleGrad,
  type CommunicationPhase,
  type Handle,
  type ParameterSlice,
  type Tape,
  type Tensor,
  type Value,
  writeTensor,
} from '@baleen/tensor';

import type { ModelConfig } from './config';

/** How routed experts are spread over ranks. */
export interface ExpertGroupOptions {
  /** The ranks that share the experts, as many neighbouring ones each. All make the model, and run its phases together. */
  communicator: Communicator;
  /** Devices of a node (default: all ranks): tokens then cross the slow link once a node. */
  devicesPerNode?: number;
  /** How results and gradients travel: FP32, which gives the bits of a single rank (default), or rounded to BF16. */
  transport?: 'fp32' | 'bf16';
  /**
   * Keep the weight gradients of each rank's tokens apart (`sourceGrads`), for sums in an order that no layout of ranks
   * changes: as many times their memory as there are ranks (default: they are added up).
   */
  bySource?: boolean;
}

/** The two phases that move data around a layer's experts. */
export interface ExpertPhases {
  /**
   * From `tokens` [T, hidden], `indices` [T, K] and `offsets` of this rank's choices to `sorted` rows of this rank's experts,
   * their `offsets` [L + 1] and `sourceOffsets` [L · R + 1].
   */
  dispatch: CommunicationPhase;
  /** From `y`, results of those rows, to `y` [T · K, hidden] by choice, and its order `rowOfSlot`. */
  combine: CommunicationPhase;
}

/** Rows of this rank's experts from several ranks, and their way back. */
export class ExpertGroup {
  /** Experts of this rank, L. */
  readonly experts: number;
  /** Where they lie among all. */
  readonly slice: ParameterSlice;
  /** Ranks, R. */
  readonly ranks: number;
  /** Tokens to experts and back. */
  readonly exchange: ExpertExchange;
  /** Whether weight gradients are kept apart by the rank that their tokens are from. */
  readonly bySource: boolean;
  private readonly transport: 'fp32' | 'bf16';
  private readonly k: number;
  private readonly hidden: number;

  /**
   * Collective: every rank of the group makes it.
   * @param kernels - the backend
   * @param config - the model
   * @param options - see {@link ExpertGroupOptions}
   */
  constructor(
    private readonly kernels: Kernels,
    { hiddenSize: hidden, moe }: ModelConfig,
    options: ExpertGroupOptions,
  ) {
    const { communicator, devicesPerNode, transport = 'fp32', bySource = false } = options;
    this.bySource = bySource;
    const { routedExperts: experts, expertsPerToken } = moe;
    const spec = {
      ...{ experts, expertsPerToken, hidden },
      ...(devicesPerNode !== undefined && { devicesPerNode }),
    };
    this.exchange = new ExpertExchange(communicator, spec, { kernels });
    this.experts = this.exchange.localExperts.length;
    this.ranks = communicator.size;
    this.slice = { of: experts, start: communicator.rank * this.experts };
    this.transport = transport;
    this.k = expertsPerToken;
    this.hidden = hidden;
  }

  /**
   * The two phases that move data around a layer's experts.
   * @param name - of the layer
   * @returns both
   */
  phases(name: string): ExpertPhases {
    // Of each run on its way: a run has a tape of its own.
    const routes = new WeakMap<Tape, ExpertRoute>();
    const routeOf = (tape: Tape): ExpertRoute => {
      const route = routes.get(tape);
      if (route) return route;
      throw Object.assign(new Error(`${name} was sent to no experts on this tape`), {
        code: 'ERR_BALEEN_MODEL_ORDER',
        hint: 'run the phases of a layer in their order',
      });
    };
    return {
      dispatch: {
        kind: 'communication',
        name: `${name}.dispatch exchange`,
        start: (tape, { tokens, indices, ...rest }) => {
          this.kernels.flush();
          const route = this.exchange.route((indices as Tensor).readSync() as Int32Array);
          routes.set(tape, route);
          return this.sendTokens(tape, tokens, route, rest);
        },
        startBackward: (tape, { sorted, ...rest }) =>
          this.returnRows(tape, sorted, routeOf(tape), (grad) => {
            // One row a choice becomes one a token, in the order of its choices.
            const { tokens } = routeOf(tape);
            const sum = tape.empty([tokens, this.hidden]);
            const { k, hidden: cols } = this;
            tape.kernels.unpermute(sum, grad, this.inOrder(tape, tokens), null, {
              tokens,
              k,
              cols,
            });
            return { ...rest, tokens: sum };
          }),
      },
      combine: {
        kind: 'communication',
        name: `${name}.combine exchange`,
        start: (tape, { y, ...rest }) =>
          this.returnRows(tape, y as Tensor, routeOf(tape), (rows) => ({
            ...rest,
            y: rows,
            rowOfSlot: this.inOrder(tape, routeOf(tape).tokens),
          })),
        startBackward: (tape, { y, ...rest }) => this.sendGradients(tape, y, routeOf(tape), rest),
      },
    };
  }

  /** Tokens to the experts' ranks, in whatever form these take them. */
  private sendTokens(tape: Tape, x: Value, route: ExpertRoute, rest: Bundle): Handle<Bundle> {
    const shape = [route.rows, this.hidden] as const;
    const offsets = tape.empty([route.offsets.length], 'i32');
    const sourceOffsets = tape.empty([route.sourceOffsets.length], 'i32');
    writeTensor(offsets, route.offsets);
    writeTensor(sourceOffsets, route.sourceOffsets);
    const out =
      'codes' in x
        ? tape.emptyScaled(shape, x.blockRows, x.blockCols, {
            dtype: formatOf(x),
            scaleFormat: x.scaleFormat,
          })
        : tape.empty(shape, x.dtype);
    const sent = this.exchange.start.dispatch(hostRows(x), route, { out: hostRows(out) });
    return {
      done: sent.done,
      wait: () => {
        sent.wait();
        return { ...rest, sorted: out, offsets, sourceOffsets };
      },
    };
  }

  /** Rows of the experts back to the tokens' ranks, one a choice. */
  private returnRows<T extends Bundle | BundleGrad>(
    tape: Tape,
    y: Tensor | undefined,
    route: ExpertRoute,
    then: (rows: Tensor) => T,
  ): Handle<T> {
    this.kernels.flush();
    // Where no gradient flows on this rank, others may still wait for it.
    const rows = y ?? tape.zeros([route.rows, this.hidden]);
    const out = tape.empty([route.tokens * this.k, this.hidden]);
    const sent = this.exchange.start.combine(rows.readSync() as Float32Array, route, {
      ...{ per: 'choice', transport: this.transport },
      out: out.readSync() as Float32Array,
    });
    return {
      done: sent.done,
      wait: () => {
        sent.wait();
        return then(out);
      },
    };
  }

  /** Gradients of the results to the experts' ranks, one a choice. */
  private sendGradients(
    tape: Tape,
    grad: Tensor | undefined,
    route: ExpertRoute,
    rest: BundleGrad,
  ): Handle<BundleGrad> {
    const dy = grad ?? tape.zeros([route.tokens * this.k, this.hidden]);
    const out = tape.empty([route.rows, this.hidden]);
    const rounded = this.transport === 'bf16';
    const shapes = [dy, out].map(({ shape }) => (rounded ? tape.empty(shape, 'bf16') : null));
    const [given, landed] = [shapes[0] ?? dy, shapes[1] ?? out];
    if (rounded) tape.kernels.cast(given, dy);
    this.kernels.flush();
    const sent = this.exchange.start.dispatch(hostRows(given), route, {
      ...{ per: 'choice', out: hostRows(landed) },
    });
    return {
      done: sent.done,
      wait: () => {
        sent.wait();
        if (rounded) tape.kernels.cast(out, landed);
        return { ...rest, y: out };
      },
    };
  }

  /** Rows that lie in the order of the choices already [T · K]. */
  private inOrder(tape: Tape, tokens: number): Tensor {
    const rows = tape.empty([tokens * this.k], 'i32');
    writeTensor(
      rows,
      Int32Array.from({ length: rows.size }, (_, row) => row),
    );
    return rows;
  }
}

/** The values of a tensor where they lie. */
function hostRows(x: Value): Float32Array | Uint16Array | Uint8Array | Int32Array | ScaledRows {
  return 'codes' in x
    ? { codes: x.codes.readSync() as Uint8Array, scales: x.scales.readSync() as Float32Array }
    : x.readSync();
}

/**
 * Refuses what experts that are spread over ranks cannot be.
 * @param config - the model
 * @param ranks - that share them
 * @param fp8 - the recipe
 */
export function checkGroup({ moe }: ModelConfig, ranks: number, fp8: Fp8Recipe | undefined): void {
  const refuse = (path: string, message: string, hint: string): never => {
    throw Object.assign(new Error(message), { code: 'ERR_BALEEN_CONFIG_VALUE', path, hint });
  };
  if (moe.routedExperts % ranks !== 0)
    refuse(
      'config.moe.routedExperts',
      `ranks (${ranks}) do not divide config.moe.routedExperts (${moe.routedExperts})`,
      'give every rank as many experts',
    );
  if (fp8?.gradients.block === '128x128')
    refuse(
      'fp8.gradients.block',
      'fp8.gradients.block (128x128) has blocks of 128 rows that would mix ranks',
      'take 1x128, or keep all experts on one rank',
    );
}
