// The names of tensors in Hugging Face's checkpoints of `deepseek_v3`: of parameters and state, of scales, and which are copies
// or belong to multi-token prediction. Its configuration is in hugging-face.ts.
import type { ModelConfig } from './config';

const layerNames: Readonly<Partial<Record<string, string>>> = {
  'attention.norm.weight': 'input_layernorm.weight',
  'attention.query.weight': 'self_attn.q_proj.weight',
  'attention.queryDown.weight': 'self_attn.q_a_proj.weight',
  'attention.queryNorm.weight': 'self_attn.q_a_layernorm.weight',
  'attention.queryUp.weight': 'self_attn.q_b_proj.weight',
  'attention.kvDown.weight': 'self_attn.kv_a_proj_with_mqa.weight',
  'attention.kvNorm.weight': 'self_attn.kv_a_layernorm.weight',
  'attention.kvUp.weight': 'self_attn.kv_b_proj.weight',
  'attention.output.weight': 'self_attn.o_proj.weight',
  'feedForward.norm.weight': 'post_attention_layernorm.weight',
  'feedForward.gate.weight': 'mlp.gate_proj.weight',
  'feedForward.up.weight': 'mlp.up_proj.weight',
  'feedForward.down.weight': 'mlp.down_proj.weight',
  'feedForward.router.weight': 'mlp.gate.weight',
  'feedForward.router.bias': 'mlp.gate.e_score_correction_bias',
  'feedForward.shared.gate.weight': 'mlp.shared_experts.gate_proj.weight',
  'feedForward.shared.up.weight': 'mlp.shared_experts.up_proj.weight',
  'feedForward.shared.down.weight': 'mlp.shared_experts.down_proj.weight',
};

const depthNames: Readonly<Partial<Record<string, string>>> = {
  'embeddingNorm.weight': 'enorm.weight',
  'hiddenNorm.weight': 'hnorm.weight',
  'projection.weight': 'eh_proj.weight',
  'norm.weight': 'shared_head.norm.weight',
};

const topNames: Readonly<Partial<Record<string, string>>> = {
  'embedding.weight': 'model.embed_tokens.weight',
  'norm.weight': 'model.norm.weight',
  'head.weight': 'lm_head.weight',
};

/** A parameter's names in a checkpoint: one, or one an expert. */
export type CheckpointNames = string | ((expert: number) => string);

/**
 * The checkpoint's name of a parameter or state.
 * @param name - as the model's modules name it
 * @param layers - number of decoder layers; depths of multi-token prediction follow as further layers
 * @returns its name, or a function from expert to name where the model stacks experts
 * @throws `ERR_BALEEN_CHECKPOINT_NAME` where checkpoints have no such parameter
 */
export function checkpointNames(name: string, layers: number): CheckpointNames {
  const top = topNames[name];
  if (top !== undefined) return top;
  const match = /^(layers|mtp)\.(\d+)\.(.+)$/.exec(name);
  if (!match) throw nameless(name);
  const [, kind, number, rest = ''] = match;
  const prefix = `model.layers.${Number(number) + (kind === 'mtp' ? layers : 0)}.`;
  const depth = depthNames[rest];
  if (kind === 'mtp' && depth !== undefined) return prefix + depth;
  const part = rest.replace(/^block\./, '');
  const expert = /^feedForward\.experts\.(gate|up|down)\.weight$/.exec(part);
  if (expert) return (e) => `${prefix}mlp.experts.${e}.${expert[1]}_proj.weight`;
  const plain = layerNames[part];
  if (plain === undefined) throw nameless(name);
  return prefix + plain;
}

function nameless(name: string): Error {
  return Object.assign(new Error(`checkpoints have no name for the parameter ${name}`), {
    code: 'ERR_BALEEN_CHECKPOINT_NAME',
    path: name,
    hint: 'give a name as `parameters()` and `states()` of a Decoder list them',
  });
}

/** Copies of shared parameters in each depth of multi-token prediction, by the parameter's name in the model. */
const copyNames: Readonly<Partial<Record<string, string>>> = {
  'embedding.weight': 'embed_tokens.weight',
  'head.weight': 'shared_head.head.weight',
};

/**
 * Names of a parameter's copies: published checkpoints repeat embedding and head in every depth of multi-token prediction.
 * @param name - as the model's modules name it
 * @param config - the model
 * @returns one name a depth for embedding and head, none for any other
 */
export function sharedCopies(name: string, { layers, mtp }: ModelConfig): string[] {
  const copy = copyNames[name];
  if (copy === undefined) return [];
  return Array.from({ length: mtp.depth }, (_, k) => `model.layers.${layers + k}.${copy}`);
}

/**
 * Whether a checkpoint may hold a tensor that the model does not: the copies of shared parameters, also in depths beyond
 * the model's own.
 * @param name - the tensor's name
 * @param config - the model
 * @returns true for those copies
 */
export function isSharedCopy(name: string, config: ModelConfig): boolean {
  const match = /^model\.layers\.(\d+)\.(.+)$/.exec(name);
  if (!match || Number(match[1]) < config.layers) return false;
  return Object.values(copyNames).includes(match[2]);
}

/**
 * Whether a tensor belongs to multi-token prediction.
 * @param name - the tensor's name
 * @param layers - number of decoder layers
 * @returns true for layers beyond the last
 */
export function isMtpTensor(name: string, layers: number): boolean {
  const match = /^model\.layers\.(\d+)\./.exec(name);
  return match !== null && Number(match[1]) >= layers;
}

const scaleSuffix = '_scale_inv';

/**
 * The name of the scales of an FP8 weight. They are multipliers, whatever the name says.
 * @param name - the weight's name in the checkpoint
 * @returns the name beside it
 */
export function scaleName(name: string): string {
  return name + scaleSuffix;
}

/**
 * Which weight a tensor scales.
 * @param name - the tensor's name in the checkpoint
 * @returns the weight's name, or null where it is no tensor of scales
 */
export function scaledWeight(name: string): string | null {
  return name.endsWith(scaleSuffix) ? name.slice(0, -scaleSuffix.length) : null;
}

/**
 * Whether published checkpoints hold a weight in FP8: the linear layers of attention and feed-forward. Embedding, head,
 * norms, gate and the projection of multi-token prediction stay as they are (§3.3.1).
 * @param name - the weight's name in the checkpoint
 * @returns true for those
 */
export function isQuantizedWeight(name: string): boolean {
  return /\.(?:self_attn|mlp)\.(?:.+\.)?[a-z_]+_proj(?:_with_mqa)?\.weight$/.test(name);
}
