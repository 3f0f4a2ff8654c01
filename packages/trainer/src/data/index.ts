// The door of this folder: text, tokenizers, packing, evaluation windows, baselines.
export { documentBytes, type TextDocument } from './documents';
export { byteVocabulary, makeTokenizer, type TokenizerSpec } from './make-tokenizer';
export { type NgramBaseline, ngramBaselines } from './ngram';
export { Packer, type PackerOptions, type PackerState, type TokenBatch } from './packer';
export { loadDocuments } from './sources';
export { type DocumentSplit, splitDocuments } from './split';
export type { TokenDecoder, Tokenizer } from './tokenizer';
export { loadTokenizer, saveTokenizer } from './tokenizer-file';
export {
  heldOutWindows,
  someWindows,
  type TokenWindow,
  type WindowOptions,
  windowBatches,
} from './windows';
