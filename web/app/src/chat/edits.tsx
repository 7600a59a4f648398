import { useEffect, useState } from "preact/hooks";
import type { Edition } from "@muster/sdk";
import { api } from "../live.ts";
import { clock } from "../lib/age.ts";
import { type Message, now } from "../state.ts";
import { attempt } from "../ui/toast.tsx";

/** What a message said before it was edited, and since when it says what it does; read again when it is edited once more. */
export function Edits({ room, message: m }: { room: string; message: Message }) {
  const [edits, setEdits] = useState<readonly Edition[] | undefined>();
  useEffect(() => {
    let shown = true;
    void attempt(async () => {
      const read = await api.conversations.edits(room, m.number);
      if (shown) setEdits(read);
    });
    return () => void (shown = false);
  }, [room, m.number, m.editedAt]);
  const time = (at: number) => <time dateTime={new Date(at).toISOString()}>{clock(at, now.value)}</time>;
  return (
    <section class="edits" role="status" aria-label="What it said before" data-testid="edits" aria-busy={edits === undefined}>
      {edits && (
        <ol>
          {edits.map((e, i) => <li key={i} data-testid="edition"><small>{time(e.at.getTime())}</small> <span class="break">{e.body || "Without words"}</span></li>)}
          {m.editedAt !== undefined && <li><small>{time(m.editedAt)}</small> <span class="muted">as it is now</span></li>}
        </ol>
      )}
    </section>
  );
}
