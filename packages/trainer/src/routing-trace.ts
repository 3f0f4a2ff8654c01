// A routing trace of an evaluation: what the routers of all layers saw of a text, to be routed again without the model.
import type { Decoder } from '@baleen/model';
import type { Router, RoutingTrace, TraceBatch } from '@baleen/moe-router';

import type { TextDocument } from './data/index';
import type { RoutedBatch, RoutingWatcher } from './evaluate';

/** Scores that a trace holds at most: 1 GiB. */
const mostBytes = 2 ** 30;

/** Gathers a trace. Domains are the sources of the text. */
export class TraceRecorder implements RoutingWatcher {
  private readonly batches: TraceBatch[] = [];
  /** Of the layers: depths of multi-token prediction are not traced. */
  private readonly routers: Router[];
  private readonly domains: string[];
  private readonly domainOf: Int32Array;

  /**
   * @param model - whose routers it watches
   * @param documents - the text, as it is evaluated
   */
  constructor(
    private readonly model: Decoder,
    documents: readonly TextDocument[],
  ) {
    this.routers = model.layers.flatMap(({ router }) => router ?? []);
    const sources = documents.map(({ source, name }) => source ?? name);
    this.domains = [...new Set(sources)];
    this.domainOf = Int32Array.from(sources, (source) => this.domains.indexOf(source));
  }

  /**
   * Refuses a text whose trace would be too long.
   * @param tokens - tokens that every router will see
   * @throws `ERR_BALEEN_DATA_TRACE` for more than 1 GiB of scores
   */
  begin(tokens: number): void {
    const bytes = 4 * tokens * this.model.config.moe.routedExperts * this.routers.length;
    if (bytes > mostBytes)
      throw Object.assign(
        new Error(
          `a trace of ${tokens} tokens takes ${(bytes / 2 ** 30).toFixed(1)} GiB, 1 at most`,
        ),
        { code: 'ERR_BALEEN_DATA_TRACE', hint: 'trace less text: name some of it with --data' },
      );
  }

  /**
   * Takes what a router saw.
   * @param routed - see {@link RoutedBatch}
   */
  add({ batch, layer, scores, documents }: RoutedBatch): void {
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
    return {
      experts: routedExperts,
      layers: this.routers.length,
      choice: {
        ...{ expertsPerToken, groups, groupsPerToken },
        ...(groupBest !== undefined && { groupBest }),
      },
      bias: this.routers.map(({ bias }) => Float32Array.from(bias.readSync())),
      domains,
      batches,
    };
  }
}
