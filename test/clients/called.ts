/** Which methods of a client object were called. */
export interface Called<T> {
  /** The object, recorded. */
  readonly client: T
  /** Methods that were never called. */
  missing(): string[]
}

/** Records the calls of an object's methods, its own and those of the objects that its properties are. */
export function recordCalls<T extends object>(object: T): Called<T> {
  const called = new Set<string>()
  const client = new Proxy(object, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver)
      if (typeof value === 'function') called.add(String(name))
      return value
    },
  })
  const names = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(object) as object))
    .filter(([name, property]) => name !== 'constructor' && typeof property.value === 'function')
    .map(([name]) => name)
  return { client, missing: () => names.filter((name) => !called.has(name)) }
}
