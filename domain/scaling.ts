/** Where workers are started and stopped: local processes, or a Deployment of Kubernetes. */
export interface ScalingTarget {
  /** What operators know it by: `local`, `kubernetes`. */
  readonly name: string
  /**
   * @returns workers that should run, and those that do
   * @throws where the target cannot be asked
   */
  read(): Promise<{ readonly wanted: number; readonly ready: number }>
  /**
   * Asks for so many workers, and returns before they run. Workers that are too many are drained, not killed.
   * @throws where the target cannot be told
   */
  scaleTo(workers: number): Promise<void>
}
