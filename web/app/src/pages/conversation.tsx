import { useLocation, useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { Conversation } from "@muster/sdk";
import { CallBar, StartCall } from "../call/bar.tsx";
import { CallPanel } from "../call/panel.tsx";
import { Chat } from "../chat/chat.tsx";
import { closeConversation, conversation, isMuted, leaveConversation, mute, openConversation } from "../chat/conversations.ts";
import { seek, talk } from "../chat/talk.ts";
import { block } from "../granting.ts";
import { text } from "../live.ts";
import { Banner, StatusLine } from "../sheets/status.tsx";
import { account, unread } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { Stars } from "../ui/stars.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { Welcome } from "./welcome.tsx";

/** One conversation, with the whole page for it. */
export function ConversationPage() {
  const { params, query } = useRoute();
  const id = params["room"] ?? "";
  const wanted = Number(query["m"] ?? 0);
  const { route } = useLocation();
  const [problem, setProblem] = useState("");
  const signedIn = account.value != null;
  useEffect(() => {
    if (!signedIn) return;
    setProblem("");
    const gone = (why: string) => {
      toast(why);
      route("/conversations");
    };
    openConversation(id, gone).then(() => (wanted > 0 ? attempt(() => seek(wanted)) : undefined), (err: unknown) => setProblem(text(err)));
    return closeConversation;
  }, [id, signedIn]);
  const c = conversation.value;
  const title = `${unread.value > 0 ? `(${unread.value}) ` : ""}${c?.name || "Conversation"} · Muster`;
  useEffect(() => {
    document.title = title;
    return () => void (document.title = "Muster");
  }, [title]);

  if (!signedIn) return <Welcome />;
  if (problem !== "") {
    return (
      <main class="frame column">
        <h1>This conversation can't be opened</h1>
        <p class="lead" role="alert">{problem}</p>
        <a class="button plain big" href="/conversations">To your conversations</a>
      </main>
    );
  }
  return (
    <div class="talk-page">
      <header class="talk-head">
        <a class="icon-button" href="/conversations" aria-label="Your conversations"><Icon name="back" /></a>
        {c && c.scope !== "group" && <Avatar user={c.peer} name={c.name} picture={c.picture} />}
        <div class="bar-title">
          <h1 data-testid="talk-title">{c ? c.name || "Deleted account" : " "}{c?.rating && <Stars rating={c.rating} />}</h1>
          <StatusLine />
        </div>
        {c && !c.closed && <StartCall room={c.room} title={c.name} home={`/c/${c.room}`} />}
        {c?.scope === "group" && <a class="icon-button" href={`/g/${c.room.slice("group:".length)}`} aria-label="Map of the group"><Icon name="pin" /></a>}
      </header>
      <main class="talk-main" aria-label="Conversation">
        <Banner />
        {c && <CallBar room={c.room} title={c.name} home={`/c/${c.room}`} />}
        {c && <CallPanel room={c.room} moderates={c.scope !== "group" || talk.value?.moderates === true} />}
        {c && <Chat tools={<Tools key={c.room} conversation={c} left={() => route(c.scope === "nearby" ? "/ratings" : "/conversations")} />} />}
      </main>
    </div>
  );
}

const HOUR = 3_600_000;

/** Muting, leaving, blocking. Nothing that can't be undone happens by the first tap. */
function Tools({ conversation: c, left }: { conversation: Conversation; left: () => void }) {
  const [open, setOpen] = useState(false);
  const [sure, setSure] = useState<"leave" | "block">();
  const leave = async () => {
    await leaveConversation(c);
    left();
  };
  const shut = async () => {
    await block(c.peer);
    left();
  };
  return (
    <>
      <button type="button" class="icon-button" aria-label="More about this conversation" aria-expanded={open} data-testid="talk-more" onClick={() => { setOpen(!open); setSure(undefined); }}><Icon name="more" /></button>
      {open && (
        <div class="talk-menu" role="group" aria-label="This conversation" onKeyDown={(e) => e.key === "Escape" && setOpen(false)}>
          {sure === undefined ? (
            <>
              {isMuted(c) ? <Button data-testid="unmute" action={() => mute(c, undefined)}>Notify me again</Button> : (
                <>
                  <Button data-testid="mute-8h" action={() => mute(c, 8 * HOUR)}>Mute for 8 hours</Button>
                  <Button data-testid="mute" action={() => mute(c, 0)}>Mute</Button>
                </>
              )}
              {c.peer !== "" && <a class="button plain" href={`/u/${c.peer}`}>Profile</a>}
              <Button data-testid="leave-talk" action={() => setSure("leave")}>{c.scope === "nearby" ? "End" : "Leave"}</Button>
              {c.peer !== "" && <Button data-testid="block-talk" action={() => setSure("block")}>Block</Button>}
            </>
          ) : (
            <>
              <p class="small">{sure === "block" ? `${c.name} will not be told.` : c.scope === "group" ? "You leave the group, and its map." : "It goes from your list; nothing more reaches you."}</p>
              <Button kind="danger" data-testid="talk-sure" action={sure === "block" ? shut : leave}>{sure === "block" ? `Block ${c.name}` : "Yes"}</Button>
              <Button kind="quiet" action={() => setSure(undefined)}>No</Button>
            </>
          )}
        </div>
      )}
    </>
  );
}
