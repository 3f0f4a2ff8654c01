// A routing trace of an evaluation: what the routers of all layers saw of a text, to be routed again without the model.
import type { Decoder } from '@baleen/model';
import type { RoutingTrace, TraceBatch } from '@baleen/moe-router';

import type { TextDocument } from './data/index';
import type { RoutedBatch } from './evaluate';

/** Scores that a trace holds at most: 1 GiB. */
const mostBytes = 2 ** 30;

/** Gathers a trace. Domains are the sources of the text. */
export class TraceRecorder {
  private readonly batches: TraceBatch[] = [];
  private readonly domains: string[];
  private readonly domainOf: Int32Array;
  private bytes = 0;

  /**
   * @param model - whose routers it watches
   * @param documents - the text, as it is evaluated
   */
  constructor(
    private readonly model: Decoder,
    documents: readonly TextDocument[],
  ) {
    const sources = documents.map(({ source, name }) => source ?? name);
    this.domains = [...new Set(sources)];
    this.domainOf = Int32Array.from(sources, (source) => this.domains.indexOf(source));
  }

  /**
   * Takes what a router saw: for the evaluation's `onRouting`.
   * @param routed - see {@link RoutedBatch}
   * @throws `ERR_BALEEN_DATA_TRACE` where the trace grows beyond 1 GiB
   */
  add({ batch, layer, scores, documents }: RoutedBatch): void {
    this.bytes += scores.byteLength;
    if (this.bytes > mostBytes)
      throw Object.assign(new Error('the routing trace exceeds 1 GiB'), {
        code: 'ERR_BALEEN_DATA_TRACE',
        hint: 'trace less text',
      });
    const domains = documents.map((document) => this.domainOf[document]);
    this.batches.push({ step: batch + 1, layer, scores, domains });
  }

  /**
   * What came together.
   * @returns the trace; batches are its steps
   */
  trace(): RoutingTrace {
    const { model, batches, domains } = this;
    const { routedExperts, expertsPerToken, groups, groupsPerToken, groupBest } = model.config.moe;
    const biases = model.layers.flatMap(({ router }) => (router ? [router.bias.readSync()] : []));
    return {
      experts: routedExperts,
      layers: biases.length,
      choice: {
        ...{ expertsPerToken, groups, groupsPerToken },
        ...(groupBest !== undefined && { groupBest }),
      },
      bias: biases.map((bias) => Float32Array.from(bias)),
      domains,
      batches,
    };
  }
}
