import { useEffect, useRef, useState } from "preact/hooks";
import type { FoundMessage, Message } from "@muster/sdk";
import { api } from "../live.ts";
import { clock } from "../lib/age.ts";
import { now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { brief } from "./text.ts";

/** Messages by their words: of one conversation, or of all. */
export function Search({ room, open }: { room?: string; open: (m: FoundMessage) => void }) {
  const [words, setWords] = useState("");
  const [found, setFound] = useState<{ messages: readonly FoundMessage[]; cursor?: string } | undefined>();
  const search = async (cursor?: string) => {
    const r = await api.conversations.search(words.trim(), { ...(room !== undefined && { room }), ...(cursor !== undefined && { cursor }), limit: 20 });
    setFound({ ...r, messages: [...(cursor !== undefined ? (found?.messages ?? []) : []), ...r.messages] });
  };
  const submit = (e: Event) => {
    e.preventDefault();
    if (words.trim() !== "") void attempt(() => search());
  };
  return (
    <div class="find">
      <form role="search" class="inline" onSubmit={submit}>
        <input type="search" aria-label="Search messages" placeholder="Search messages" data-testid="search-messages" autocomplete="off" value={words} onInput={(e) => setWords(e.currentTarget.value)} />
        <button type="submit" class="button primary" data-testid="search-messages-go">Find</button>
      </form>
      <div role="status">
        {found?.messages.length === 0 && <p class="empty small">Nothing found.</p>}
        {found && found.messages.length > 0 && <Hits messages={found.messages} pick={(m) => open(m as FoundMessage)} label="Found messages" />}
        {found?.cursor !== undefined && <Button kind="quiet" action={() => search(found.cursor)}>More</Button>}
      </div>
    </div>
  );
}

/** What is pinned in a conversation. */
export function Pins({ room, open }: { room: string; open: (m: Message) => void }) {
  const [pins, setPins] = useState<readonly Message[] | undefined>();
  useEffect(() => void attempt(async () => setPins(await api.conversations.pins(room))), [room]);
  if (!pins) return null;
  if (pins.length === 0) return <p class="empty small">Nothing is pinned.</p>;
  return <Hits messages={pins} pick={open} label="Pinned messages" />;
}

function Hits({ messages, pick, label }: { messages: readonly Message[]; pick: (m: Message) => void; label: string }) {
  return (
    <ul class="hits" aria-label={label}>
      {messages.map((m) => (
        <li key={m.id}>
          <button type="button" class="row" data-testid="hit" onClick={() => pick(m)}>
            <span class="grow"><strong>{m.senderName || "Deleted account"}</strong><small>{brief(m)}</small></span>
            <time class="small muted num" dateTime={m.sentAt.toISOString()}>{clock(m.sentAt.getTime(), now.value)}</time>
          </button>
        </li>
      ))}
    </ul>
  );
}

/** Searching and pins of the open conversation, above what was said. Escape closes it. */
export function Look({ room, what, close, seek }: { room: string; what: "search" | "pins"; close: () => void; seek: (number: number) => void }) {
  const area = useRef<HTMLElement>(null);
  useEffect(() => area.current?.querySelector<HTMLElement>("input, button")?.focus(), [what]);
  const open = (m: Message) => {
    close();
    seek(m.number);
  };
  return (
    <section ref={area} class="look" aria-label={what === "search" ? "Search" : "Pinned"} onKeyDown={(e) => {
      if (e.key !== "Escape") return;
      e.stopPropagation();
      close();
    }}>
      <div class="look-head">
        <h3>{what === "search" ? "Search" : "Pinned"}</h3>
        <button type="button" class="icon-button" aria-label="Close" onClick={close}><Icon name="close" /></button>
      </div>
      {what === "search" ? <Search room={room} open={open} /> : <Pins room={room} open={open} />}
    </section>
  );
}
