// The door of this folder: text, tokenizers, packing, evaluation windows, baselines.
export { documentBytes, loadDocuments, type TextDocument } from './documents';
export { type NgramBaseline, ngramBaselines } from './ngram';
export { Packer, type PackerOptions, type PackerState, type TokenBatch } from './packer';
export { type DocumentSplit, splitDocuments } from './split';
export {
  makeTokenizer,
  type TokenDecoder,
  type Tokenizer,
  type TokenizerSpec,
} from './tokenizer';
export { loadTokenizer, saveTokenizer } from './tokenizer-file';
export {
  heldOutWindows,
  someWindows,
  type TokenWindow,
  type WindowOptions,
  windowBatches,
} from './windows';
