import { readdirSync, readFileSync } from 'node:fs'

/** Processes whose CPU time is counted together: these and their descendants, without those of other groups. */
export interface ProcessGroup {
  readonly name: string
  readonly pids: readonly number[]
}

/** CPU seconds so far, by group, and of the whole machine. */
export interface CpuSample {
  readonly groups: Readonly<Record<string, number>>
  readonly machine: number
}

interface Row {
  readonly parent: number
  /** User and system time, own and of children that have ended. */
  readonly ticks: number
}

const TICKS_PER_S = 100
const KIB = 1024
const MB = 1e6
// Fields of /proc/<pid>/stat after the program's name: parent, then utime, stime, cutime, cstime.
const PARENT = 1
const TIMES = [11, 12, 13, 14] as const
// Fields of the first line of /proc/stat that are work: user, nice, system, irq, softirq, steal.
const BUSY = [1, 2, 3, 6, 7, 8] as const

/** Everything is 0 where there is no /proc. */
export function sampleCpu(groups: readonly ProcessGroup[]): CpuSample {
  const rows = readProcesses()
  const ticks = sumOver(groups, rows, (pids) => pids.reduce((sum, pid) => sum + (rows.get(pid)?.ticks ?? 0), 0) / TICKS_PER_S)
  return { groups: ticks, machine: machineBusyS() }
}

/**
 * Resident memory by group, in MB (10^6 bytes): the pages that each process has for itself, and once the most that one of them
 * has of files and of shared memory, which Postgres's processes have in common.
 */
export function sampleRssMb(groups: readonly ProcessGroup[]): Record<string, number> {
  return sumOver(groups, readProcesses(), (pids) => {
    const all = pids.map((pid) => read(`/proc/${pid}/status`))
    const kib = (kind: string) => all.map((text) => Number(new RegExp(`^${kind}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0))
    const own = kib('RssAnon').reduce((sum, one) => sum + one, 0)
    return Math.round(((own + Math.max(0, ...kib('RssFile')) + Math.max(0, ...kib('RssShmem'))) * KIB) / MB)
  })
}

/** @param sum is given the group's processes: its own and their descendants */
function sumOver(groups: readonly ProcessGroup[], rows: ReadonlyMap<number, Row>, sum: (pids: readonly number[]) => number) {
  const children = new Map<number, number[]>()
  for (const [pid, { parent }] of rows) children.set(parent, [...(children.get(parent) ?? []), pid])
  const roots = new Set(groups.flatMap(({ pids }) => pids))
  const tree = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).filter((child) => !roots.has(child)).flatMap(tree)]
  return Object.fromEntries(groups.map(({ name, pids }) => [name, sum(pids.flatMap(tree))]))
}

/** The process's descendants whose command line matches. */
export function descendants(pid: number, pattern: RegExp): number[] {
  return [...readProcesses()]
    .filter(([, { parent }]) => parent === pid)
    .flatMap(([child]) => (pattern.test(read(`/proc/${child}/cmdline`).split('\0').join(' ')) ? [child] : descendants(child, pattern)))
}

/** One-minute load average. */
export function loadAverage(): number {
  return Number(read('/proc/loadavg').split(' ')[0])
}

function readProcesses(): Map<number, Row> {
  const rows = new Map<number, Row>()
  let names: string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return rows
  }
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue
    const text = read(`/proc/${name}/stat`)
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    if (fields.length > TIMES[3]) {
      rows.set(Number(name), { parent: Number(fields[PARENT]), ticks: TIMES.reduce((sum, i) => sum + Number(fields[i]), 0) })
    }
  }
  return rows
}

function machineBusyS(): number {
  const fields = (read('/proc/stat').split('\n')[0] ?? '').split(/\s+/)
  return BUSY.reduce((sum, i) => sum + Number(fields[i] ?? 0), 0) / TICKS_PER_S
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
