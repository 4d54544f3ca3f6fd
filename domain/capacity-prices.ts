import { readFigures, type FigureProblem, type FigureRule } from './figures.ts'

const PRICE: FigureRule = { min: 0, max: 1e6 }
const SIZE: FigureRule = { min: 0.1, max: 4096 }
const SHARE: FigureRule = { min: 0, max: 1 }

const RULES = {
  /** A month of one vCPU, and of one GB of memory, on demand. */
  vcpu: PRICE,
  memoryGb: PRICE,
  /** The same where a database runs on it. */
  databaseVcpu: PRICE,
  databaseMemoryGb: PRICE,
  /** A month of one GB of its disk, and of one I/O a second beyond what each primary has without it. */
  databaseGb: PRICE,
  /** The same of a slower disk, for a warm tablespace, and of an object store. */
  warmGb: PRICE,
  archiveGb: PRICE,
  databaseIops: PRICE,
  databaseIopsIncluded: { min: 0, max: 1e9 },
  /** One GB sent to the internet. */
  egressGb: PRICE,
  /** What is saved by machines that may be taken away at short notice, and by those that are paid for in advance. */
  spotDiscount: SHARE,
  reservedDiscount: SHARE,
  /** Sizes of the processes and machines that are paid for. */
  workerVcpus: SIZE,
  workerMemoryGb: SIZE,
  apiVcpus: SIZE,
  apiMemoryGb: SIZE,
  temporalVcpus: SIZE,
  temporalMemoryGb: SIZE,
  databaseVcpus: SIZE,
  databaseMachineMemoryGb: SIZE,
  /** What one primary may hold, and write to its log in a second. */
  databaseGbMax: { min: 1, max: 1e6 },
  databaseWalBytesPerS: { min: 1, max: 1e11 },
  /** Primary and standbys, each with its disk. */
  databaseCopies: { min: 1, max: 10, whole: true },
} as const satisfies Readonly<Record<string, FigureRule>>

/** USD a month. */
export type Prices = Readonly<Record<keyof typeof RULES, number>>

/** @param given content of a price file. @returns the prices, or every problem */
export function readPrices(given: unknown): { readonly prices: Prices } | { readonly problems: readonly FigureProblem[] } {
  const read = readFigures(RULES, given, ['about'])
  return 'problems' in read ? read : { prices: read.values }
}

/** A month of one worker process, on demand. */
export function workerPrice({ workerVcpus, workerMemoryGb, vcpu, memoryGb }: Prices): number {
  return workerVcpus * vcpu + workerMemoryGb * memoryGb
}

/** A month of one API process. */
export function apiPrice({ apiVcpus, apiMemoryGb, vcpu, memoryGb }: Prices): number {
  return apiVcpus * vcpu + apiMemoryGb * memoryGb
}

/** A month of one machine of the Temporal server. */
export function temporalPrice({ temporalVcpus, temporalMemoryGb, vcpu, memoryGb }: Prices): number {
  return temporalVcpus * vcpu + temporalMemoryGb * memoryGb
}

/** A month of one primary with its standbys, without their disks. */
export function databasePrice({ databaseVcpus, databaseMachineMemoryGb, databaseVcpu, databaseMemoryGb, databaseCopies }: Prices): number {
  return databaseCopies * (databaseVcpus * databaseVcpu + databaseMachineMemoryGb * databaseMemoryGb)
}
