// The value of a typed field, put together from its changes (`field.partial`).

export type Key = string | number;

/**
 * Applies changes. Containers are copied when they change for the first time after `share`, and grow
 * in place until the next: what was shared stays as it was, and what has not changed stays the same object.
 */
export class Growing {
  value: unknown = undefined;
  private own = new WeakSet<object>();

  apply(pointer: readonly Key[], value: unknown, append: boolean): void {
    this.value = this.placed(this.value, pointer, 0, value, append);
  }

  /** The value, which will not change any more. */
  share(): unknown {
    this.own = new WeakSet();
    return this.value;
  }

  private placed(whole: unknown, pointer: readonly Key[], depth: number, value: unknown, append: boolean): unknown {
    if (depth === pointer.length) return append ? this.joined(whole, value) : value;
    const key = pointer[depth]!;
    const base = this.owned(isContainer(whole) ? whole : typeof key === "number" ? [] : {});
    if (Array.isArray(base) && !((key as number) >= 0 && (key as number) <= base.length)) return base; // what is before it was lost
    const inner = Object.hasOwn(base, key) ? (base as Record<Key, unknown>)[key] : undefined;
    set(base, key, this.placed(inner, pointer, depth + 1, value, append));
    return base;
  }

  private joined(before: unknown, more: unknown): unknown {
    if (typeof before === "string" && typeof more === "string") return before + more;
    if (!isContainer(before) || !isContainer(more)) return before === undefined ? more : before;
    const base = this.owned(before);
    if (Array.isArray(base) && Array.isArray(more)) for (const item of more) base.push(item);
    else for (const [key, item] of Object.entries(more)) set(base, key, item);
    return base;
  }

  private owned(value: object): object {
    if (this.own.has(value)) return value;
    const copy = Array.isArray(value) ? [...value] : { ...value };
    this.own.add(copy);
    return copy;
  }
}

const isContainer = (value: unknown): value is object => value !== null && typeof value === "object";

/** Like an assignment, but `__proto__` is a name like any other. */
function set(base: object, key: Key, value: unknown): void {
  Object.defineProperty(base, key, { value, enumerable: true, configurable: true, writable: true });
}
