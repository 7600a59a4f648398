import { useEffect, useRef, useState } from "preact/hooks";
import { addCorner, changeDraft, drawFence, lacks, moveCorner, putDraft, radii, removeCorner, saveDraft } from "../fences.ts";
import { formatDistance, type Point, wrapLng } from "../lib/geo.ts";
import { liveMap } from "../map/map.tsx";
import { units } from "../settings.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { Segments } from "../ui/segments.tsx";
import { type Draft, draft } from "../whereabouts.ts";

const kinds = [["circle", "Circle"], ["outline", "Outline"]] as const;

/** A place is drawn on the map by taps and drags, or put down in numbers by who uses no pointer. */
export function PlaceForm({ draft: d }: { draft: Draft }) {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => form.current?.scrollIntoView({ block: "nearest" }), []);
  const missing = lacks(d);
  return (
    <form ref={form} class="card place-form" aria-label={d.fence === undefined ? "New place" : "Change the place"} onSubmit={(e) => e.preventDefault()}>
      {d.kind === "cells"
        ? <p class="small muted">This place is a set of map cells. Here you can change its name.</p>
        : <Segments stacked label="Shape" testid="fence-kind" value={d.kind} options={kinds} pick={(kind) => changeDraft({ kind })} />}
      {d.kind === "circle" && <Circle draft={d} />}
      {d.kind === "outline" && <Outline corners={d.corners} />}
      <div class="field">
        <label for="fence-name">Name</label>
        <input id="fence-name" data-testid="fence-name" maxLength={80} autocomplete="off" value={d.name} onInput={(e) => changeDraft({ name: e.currentTarget.value })} />
      </div>
      <p class="lacks small muted" role="status" data-testid="fence-lacks">{missing}</p>
      <div class="actions">
        <Button kind="primary" data-testid="save-fence" disabled={missing !== ""} action={saveDraft}>Save</Button>
        <Button kind="quiet" action={() => void (draft.value = undefined)}>Cancel</Button>
      </div>
    </form>
  );
}

export function NewPlaceButton() {
  return (
    <Button class="wide-button" data-testid="new-fence" action={() => drawFence()}>
      <Icon name="plus" /> New place
    </Button>
  );
}

const atMiddle = () => {
  const at = liveMap.value?.centre();
  if (at) putDraft(at);
};

function Circle({ draft: { center, radius } }: { draft: Draft }) {
  return (
    <>
      <p class="small">{center ? "Tap elsewhere on the map, or drag its middle, to move it." : "Tap the map where it is."}</p>
      {center
        ? <div class="numbers"><Coordinates name="its middle" at={center} move={(to) => changeDraft({ center: to })} /></div>
        : <Button data-testid="fence-here" action={atMiddle}>Use the middle of the map</Button>}
      <div class="field">
        <label for="fence-radius">Radius: {formatDistance(radius, units.value)}</label>
        <input id="fence-radius" class="slider" data-testid="fence-radius" type="range" min={radii.least} max={Math.max(radii.most, radius)} step={radii.step} value={radius}
          aria-valuetext={formatDistance(radius, units.value)} onInput={(e) => changeDraft({ radius: Number(e.currentTarget.value) })} />
      </div>
    </>
  );
}

function Outline({ corners }: { corners: readonly Point[] }) {
  const [numbers, setNumbers] = useState(false);
  return (
    <>
      <p class="small">
        {corners.length < 3
          ? "Tap the map at each corner, one after the other."
          : "Drag a corner to move it, the middle to move all. A small dot makes a corner on its edge."}
      </p>
      <Button data-testid="corner-here" action={atMiddle}>Add the middle of the map</Button>
      {corners.length > 0 && (
        <details class="corners" open={numbers} onToggle={(e) => setNumbers(e.currentTarget.open)}>
          <summary data-testid="corner-numbers">{corners.length === 1 ? "1 corner" : `${corners.length} corners`} in numbers</summary>
          {numbers && (
            <>
              <p class="numbers heads" aria-hidden="true"><small>Latitude</small><small>Longitude</small></p>
              <ol aria-label="Corners">
                {corners.map((c, i) => (
                  <li key={i} class="numbers" data-testid="corner" data-lat={c.lat} data-lng={c.lng}>
                    <Coordinates name={`corner ${i + 1}`} at={c} move={(to) => moveCorner(i, to)} />
                    <Button kind="icon" aria-label={`Add a corner after corner ${i + 1}`} title="Add a corner after this one" action={() => addCorner(i + 1, c)}><Icon name="plus" /></Button>
                    <Button kind="icon" aria-label={`Remove corner ${i + 1}`} title="Remove this corner" data-testid="remove-corner" action={() => removeCorner(i)}><Icon name="close" /></Button>
                  </li>
                ))}
              </ol>
            </>
          )}
        </details>
      )}
    </>
  );
}

const DIGITS = 5; // of a degree: a metre

/** Two fields; what is typed counts when the field is left. */
function Coordinates({ name, at, move }: { name: string; at: Point; move: (to: Point) => void }) {
  const field = (axis: "lat" | "lng", label: string, most: number) => (
    <input type="number" step="0.0001" min={-most} max={most} aria-label={`${label} of ${name}`} title={label} data-testid={`${axis}-field`} value={at[axis].toFixed(DIGITS)}
      onChange={(e) => {
        const typed = e.currentTarget.valueAsNumber;
        if (!Number.isFinite(typed) || Math.abs(typed) > most) e.currentTarget.value = at[axis].toFixed(DIGITS);
        else move({ ...at, [axis]: axis === "lng" ? wrapLng(typed) : typed });
      }} />
  );
  return <>{field("lat", "Latitude", 90)}{field("lng", "Longitude", 180)}</>;
}
