import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { clock } from "../lib/age.ts";
import { loadOlder, retryMessage, sendMessage } from "../live.ts";
import { joined, me, type Message, messages, now, olderMessages, unread } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";

const LONGEST = 4000; // characters of a message

export function ChatSheet() {
  const log = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const height = useRef(0);
  const all = messages.value;
  const first = all[0]?.number;

  // Stay at the newest message while one is there; keep the place when older ones come above.
  useLayoutEffect(() => {
    const el = log.current;
    if (!el) return;
    if (atEnd.current) el.scrollTop = el.scrollHeight;
    height.current = el.scrollHeight;
  }, [all]);
  useLayoutEffect(() => {
    const el = log.current;
    if (el && !atEnd.current) el.scrollTop += el.scrollHeight - height.current;
    if (el) height.current = el.scrollHeight;
  }, [first]);
  useEffect(() => void (unread.value = 0), [all]);

  return (
    <div class="chat">
      <div ref={log} class="log" role="log" aria-live="polite" aria-label="Messages" tabIndex={0}
        onScroll={(e) => {
          const el = e.currentTarget;
          atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < 40;
        }}>
        {olderMessages.value && <Button kind="quiet" class="older" action={loadOlder}>Earlier messages</Button>}
        {joined.value && all.length === 0 && !olderMessages.value && <p class="empty">No messages yet. Say hello.</p>}
        {all.map((m, i) => <Line key={m.key} message={m} before={all[i - 1]} />)}
      </div>
      <Composer />
    </div>
  );
}

function Line({ message: m, before }: { message: Message; before: Message | undefined }) {
  const mine = m.sender === me.value;
  const follows = before?.sender === m.sender && m.sentAt - before.sentAt < 5 * 60_000;
  return (
    <div class={`message${mine ? " mine" : ""}${follows ? " follows" : ""}`} data-testid="chat-message" data-state={m.state} data-number={m.number}>
      {!follows && (
        <div class="message-head">
          <strong>{mine ? "You" : m.senderName || "Deleted account"}</strong>{" "}
          <time dateTime={new Date(m.sentAt).toISOString()}>{clock(m.sentAt, now.value)}</time>
        </div>
      )}
      <div class="bubble">{m.body || <em>This message was deleted.</em>}</div>
      {m.state === "sending" && <small>sending…</small>}
      {m.state === "failed" && <small class="failed">not sent <button type="button" class="link" onClick={() => retryMessage(m.key)}>try again</button></small>}
    </div>
  );
}

function Composer() {
  const [body, setBody] = useState("");
  const send = (event: Event) => {
    event.preventDefault();
    const text = body.trim();
    if (text === "") return;
    setBody("");
    sendMessage(text);
  };
  return (
    <form class="composer" onSubmit={send}>
      <input aria-label="Message" placeholder="Message" data-testid="chat-input" autocomplete="off" maxLength={LONGEST} value={body}
        enterkeyhint="send" onInput={(e) => setBody(e.currentTarget.value)} />
      <button type="submit" class="icon-button primary" aria-label="Send" data-testid="chat-send">
        <Icon name="send" />
      </button>
    </form>
  );
}
