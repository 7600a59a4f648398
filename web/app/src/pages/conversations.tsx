import { useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import type { Conversation } from "@muster/sdk";
import {
  conversations, conversationSettings, isMuted, loadConversations, loadConversationSettings, setConversationSettings,
} from "../chat/conversations.ts";
import { Search } from "../chat/found.tsx";
import { brief } from "../chat/text.ts";
import { Ticks } from "../chat/ticks.tsx";
import { clock } from "../lib/age.ts";
import { me, now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icons.tsx";
import { Segments } from "../ui/segments.tsx";
import { attempt } from "../ui/toast.tsx";
import { Page } from "./page.tsx";

const EVERY = 20_000; // ms: of a conversation that is muted, nothing tells

/** All conversations, the one with the newest message first. */
export function ConversationsPage() {
  const { route } = useLocation();
  useEffect(() => {
    const look = () => void (document.visibilityState === "visible" && loadConversations().catch(() => {})); // comes again
    void attempt(() => Promise.all([loadConversations(), loadConversationSettings()]));
    const timer = setInterval(look, EVERY);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return (
    <Page title="Conversations">
      <Search open={(m) => route(`/c/${m.room}?m=${m.number}`)} />
      <List />
      <Settings />
    </Page>
  );
}

function List() {
  const all = conversations.value;
  if (all === undefined) return <div class="list-space" aria-busy="true" />;
  if (all.length === 0) return <p class="empty">No conversations yet. Write to a friend from <a href="/people">People</a>, or to somebody of a group.</p>;
  // The arrow keys go from one to the next.
  const go = (e: KeyboardEvent) => {
    const rows = [...(e.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("a")];
    const at = rows.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[e.key];
    if (to === undefined || !rows[to]) return;
    e.preventDefault();
    rows[to].focus();
  };
  return (
    <ul class="list card" aria-label="Conversations" data-testid="conversations" onKeyDown={go}>
      {all.map((c) => <li key={c.room}><Row conversation={c} /></li>)}
    </ul>
  );
}

function Row({ conversation: c }: { conversation: Conversation }) {
  const last = c.lastMessage;
  const other = c.receipts.find((s) => s.user !== me.value);
  const status = last && other && (other.read >= last.number ? "read" : other.delivered >= last.number ? "delivered" : "sent");
  return (
    <a class="row" href={`/c/${c.room}`} data-testid={`conversation-${c.name}`} data-unread={c.unread}>
      {c.scope === "group" ? <span class="row-icon"><Icon name="people" /></span> : <Avatar user={c.peer} name={c.name} picture={c.picture} />}
      <span class="grow">
        <strong>{c.name || "Deleted account"}</strong>
        <small>
          {last && last.sender === me.value && (status && !last.deleted ? <Ticks status={status} /> : "You: ")}
          {last ? `${c.scope === "group" && last.sender !== me.value ? `${last.senderName}: ` : ""}${brief(last)}` : "No messages yet"}
        </small>
      </span>
      <span class="row-end">
        {last && <time class="small muted num" dateTime={last.sentAt.toISOString()}>{clock(last.sentAt.getTime(), now.value)}</time>}
        {isMuted(c) && <span class="tag">muted</span>}
        {c.unread > 0 && <span class={isMuted(c) ? "badge calm" : "badge"} aria-label={`${c.unread} unread`} data-testid="unread">{c.unread > 99 ? "99+" : c.unread}</span>}
      </span>
    </a>
  );
}

/** Who may write, and who is told what was read. */
function Settings() {
  const s = conversationSettings.value;
  if (!s) return null;
  return (
    <section class="form" aria-label="Settings of conversations">
      <h2 class="section">Settings</h2>
      <Segments stacked label="Who may write to you" value={s.messagesFrom} testid="messages-from"
        options={[["acquaintances", "People I know"], ["friends", "Friends"], ["nobody", "Nobody"]]}
        pick={(messagesFrom) => void attempt(() => setConversationSettings({ messagesFrom }))} />
      <p class="small muted">People you know are your friends, and those who share a group with you.</p>
      <Segments stacked label="Who sees what you have read" value={s.receipts} testid="receipts-setting"
        options={[["everyone", "Everyone"], ["nobody", "Nobody"]]}
        pick={(receipts) => void attempt(() => setConversationSettings({ receipts }))} />
      <p class="small muted">With nobody, you don't see what others have read, either.</p>
    </section>
  );
}
