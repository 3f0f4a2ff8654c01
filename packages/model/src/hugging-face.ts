// Hugging Face's config.json of `deepseek_v3`, and of `deepseek_v2` where the gate is a softmax, in both directions. Names of
// tensors are in hugging-face-names.ts; both stand nowhere else.
import { type YarnConfig, yarnBeyond } from '@baleen/mla';

import type { ModelConfig } from './config';

/** A parsed config.json. */
export type HuggingFaceConfig = Record<string, unknown>;

/**
 * How the FP8 weights of a checkpoint are scaled. Their codes are E4M3 in blocks of 128×128 (§3.3.2), and a weight is
 * code · scale of its block.
 */
export interface WeightQuantization {
  /** Scales are any FP32 value, or powers of two only (`ue8m0`, since DeepSeek-V3.1). */
  scaleFormat: 'fp32' | 'powerOfTwo';
}

function refuse(path: string, message: string, hint: string): never {
  throw Object.assign(new Error(message), { code: 'ERR_BALEEN_CHECKPOINT_CONFIG', path, hint });
}

/**
 * Reads a `deepseek_v3` or `deepseek_v2` configuration.
 * @param json - config.json
 * @returns the model's configuration
 */
export function configFromHuggingFace(json: HuggingFaceConfig): ModelConfig {
  if (!isObject(json))
    refuse('config.json', 'config.json holds no JSON object', 'take it from its source again');
  const supported = (key: string, allowed: readonly unknown[], hint: string): void => {
    checkSupported(json, 'config.json', key, allowed, hint);
  };
  supported(
    'model_type',
    ['deepseek_v3', 'deepseek_v2'],
    'only deepseek_v3 and deepseek_v2 checkpoints can be read',
  );
  supported('scoring_func', ['sigmoid', 'softmax'], 'gates are sigmoid or softmax');
  supported(
    'topk_method',
    ['noaux_tc', 'group_limited_greedy', 'greedy'],
    'V3 chooses experts by noaux_tc, V2 by greedy or group_limited_greedy',
  );
  supported('hidden_act', ['silu'], 'V3 activates with SiLU');
  supported('tie_word_embeddings', [false], 'V3 keeps embedding and head apart');
  supported('moe_layer_freq', [1], 'V3 has experts in every layer after the dense ones');
  supported('attention_bias', [false], 'V3 has no attention biases');
  quantizationFromHuggingFace(json);
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value))
      refuse(
        `config.json.${key}`,
        `config.json.${key} (${JSON.stringify(json[key])}) is not a number`,
        'add it',
      );
    return value;
  };
  const { theta, yarn } = ropeOf(json, number('rope_theta', 10000));
  return {
    vocabSize: number('vocab_size'),
    hiddenSize: number('hidden_size'),
    layers: number('num_hidden_layers'),
    denseLayers: number('first_k_dense_replace', 0),
    intermediateSize: number('intermediate_size'),
    maxSequence: number('max_position_embeddings'),
    normEps: number('rms_norm_eps', 1e-6),
    initStd: number('initializer_range', 0.02),
    attention: {
      heads: number('num_attention_heads'),
      nopeDim: number('qk_nope_head_dim'),
      ropeDim: number('qk_rope_head_dim'),
      valueDim: number('v_head_dim'),
      queryRank: json.q_lora_rank ? number('q_lora_rank') : null,
      kvRank: number('kv_lora_rank'),
      ropeTheta: theta,
      yarn,
    },
    moe: {
      routedExperts: number('n_routed_experts'),
      sharedExperts: number('n_shared_experts', 0),
      expertsPerToken: number('num_experts_per_tok'),
      ...choiceFromHuggingFace(json, number),
      intermediateSize: number('moe_intermediate_size'),
      routedScaling: number('routed_scaling_factor', 1),
      normalizeGates: json.norm_topk_prob !== false,
    },
    mtp: { depth: number('num_nextn_predict_layers', 0) },
  };
}

/**
 * Gate and groups. `greedy` knows no groups; `group_limited_greedy` ranks them by their best expert; `noaux_tc` by their two
 * best, and adds the biases.
 */
function choiceFromHuggingFace(
  json: HuggingFaceConfig,
  number: (key: string, fallback?: number) => number,
): Pick<ModelConfig['moe'], 'gate' | 'groups' | 'groupsPerToken' | 'groupBest'> {
  const v2 = json.model_type === 'deepseek_v2';
  const gate = json.scoring_func ?? (v2 ? 'softmax' : 'sigmoid');
  const method = json.topk_method ?? (v2 ? 'greedy' : 'noaux_tc');
  const greedy = method === 'greedy';
  const groupBest = number(groupBestKey, method === 'noaux_tc' ? 2 : 1);
  return {
    groups: greedy ? 1 : number('n_group', 1),
    groupsPerToken: greedy ? 1 : number('topk_group', 1),
    ...(groupBest === 2 ? {} : { groupBest }),
    ...(gate === 'softmax' ? { gate } : {}),
  };
}

/** A key of our own, for models whose groups are ranked as no `topk_method` does. */
const groupBestKey = 'group_score_experts';

/** The methods that choose as a model does, and what they leave out. */
function choiceToHuggingFace({ gate = 'sigmoid', groupBest = 2 }: ModelConfig['moe']): object {
  return {
    scoring_func: gate,
    topk_method: groupBest === 1 ? 'group_limited_greedy' : 'noaux_tc',
    ...(groupBest > 2 ? { [groupBestKey]: groupBest } : {}),
  };
}

/**
 * Reads how a checkpoint's weights are quantised.
 * @param json - config.json
 * @returns what `loadWeights` needs to know, or null where nothing is quantised
 * @throws `ERR_BALEEN_CHECKPOINT_CONFIG` for anything but DeepSeek-V3's layout
 */
export function quantizationFromHuggingFace(json: HuggingFaceConfig): WeightQuantization | null {
  const given = json.quantization_config ?? null;
  if (given === null) return null;
  const path = 'config.json.quantization_config';
  if (!isObject(given))
    refuse(path, `${path} (${JSON.stringify(given)}) is not an object`, 'take it from its source');
  const supported = (key: string, allowed: readonly unknown[], hint: string): void => {
    checkSupported(given, path, key, allowed, hint);
  };
  const convert = 'convert the checkpoint to BF16 or F32 first';
  if (given.quant_method !== 'fp8')
    refuse(
      `${path}.quant_method`,
      `${path}.quant_method (${JSON.stringify(given.quant_method)}) is not supported`,
      `fp8 is; ${convert}`,
    );
  supported('fmt', ['e4m3'], `E4M3 is; ${convert}`);
  supported('activation_scheme', ['dynamic'], `V3 scales activations as they come; ${convert}`);
  supported('scale_fmt', ['ue8m0'], 'leave it out for FP32 scales; ue8m0 is powers of two');
  if (JSON.stringify(given.weight_block_size) !== JSON.stringify(weightBlock))
    refuse(
      `${path}.weight_block_size`,
      `${path}.weight_block_size (${JSON.stringify(given.weight_block_size)}) is not supported`,
      `V3's blocks are [${weightBlock.join(', ')}]; ${convert}`,
    );
  return { scaleFormat: given.scale_fmt === 'ue8m0' ? 'powerOfTwo' : 'fp32' };
}

/** Rows and columns of a weight's block. */
const weightBlock = [128, 128] as const;

/** Refuses a key that is there with another value than those allowed. */
function checkSupported(
  json: HuggingFaceConfig,
  path: string,
  key: string,
  allowed: readonly unknown[],
  hint: string,
): void {
  const value = json[key];
  if (value !== undefined && value !== null && !allowed.includes(value))
    refuse(`${path}.${key}`, `${path}.${key} (${JSON.stringify(value)}) is not supported`, hint);
}

function isObject(value: unknown): value is HuggingFaceConfig {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function ropeOf(
  json: HuggingFaceConfig,
  theta: number,
): { theta: number; yarn: YarnConfig | null } {
  const scaling = json.rope_parameters ?? json.rope_scaling ?? null;
  if (scaling === null) return { theta, yarn: null };
  if (!isObject(scaling))
    refuse(
      'config.json.rope_scaling',
      `config.json.rope_scaling (${JSON.stringify(scaling)}) is not an object`,
      'take config.json from its source again',
    );
  const base = typeof scaling.rope_theta === 'number' ? scaling.rope_theta : theta;
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  if (type === 'default') return { theta: base, yarn: null };
  if (type !== 'yarn')
    refuse(
      'config.json.rope_scaling.type',
      `config.json.rope_scaling.type (${JSON.stringify(type)}) is not supported`,
      'only yarn is',
    );
  const value = (key: string, fallback: number): number => {
    const given = scaling[key] ?? fallback;
    if (typeof given !== 'number')
      refuse(
        `config.json.rope_scaling.${key}`,
        `config.json.rope_scaling.${key} is not a number`,
        'mend it',
      );
    return given;
  };
  const originalMaxSequence = value('original_max_position_embeddings', 4096);
  const longest = Number(json.max_position_embeddings);
  const factor = value('factor', longest / originalMaxSequence);
  const yarn: YarnConfig = {
    factor,
    originalMaxSequence,
    betaFast: value('beta_fast', 32),
    betaSlow: value('beta_slow', 1),
    mscale: value('mscale', 1),
    mscaleAllDim: value('mscale_all_dim', 0),
  };
  // A factor of 1 changes nothing.
  return { theta: base, yarn: factor === 1 ? null : yarn };
}

/**
 * Writes a configuration: `deepseek_v3`, or `deepseek_v2` where the gate is a softmax, which other readers of V3 do not
 * know. V2 has no router biases: other readers leave out those that training made.
 * @param config - the model's configuration
 * @param dtype - of the weights beside it, where they are not quantised
 * @param quantization - how the others are, or null
 * @returns config.json
 */
export function configToHuggingFace(
  config: ModelConfig,
  dtype: 'float32' | 'bfloat16' = 'float32',
  quantization: WeightQuantization | null = null,
): HuggingFaceConfig {
  const { attention, moe, mtp } = config;
  // Other readers use YaRN wherever it is named, however short the longest sequence is.
  const yarn = yarnBeyond(attention.yarn, config.maxSequence);
  return {
    architectures: [moe.gate === 'softmax' ? 'DeepseekV2ForCausalLM' : 'DeepseekV3ForCausalLM'],
    model_type: moe.gate === 'softmax' ? 'deepseek_v2' : 'deepseek_v3',
    torch_dtype: dtype,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    moe_intermediate_size: moe.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: attention.heads,
    num_key_value_heads: attention.heads,
    n_shared_experts: moe.sharedExperts,
    n_routed_experts: moe.routedExperts,
    routed_scaling_factor: moe.routedScaling,
    kv_lora_rank: attention.kvRank,
    q_lora_rank: attention.queryRank,
    qk_rope_head_dim: attention.ropeDim,
    qk_nope_head_dim: attention.nopeDim,
    v_head_dim: attention.valueDim,
    n_group: moe.groups,
    topk_group: moe.groupsPerToken,
    num_experts_per_tok: moe.expertsPerToken,
    first_k_dense_replace: config.denseLayers,
    moe_layer_freq: 1,
    norm_topk_prob: moe.normalizeGates,
    ...choiceToHuggingFace(moe),
    hidden_act: 'silu',
    max_position_embeddings: config.maxSequence,
    rms_norm_eps: config.normEps,
    initializer_range: config.initStd,
    rope_theta: attention.ropeTheta,
    rope_scaling: yarn && {
      type: 'yarn',
      factor: yarn.factor,
      beta_fast: yarn.betaFast,
      beta_slow: yarn.betaSlow,
      mscale: yarn.mscale,
      mscale_all_dim: yarn.mscaleAllDim,
      original_max_position_embeddings: yarn.originalMaxSequence,
    },
    attention_bias: false,
    attention_dropout: 0,
    tie_word_embeddings: false,
    use_cache: true,
    num_nextn_predict_layers: mtp.depth,
    ...(quantization && {
      quantization_config: {
        quant_method: 'fp8',
        fmt: 'e4m3',
        activation_scheme: 'dynamic',
        weight_block_size: [...weightBlock],
        ...(quantization.scaleFormat === 'powerOfTwo' && { scale_fmt: 'ue8m0' }),
      },
    }),
  };
}

/**
 * A configuration as text. Readers in Python tell 1 from 1.0, and refuse an integer where they declare a floating-point number.
 * @param config - config.json
 * @returns the file's text
 */
export function configText(config: HuggingFaceConfig): string {
  const keys = 'routed_scaling_factor|attention_dropout|initializer_range|rms_norm_eps';
  const whole = new RegExp(`^( *"(?:${keys})": -?\\d+)(?=,?$)`, 'gm');
  return `${JSON.stringify(config, null, 2).replace(whole, '$1.0')}\n`;
}
