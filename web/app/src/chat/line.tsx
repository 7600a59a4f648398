import { useState } from "preact/hooks";
import { clock } from "../lib/age.ts";
import { me, type Message, messages, now } from "../state.ts";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { blocked } from "../whereabouts.ts";
import { Attachments } from "./attachments.tsx";
import { Edits } from "./edits.tsx";
import { MessageMenu } from "./message-menu.tsx";
import { nameOf, react, readersOf, retryMessage, seek, talk, talkers } from "./talk.ts";
import { brief, parts } from "./text.ts";
import { Ticks } from "./ticks.tsx";

/** One message with what belongs to it. */
export function Line({ message: m, before, menu, setMenu }: { message: Message; before: Message | undefined; menu: boolean; setMenu: (open: boolean) => void }) {
  const [shown, setShown] = useState(false);
  const [history, setHistory] = useState(false);
  const t = talk.value;
  const mine = m.sender === me.value;
  const follows = before?.sender === m.sender && m.sentAt - before.sentAt < 5 * 60_000 && m.replyTo === undefined;
  const who = mine ? "You" : m.senderName || "Deleted account";
  const folded = !shown && !mine && blocked.value.some((b) => b.userId === m.sender);
  return (
    <div class={`message${mine ? " mine" : ""}${follows ? " follows" : ""}${menu ? " chosen" : ""}`} data-testid="chat-message"
      data-state={m.state} data-number={m.number} data-status={m.status} tabIndex={-1}>
      {!follows && (
        <div class="message-head">
          <strong>{who}</strong>{" "}
          <time dateTime={new Date(m.sentAt).toISOString()}>{clock(m.sentAt, now.value)}</time>
        </div>
      )}
      {m.replyTo !== undefined && !m.deleted && <Quote number={m.replyTo} />}
      <div class="message-row">
        {folded ? (
          <div class="bubble"><em>From somebody you blocked.</em> <button type="button" class="link" onClick={() => setShown(true)}>Show</button></div>
        ) : m.deleted ? (
          <div class="bubble"><em>This message was deleted.</em></div>
        ) : (
          <div class="bubble">
            {m.body !== "" && <Body text={m.body} mentions={m.mentions} />}
            {m.attachments && t && (m.state === "stored" ? <Attachments room={t.room} files={m.attachments} /> : m.attachments.map((a) => <small key={a.id}>{a.name}</small>))}
          </div>
        )}
        {m.state === "stored" && t && (
          <button type="button" class="icon-button small message-more" aria-label={`More about the message of ${who}`} aria-expanded={menu} data-testid="message-more" tabIndex={-1}
            onClick={() => setMenu(!menu)}><Icon name="more" /></button>
        )}
      </div>
      {!m.deleted && !folded && <Reactions message={m} />}
      {m.state === "sending" && <small>sending…</small>}
      {m.state === "failed" && <small class="failed">not sent <button type="button" class="link" onClick={() => retryMessage(m.key)}>try again</button></small>}
      {m.state === "stored" && (m.pinned || m.editedAt !== undefined || (m.status && !m.deleted)) && (
        <small class="message-foot">
          {m.pinned && <span class="tag">pinned</span>}
          {m.editedAt !== undefined && !m.deleted && (folded ? <span data-testid="edited">edited</span> : (
            <button type="button" class="link" aria-expanded={history} aria-label="Edited: what it said before" data-testid="edited" onClick={() => setHistory(!history)}>edited</button>
          ))}
          {m.status && !m.deleted && <Ticks status={m.status} />}
          {m.status === "read" && !m.deleted && t?.scope === "group" && <span>{readBy(readersOf(m.number))}</span>}
        </small>
      )}
      {history && t && m.editedAt !== undefined && !m.deleted && !folded && <Edits room={t.room} message={m} />}
      {menu && t && <MessageMenu message={m} talk={t} close={() => setMenu(false)} {...(!folded && { showEdits: () => setHistory(true) })} />}
    </div>
  );
}

const readBy = (users: readonly string[]) => (users.length === 1 ? `by ${nameOf(users[0]!)}` : `by ${users.length}`);

function Body({ text, mentions }: { text: string; mentions: readonly string[] | undefined }) {
  const named = talkers.value.filter((p) => mentions?.includes(p.user));
  return (
    <>
      {parts(text, named).map((p, i) =>
        p.user ? <span key={i} class={`mention${p.user === me.value ? " me" : ""}`}>{p.text}</span>
        : p.url ? <a key={i} href={p.url} target="_blank" rel="noreferrer nofollow ugc">{p.text}</a>
        : p.text)}
    </>
  );
}

/** What a message answers; leads there. */
function Quote({ number }: { number: number }) {
  const m = messages.value.find((x) => x.number === number);
  return (
    <button type="button" class="quote" data-testid="quote" aria-label={m ? `Answers ${nameOf(m.sender)}: ${brief(m)}` : "Answers an earlier message"} onClick={() => void attempt(() => seek(number))}>
      {m ? <><strong>{nameOf(m.sender)}</strong> {brief(m)}</> : "An earlier message"}
    </button>
  );
}

function Reactions({ message: m }: { message: Message }) {
  if (!m.reactions || m.reactions.length === 0) return null;
  return (
    <ul class="reactions" aria-label="Reactions">
      {m.reactions.map((r) => {
        const on = r.users.includes(me.value);
        const others = r.count - r.users.length;
        const who = [...r.users.map(nameOf), ...(others > 0 ? [`${others} others`] : [])].join(", ");
        return (
          <li key={r.emoji}>
            <button type="button" class="reaction" aria-pressed={on} title={who} aria-label={`${r.emoji} ${r.count}: ${who}`} data-testid="reaction" data-emoji={r.emoji}
              onClick={() => void attempt(() => react(m, r.emoji, !on))}>{r.emoji} <span class="num">{r.count}</span></button>
          </li>
        );
      })}
    </ul>
  );
}
