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
// Fields of /proc/<pid>/stat after the program's name: parent, then utime, stime, cutime, cstime.
const PARENT = 1
const TIMES = [11, 12, 13, 14] as const
// Fields of the first line of /proc/stat that are work: user, nice, system, irq, softirq, steal.
const BUSY = [1, 2, 3, 6, 7, 8] as const

/** Everything is 0 where there is no /proc. */
export function sampleCpu(groups: readonly ProcessGroup[]): CpuSample {
  const rows = readProcesses()
  const children = new Map<number, number[]>()
  for (const [pid, { parent }] of rows) children.set(parent, [...(children.get(parent) ?? []), pid])
  const roots = new Set(groups.flatMap(({ pids }) => pids))
  const ticksOf = (pid: number): number =>
    (children.get(pid) ?? []).filter((child) => !roots.has(child)).reduce((sum, child) => sum + ticksOf(child), rows.get(pid)?.ticks ?? 0)
  const entries = groups.map(({ name, pids }) => [name, pids.reduce((sum, pid) => sum + ticksOf(pid), 0) / TICKS_PER_S])
  return { groups: Object.fromEntries(entries) as Record<string, number>, machine: machineBusyS() }
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
