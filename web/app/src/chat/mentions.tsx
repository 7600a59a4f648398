import type { Person } from "./talk.ts";

/** Who could be meant, while a mention is typed. The focus stays in the text. */
export function Mentions({ id, people, chosen, pick }: { id: string; people: readonly Person[]; chosen: number; pick: (name: string) => void }) {
  return (
    <ul class="mentions" id={id} role="listbox" aria-label="People to mention" data-testid="mentions">
      {people.map((p, i) => (
        <li key={p.user} id={`${id}-${i}`} role="option" aria-selected={i === chosen}
          onMouseDown={(e) => {
            e.preventDefault();
            pick(p.name);
          }}>{p.name}</li>
      ))}
    </ul>
  );
}
