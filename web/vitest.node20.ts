// vitest's reporter groups failures by Map.groupBy, which Node has from 21 on;
// without this a failure under Debian's Node 20 hides itself behind another.

interface Groups {
  groupBy?: <K, T>(items: Iterable<T>, key: (item: T) => K) => Map<K, T[]>;
}

(Map as Groups).groupBy ??= (items, key) => {
  const groups = new Map();
  for (const item of items) {
    const k = key(item);
    groups.set(k, [...(groups.get(k) ?? []), item]);
  }
  return groups;
};

export {};
