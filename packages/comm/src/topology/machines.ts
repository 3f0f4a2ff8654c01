// Machines whose figures are published: what a device's links carry and how many streaming multiprocessors (SMs) it has.
// Bandwidths are those of the vendor, of one direction; what kernels make of them stands in `rates.ts`.

/** A link that every device has one of. */
export interface TopologyLink {
  /** GB/s (10⁹ bytes a second) that a device can send, and as many that it can receive meanwhile; Infinity for no limit. */
  gbps: number;
  /** µs until the first byte arrives. */
  latencyUs: number;
}

/** Streaming multiprocessors (SMs) of a device. */
export interface DeviceProcessors {
  /** All. */
  total: number;
  /** Those that communicate. */
  communication: number;
  /** GB/s that one of them reads from memory. */
  readGbps: number;
  /** GB/s that one of them writes. */
  writeGbps: number;
}

/** A kind of node. */
export interface Machine {
  /** Devices of a node. */
  devicesPerNode: number;
  /** What joins the devices of a node: NVLink. */
  within: TopologyLink;
  /** What joins nodes: a network card a device. */
  between: TopologyLink;
  /** What moves the bytes. */
  processors: DeviceProcessors;
}

/** A machine with published figures. */
export type MachineName = 'h800' | 'h100' | 'h200' | 'b200';

/** 400 Gb/s InfiniBand, one ConnectX-7 a device; 3.7 µs across leaves of the network (arXiv 2505.09343, §4.3 and table 5). */
const infiniBand: TopologyLink = { gbps: 50, latencyUs: 3.7 };

/** NVLink's latency on an H800 (arXiv 2505.09343, table 5); no other is published, so it stands for all. */
const latencyUs = 3.33;

/**
 * 20 of 132 SMs communicate in V3 (§3.2.2). 200 GB/s read and 50 GB/s written by each are what DeepEP reckons with
 * (`get_theoretical_num_sms`), for every device.
 */
const hopper: DeviceProcessors = { total: 132, communication: 20, readGbps: 200, writeGbps: 50 };

/** H100 SXM5: 18 NVLinks of 25 GB/s in each direction, 132 SMs (NVIDIA H100 architecture white paper). */
const h100: Machine = {
  devicesPerNode: 8,
  within: { gbps: 450, latencyUs },
  between: infiniBand,
  processors: hopper,
};

/**
 * Machines with published figures, each with eight devices a node and 400 Gb/s InfiniBand a device.
 *
 * - `h800`: NVLink at 400 instead of 900 GB/s, which is 200 in each direction (arXiv 2505.09343, §4.1 and §4.3).
 * - `h100`, `h200`: NVLink at 450 GB/s in each direction; the H200 differs in memory alone (NVIDIA's data sheets).
 * - `b200`: NVLink at 900 GB/s in each direction (NVIDIA's data sheet), 148 SMs (as CUDA reports them).
 */
export const machines: Readonly<Record<MachineName, Machine>> = {
  h800: { ...h100, within: { gbps: 200, latencyUs } },
  h100,
  h200: h100,
  b200: {
    ...h100,
    within: { gbps: 900, latencyUs },
    processors: { ...hopper, total: 148 },
  },
};
