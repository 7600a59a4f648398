import { groupRoom } from "@muster/sdk";
import { useLocation, useRoute } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { CallBar, StartCall } from "../call/bar.tsx";
import { CallPanel } from "../call/panel.tsx";
import { Chat } from "../chat/chat.tsx";
import { putDraft } from "../fences.ts";
import { useWhereabouts } from "../follow.ts";
import { closeGroup, openGroup } from "../live.ts";
import { MapControls } from "../map/controls.tsx";
import { liveMap, MapView } from "../map/map.tsx";
import { strangers } from "../nearby.ts";
import { wide } from "../settings.ts";
import { movePin } from "../sharing.ts";
import { GroupSheet } from "../sheets/group.tsx";
import { PeopleSheet } from "../sheets/people.tsx";
import { QRDialog } from "../sheets/qr.tsx";
import { ShareSheet } from "../sheets/share.tsx";
import { Banner, StatusLine } from "../sheets/status.tsx";
import { YouSheet } from "../sheets/you.tsx";
import { account, crowd, group, myRole, unread } from "../state.ts";
import { Icon, type IconName } from "../ui/icons.tsx";
import { Sheet } from "../ui/sheet.tsx";
import { asksIn, draft } from "../whereabouts.ts";
import { Welcome } from "./welcome.tsx";

type SheetName = "people" | "chat" | "share" | "group" | "you";

const names: Record<SheetName, string> = { people: "People", chat: "Chat", share: "Sharing", group: "Group", you: "You" };
const icons: Record<SheetName, IconName> = { people: "people", chat: "chat", share: "share", group: "group", you: "gear" };

/** The map of a group with what belongs to it in sheets: over the map on a phone, beside it where there is room. */
export function GroupPage() {
  const id = useRoute().params["id"] ?? "";
  const { route } = useLocation();
  const [open, setOpen] = useState<SheetName | undefined>(wide.peek() ? "people" : undefined);
  const [problem, setProblem] = useState("");
  useWhereabouts();
  const stage = useRef<HTMLDivElement>(null);
  const signedIn = account.value != null;

  useEffect(() => {
    if (!signedIn) return;
    setProblem("");
    openGroup(id, () => route("/")).catch((err: unknown) => setProblem(err instanceof Error ? err.message : String(err)));
    return closeGroup;
  }, [id, signedIn]);

  const title = `${unread.value > 0 ? `(${unread.value}) ` : ""}${group.value?.name ?? "Group"} · Muster`;
  useEffect(() => {
    document.title = title;
    return () => void (document.title = "Muster");
  }, [title]);

  if (!signedIn) return <Welcome />;
  if (problem !== "") {
    return (
      <main class="frame column">
        <h1>This group can't be opened</h1>
        <p class="lead" role="alert">{problem}</p>
        <a class="button plain big" href="/">To your groups</a>
      </main>
    );
  }

  const both = wide.value;
  const left = both && (open === undefined || open === "chat") ? "people" : open;
  const toggle = (sheet: SheetName) => setOpen((now) => (now === sheet && !both ? undefined : sheet));
  const select = (user: string) => {
    liveMap.value?.show(user);
    if (!both) setOpen(undefined);
  };
  const close = () => void (both || setOpen(undefined));
  const body = (sheet: SheetName) => {
    if (sheet === "share") return <ShareSheet />;
    if (sheet === "group") return <GroupSheet />;
    return sheet === "you" ? <YouSheet /> : <PeopleSheet onSelect={select} close={close} />;
  };
  // What panels cover, so that "fit" puts people where they can be seen.
  const padding = () => {
    const width = stage.current?.clientWidth ?? 0;
    if (wide.peek()) return { top: 0, right: Math.min(360, width / 3), bottom: 0, left: Math.min(400, width / 3) };
    const sheet = document.querySelector(".sheet")?.clientHeight ?? 0;
    const controls = sheet > 0 ? 56 : 0; // in a row above the sheet
    return { top: 64, right: 0, bottom: 72 + sheet + controls, left: 0 };
  };

  return (
    <div ref={stage} class={`stage${both ? " wide" : ""}`} data-open={both ? "both" : (open ?? "none")}>
      <h1 class="sr">{group.value?.name ?? "Group"}</h1>
      <main class="map-area" aria-label="Map of the group">
        <MapView padding={padding} onPinMoved={movePin} onSelect={(user) => liveMap.value?.show(user)} onTap={putDraft} strangers={strangers} />
        <MapControls />
        {draft.value && left !== "group" && <Drawing outline={draft.value.kind === "outline"} back={() => setOpen("group")} />}
      </main>
      <header class="bar">
        <a class="icon-button" href="/" aria-label="Your groups"><Icon name="back" /></a>
        <div class="bar-title">
          <strong data-testid="group-title">{group.value?.name ?? " "}</strong>
          <StatusLine />
        </div>
        {group.value && <StartCall room={groupRoom(id)} title={group.value.name} home={`/g/${id}`} />}
        <a class="icon-button" href={`/g/${id}/money`} aria-label="Money of the group" data-testid="to-money"><Icon name="coins" /></a>
      </header>
      <Banner />
      <CallBar room={groupRoom(id)} title={group.value?.name ?? ""} home={`/g/${id}`} />
      <CallPanel room={groupRoom(id)} moderates={myRole.value !== "member"} />
      {both ? (
        <>
          <aside class="panel left" aria-label={names[left ?? "people"]}>
            <Tabs sheets={["people", "share", "group", "you"]} open={left} toggle={toggle} />
            <div class="panel-body">{body(left ?? "people")}</div>
          </aside>
          <aside class="panel right" aria-label="Chat">
            <h2 class="panel-title">Chat</h2>
            <Chat />
          </aside>
        </>
      ) : (
        <>
          {open && (
            <Sheet key={open} name={names[open]} close={() => setOpen(undefined)}>
              {open === "chat" ? <Chat /> : (
                <div class="panel-body">{body(open)}</div>
              )}
            </Sheet>
          )}
          <Tabs sheets={["people", "chat", "share", "group", "you"]} open={open} toggle={toggle} />
        </>
      )}
      <QRDialog />
    </div>
  );
}

/** A place is drawn, and its form is out of sight: a phone's map is free for it then. */
function Drawing({ outline, back }: { outline: boolean; back: () => void }) {
  return (
    <div class="notice drawing" role="status" data-testid="drawing">
      <p>You are drawing a place. Tap the map {outline ? "at each corner" : "where it is"}.</p>
      <button type="button" class="button primary" onClick={back}>Go on with its name</button>
    </div>
  );
}

function Tabs({ sheets, open, toggle }: { sheets: readonly SheetName[]; open: SheetName | undefined; toggle: (s: SheetName) => void }) {
  return (
    <nav class="tabs" aria-label="Sheets">
      {sheets.map((s) => (
        <button key={s} type="button" aria-pressed={open === s} data-testid={`tab-${s}`} onClick={() => toggle(s)}>
          <Icon name={icons[s]} />
          <span>{names[s]}</span>
          {s === "people" && <span class="badge calm" aria-label={`${crowd.value.here} here`}>{crowd.value.here}</span>}
          {s === "share" && asksIn.value.length > 0 && <span class="badge" aria-label={`${asksIn.value.length} asked`}>{asksIn.value.length}</span>}
          {s === "chat" && unread.value > 0 && <span class="badge" aria-label={`${unread.value} unread`}>{unread.value > 99 ? "99+" : unread.value}</span>}
        </button>
      ))}
    </nav>
  );
}
