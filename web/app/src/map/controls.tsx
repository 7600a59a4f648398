import { useEffect, useState } from "preact/hooks";
import { ago } from "../lib/age.ts";
import { shareWithGroup, stopHere } from "../granting.ts";
import { locate, placePin } from "../sharing.ts";
import { me, now, people, sharing, visibility } from "../state.ts";
import { attempt } from "../ui/toast.tsx";
import { paused, shared } from "../whereabouts.ts";
import { Icon } from "../ui/icons.tsx";
import { liveMap } from "./map.tsx";

/** The buttons over the map, in reach of a thumb, and what there is to say about one's own position. */
export function MapControls() {
  const [gridOn, setGrid] = useState(false);
  const map = liveMap.value;
  const s = sharing.value;
  const pin = () => {
    if (s.mode === "pin") return void attempt(stopHere);
    if (!map) return;
    placePin(s.at ?? map.centre());
    map.focusPin();
    void attempt(shareWithGroup);
  };
  const follow = () => {
    if (s.mode === "gps") return void attempt(stopHere);
    locate((at) => {
      map?.goTo(at);
      void attempt(shareWithGroup); // not before there is something to share
    });
  };
  return (
    <>
      <Notice onPin={pin} />
      <div class="controls" role="group" aria-label="Map controls">
        <button type="button" class="icon-button" aria-label="H3 grid" title="H3 grid" aria-pressed={gridOn} data-testid="grid-button"
          onClick={() => { setGrid(!gridOn); map?.setGrid(!gridOn); }}>
          <Icon name="grid" />
        </button>
        <div class="zoom">
          <button type="button" class="icon-button" aria-label="Zoom in" onClick={() => map?.zoomBy(1)}><Icon name="plus" /></button>
          <button type="button" class="icon-button" aria-label="Zoom out" onClick={() => map?.zoomBy(-1)}><Icon name="minus" /></button>
        </div>
        <button type="button" class="icon-button" aria-label="Show everybody" title="Show everybody" data-testid="fit-button" onClick={() => map?.fit()}>
          <Icon name="fit" />
        </button>
        <button type="button" class="icon-button" aria-label={s.mode === "pin" ? "Take the pin away" : "Place a pin where you are"} title="Place a pin where you are"
          aria-pressed={s.mode === "pin"} data-testid="drag-pin" onClick={pin} onKeyDown={(e) => map?.pinKey(e)}>
          <Icon name="pin" />
        </button>
        <button type="button" class="icon-button accent" aria-label={s.mode === "gps" ? "Stop sharing your location" : "Share your location"}
          title="Share your location" aria-pressed={s.mode === "gps"} data-testid="locate-button"
          onClick={follow}>
          <Icon name={s.mode === "gps" ? "stop" : "locate"} />
        </button>
      </div>
    </>
  );
}

/** What others see of oneself (S4.7): said when it is not what one might expect. */
function Notice({ onPin }: { onPin: () => void }) {
  const s = sharing.value;
  const [hint, setHint] = useState(true);
  const [had, setHad] = useState(false); // since this device tells, there was somebody who saw it
  const on = s.mode !== "off";
  const any = shared.value;
  useEffect(() => setHad((h) => on && (h || any)), [on, any]);
  const last = people.value.get(me.value)?.fix;
  const seen = paused.value ? "Ghost mode is on: nobody sees where you are." : visibility.value?.invisible ? "You are invisible: nobody sees you here." : last ? `Others see your last position, from ${ago(last.captured, now.value)}.` : "Others see that you are here, but not where.";
  if (s.problem !== "") {
    return (
      <div class="notice" role="status" data-testid="location-denied">
        <p>
          <strong>{s.problem === "denied" ? "Location is blocked for this page." : "Your device gives no location right now."}</strong>{" "}
          {seen} Chat and map work as before.
          {s.problem === "denied" && " You can allow location in the browser's site settings, or place a pin."}
        </p>
        <div class="actions">
          <button type="button" class="button primary" onClick={onPin}>Place a pin</button>
          <button type="button" class="button quiet" onClick={() => (sharing.value = { ...s, problem: "" })}>OK</button>
        </div>
      </div>
    );
  }
  if (on && (paused.value || (had && !any))) {
    return (
      <div class="notice" role="status" data-testid="nobody-sees">
        <p>{paused.value ? "Ghost mode is on: nobody sees where you are." : "Nobody sees where you are: what you shared has ended."}</p>
        {!paused.value && <button type="button" class="button quiet" onClick={() => void attempt(shareWithGroup)}>Share with the group again</button>}
      </div>
    );
  }
  if (s.mode === "pin" && hint) {
    return (
      <div class="notice" role="status">
        <p>Drag your pin, or move it with the arrow keys. {visibility.value?.invisible ? "You are invisible: others don't see it." : "Others see it here."}</p>
        <button type="button" class="button quiet" onClick={() => setHint(false)}>OK</button>
      </div>
    );
  }
  return null;
}
