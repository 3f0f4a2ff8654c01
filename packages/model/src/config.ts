// The model's configuration, and the check that it can exist.
import { type YarnConfig, yarnFault } from '@baleen/mla';

/** Attention's sizes (§2.1.1). */
export interface AttentionConfig {
  /** Heads (n_h). */
  heads: number;
  /** Width of a head without position (d_h). */
  nopeDim: number;
  /** Width of a head's rotary part (d_h^R), even. */
  ropeDim: number;
  /** Width of a head's value. */
  valueDim: number;
  /** Rank of the query's latent (d_c'), or null for none. */
  queryRank: number | null;
  /** Rank of the latent of keys and values (d_c). */
  kvRank: number;
  /** Base of the rotary frequencies. */
  ropeTheta: number;
  /** Context extension where `maxSequence` exceeds its `originalMaxSequence`, or null. */
  yarn: YarnConfig | null;
}

/** The experts (§2.1.2). */
export interface MoeConfig {
  /** Routed experts (N_r). */
  routedExperts: number;
  /** Shared experts (N_s), run as one of that many times the width. */
  sharedExperts: number;
  /** Experts a token is sent to (K_r). */
  expertsPerToken: number;
  /** Groups (nodes) of experts. */
  groups: number;
  /** Groups a token may reach (M). */
  groupsPerToken: number;
  /** How many of a group's best make its score (default 2: V3's K_r / M, and what its published code takes; 1 in V2). */
  groupBest?: number;
  /** How logits become scores: V3's sigmoid (default) or V2's softmax. */
  gate?: 'sigmoid' | 'softmax';
  /** Width of an expert. */
  intermediateSize: number;
  /** Factor on gate weights. */
  routedScaling: number;
  /** Gate weights are divided by their sum. */
  normalizeGates: boolean;
}

/** A DeepSeek-V3-style decoder. */
export interface ModelConfig {
  /** Tokens. */
  vocabSize: number;
  /** Width of the stream. */
  hiddenSize: number;
  /** Decoder layers. */
  layers: number;
  /** How many of them, from the first, have a dense feed-forward. */
  denseLayers: number;
  /** Width of the dense feed-forward. */
  intermediateSize: number;
  /** Longest sequence. */
  maxSequence: number;
  /** ε of all norms. */
  normEps: number;
  /** Standard deviation of initial weights. */
  initStd: number;
  /** Attention. */
  attention: AttentionConfig;
  /** Experts. */
  moe: MoeConfig;
  /** Multi-token prediction (§2.2). */
  mtp: {
    /** Depths (D), 0 for none. */
    depth: number;
  };
}

function refuse(what: string, path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: `ERR_BALEEN_CONFIG_${what}`, path, hint });
}

/**
 * Refuses configurations that cannot exist, naming the key, its value and the remedy.
 * @param config - the configuration
 * @param path - what it is called in messages
 */
export function checkConfig(config: ModelConfig, path = 'config'): void {
  const whole = (key: string, value: number, least: number): void => {
    if (!Number.isSafeInteger(value) || value < least)
      refuse(
        'VALUE',
        `${path}.${key}`,
        `${path}.${key} (${value}) is not a whole number from ${least} up`,
        `set it to ${least} or more`,
      );
  };
  const positive = (key: string, value: number): void => {
    if (!(value > 0) || !Number.isFinite(value))
      refuse(
        'VALUE',
        `${path}.${key}`,
        `${path}.${key} (${value}) is not a positive number`,
        'set it above 0',
      );
  };
  for (const key of [
    'vocabSize',
    'hiddenSize',
    'layers',
    'intermediateSize',
    'maxSequence',
  ] as const)
    whole(key, config[key], 1);
  whole('denseLayers', config.denseLayers, 0);
  positive('normEps', config.normEps);
  positive('initStd', config.initStd);
  const { attention, moe, mtp } = config;
  for (const key of ['heads', 'nopeDim', 'ropeDim', 'valueDim', 'kvRank'] as const)
    whole(`attention.${key}`, attention[key], 1);
  if (attention.queryRank !== null) whole('attention.queryRank', attention.queryRank, 1);
  if (!(attention.ropeTheta > 1) || !Number.isFinite(attention.ropeTheta))
    refuse(
      'ROPE',
      `${path}.attention.ropeTheta`,
      `${path}.attention.ropeTheta (${attention.ropeTheta}) is not a number above 1: rotary frequencies would not fall`,
      'V3 has 10000',
    );
  if (attention.ropeDim % 2 !== 0)
    refuse(
      'ROPE',
      `${path}.attention.ropeDim`,
      `${path}.attention.ropeDim (${attention.ropeDim}) is odd, but rotary dimensions come in pairs`,
      'choose an even width',
    );
  const { yarn } = attention;
  const fault = yarn && yarnFault(yarn);
  if (fault) {
    const key = `${path}.attention.yarn.${fault.key}`;
    refuse('VALUE', key, `${key} (${yarn[fault.key]}) is ${fault.is}`, fault.hint);
  }
  if (config.denseLayers > config.layers)
    refuse(
      'LAYERS',
      `${path}.denseLayers`,
      `${path}.denseLayers (${config.denseLayers}) exceeds ${path}.layers (${config.layers})`,
      'lower it, or add layers',
    );
  whole('mtp.depth', mtp.depth, 0);
  for (const key of [
    'routedExperts',
    'expertsPerToken',
    'groups',
    'groupsPerToken',
    'intermediateSize',
  ] as const)
    whole(`moe.${key}`, moe[key], 1);
  whole('moe.sharedExperts', moe.sharedExperts, 0);
  whole('moe.groupBest', moe.groupBest ?? 2, 1);
  const { gate = 'sigmoid' } = moe;
  if (!['sigmoid', 'softmax'].includes(gate))
    refuse(
      'VALUE',
      `${path}.moe.gate`,
      `${path}.moe.gate (${JSON.stringify(gate)}) is neither sigmoid nor softmax`,
      'V3 has a sigmoid, V2 a softmax',
    );
  positive('moe.routedScaling', moe.routedScaling);
  const { routedExperts, expertsPerToken, groups, groupsPerToken } = moe;
  if (expertsPerToken > routedExperts)
    refuse(
      'TOP_K',
      `${path}.moe.expertsPerToken`,
      `${path}.moe.expertsPerToken (${expertsPerToken}) exceeds ${path}.moe.routedExperts (${routedExperts})`,
      'lower it, or add experts',
    );
  if (routedExperts % groups !== 0)
    refuse(
      'GROUPS',
      `${path}.moe.groups`,
      `${path}.moe.groups (${groups}) does not divide ${path}.moe.routedExperts (${routedExperts})`,
      'choose a divisor',
    );
  if (groupsPerToken > groups)
    refuse(
      'GROUPS',
      `${path}.moe.groupsPerToken`,
      `${path}.moe.groupsPerToken (${groupsPerToken}) exceeds ${path}.moe.groups (${groups})`,
      'keep at most all groups',
    );
  const reachable = (routedExperts / groups) * groupsPerToken;
  if (expertsPerToken > reachable)
    refuse(
      'TOP_K',
      `${path}.moe.expertsPerToken`,
      `${path}.moe.expertsPerToken (${expertsPerToken}) exceeds the ${reachable} experts in ${path}.moe.groupsPerToken (${groupsPerToken}) groups`,
      'lower it, or keep more groups',
    );
}
