import { useState } from "preact/hooks";
import { Icon } from "../ui/icons.tsx";
import { Controls } from "./controls.tsx";
import { Near } from "./near.tsx";
import { type CallView, callView, key, shares, spoken } from "./state.ts";
import { TalkButton, useSpace } from "./talk-button.tsx";
import { Tile } from "./tile.tsx";
import { gradeWords, standing } from "./words.ts";

/** The call of a room, over its page: who is in it, and what one can do. */
export function CallPanel({ room, moderates }: { room: string; moderates: boolean }) {
  const v = callView.value;
  const [look, setLook] = useState<"tiles" | "near">("tiles");
  const [small, setSmall] = useState(false);
  useSpace(v?.pushToTalk === true);
  if (!v || v.room !== room) return null;
  return (
    <section class={`call${small ? " small" : ""}`} aria-label="Call" data-testid="call" data-phase={v.phase} data-way={v.direct ? "direct" : "server"}>
      <header class="call-head">
        <span class="grow call-standing" role="status" data-testid="call-standing">{standing(v)}</span>
        {v.locked && <span class="tag" data-testid="call-locked">Locked</span>}
        <Strength grade={v.quality.grade} />
        <button type="button" class="icon-button" aria-pressed={look === "near"} aria-label="Who is near" data-testid="call-near" onClick={() => setLook(look === "near" ? "tiles" : "near")}><Icon name="radar" /></button>
        <button type="button" class="icon-button" aria-expanded={!small} aria-label={small ? "Show the call" : "Show less of the call"} data-testid="call-size" onClick={() => setSmall(!small)}><Icon name={small ? "tiles" : "minus"} /></button>
      </header>
      {!small && (look === "near" ? <Near view={v} moderates={moderates} /> : <Tiles view={v} moderates={moderates} />)}
      {v.pushToTalk && <TalkButton view={v} moderates={moderates} />}
      <Controls view={v} moderates={moderates} />
      <p class="sr" role="status" aria-live="polite" data-testid="call-spoken">{spoken.value}</p>
    </section>
  );
}

function Tiles({ view, moderates }: { view: CallView; moderates: boolean }) {
  const screens = view.participants.filter((p) => shares(p, "screen"));
  return (
    <ul class={`tiles${screens.length > 0 ? " with-screen" : ""}`} aria-label="In the call">
      {screens.map((p) => <Tile key={`${key(p)}/screen`} view={view} who={p} source="screen" moderates={moderates} />)}
      {view.participants.map((p) => <Tile key={key(p)} view={view} who={p} source="camera" moderates={moderates} />)}
    </ul>
  );
}

function Strength({ grade }: { grade: number }) {
  return (
    <span class="strength" data-grade={grade} role="img" aria-label={gradeWords(grade)} title={gradeWords(grade)} data-testid="call-quality"><Icon name="signal" /></span>
  );
}
