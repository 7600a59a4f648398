import { useState } from "preact/hooks";
import type { Fence } from "@muster/sdk";
import { deleteFence, radii, renameFence, saveDraft } from "../fences.ts";
import { ago } from "../lib/age.ts";
import { formatDistance } from "../lib/geo.ts";
import { liveMap } from "../map/map.tsx";
import { loadH3, middle } from "../map/shapes.ts";
import { units } from "../settings.ts";
import { me, myRole, now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { crossings, draft, fences } from "../whereabouts.ts";

const LATEST = 5; // of what happened

/** The group's places: who comes and goes is told to everybody in the group. */
export function Places() {
  const past = crossings.value.slice(0, LATEST);
  return (
    <section class="form" aria-label="Places">
      <h2 class="section">Places</h2>
      {fences.value.length === 0 && !draft.value && <p class="small muted">Mark a place, and the group is told who arrives and leaves.</p>}
      {fences.value.length > 0 && (
        <ul class="items" aria-label="Places of the group">{fences.value.map((f) => <PlaceRow key={f.fenceId} fence={f} />)}</ul>
      )}
      {draft.value ? <NewPlace /> : (
        <Button class="wide-button" data-testid="new-fence" action={() => void (draft.value = { name: "", center: undefined, radius: radii.initial })}>
          <Icon name="plus" /> New place
        </Button>
      )}
      {past.length > 0 && (
        <ul class="happened" aria-label="What happened">
          {past.map((c) => <li key={c.id} data-testid="crossing">{c.text} <small>{ago(c.at, now.value)}</small></li>)}
        </ul>
      )}
    </section>
  );
}

/** A place is drawn by a tap on the map, or set at its middle by who uses no pointer. */
function NewPlace() {
  const d = draft.value;
  if (!d) return null;
  const change = (c: Partial<typeof d>) => (draft.value = { ...d, ...c });
  return (
    <form class="card place-form" onSubmit={(e) => e.preventDefault()}>
      <p class="small">{d.center ? "Tap elsewhere to move it." : "Tap the map where it is."}</p>
      <Button data-testid="fence-here" action={() => { const at = liveMap.value?.centre(); if (at) change({ center: at }); }}>Use the middle of the map</Button>
      <div class="field">
        <label for="fence-name">Name</label>
        <input id="fence-name" data-testid="fence-name" maxLength={80} autocomplete="off" value={d.name} onInput={(e) => change({ name: e.currentTarget.value })} />
      </div>
      <div class="field">
        <label for="fence-radius">Radius: {formatDistance(d.radius, units.value)}</label>
        <input id="fence-radius" class="slider" data-testid="fence-radius" type="range" min={radii.least} max={radii.most} step={radii.step} value={d.radius}
          aria-valuetext={formatDistance(d.radius, units.value)} onInput={(e) => change({ radius: Number(e.currentTarget.value) })} />
      </div>
      <div class="actions">
        <Button kind="primary" data-testid="save-fence" disabled={!d.center || d.name.trim() === ""} action={saveDraft}>Save</Button>
        <Button kind="quiet" action={() => void (draft.value = undefined)}>Cancel</Button>
      </div>
    </form>
  );
}

function PlaceRow({ fence: f }: { fence: Fence }) {
  const [name, setName] = useState<string | undefined>();
  const may = f.createdBy === me.value || myRole.value !== "member";
  const show = async () => {
    const at = middle(f, await loadH3());
    if (at) liveMap.value?.goTo(at);
  };
  if (name !== undefined) {
    const save = async () => {
      await renameFence(f.fenceId, name.trim());
      setName(undefined);
    };
    return (
      <li class="renaming" data-testid="fence">
        <input aria-label={`New name of ${f.name}`} data-testid="fence-rename" maxLength={80} value={name} onInput={(e) => setName(e.currentTarget.value)} />
        <Button kind="primary" data-testid="fence-rename-save" disabled={name.trim() === ""} action={save}>Save</Button>
        <Button kind="quiet" action={() => setName(undefined)}>Cancel</Button>
      </li>
    );
  }
  return (
    <li data-testid="fence" data-name={f.name} data-lat={f.shape.circle?.center.lat} data-lng={f.shape.circle?.center.lng}>
      <button type="button" class="row" onClick={() => void show()}>
        <span class="row-icon"><Icon name="pin" /></span>
        <span class="grow">
          <strong>{f.name}</strong>
          <small>{f.shape.circle ? `${formatDistance(f.shape.circle.radius, units.value)} around` : "an area"}</small>
        </span>
      </button>
      {may && (
        <>
          <Button kind="icon" aria-label={`Rename ${f.name}`} data-testid="rename-fence" action={() => setName(f.name)}><Icon name="pencil" /></Button>
          <Button kind="icon" aria-label={`Delete ${f.name}`} data-testid="delete-fence" action={() => deleteFence(f.fenceId)}><Icon name="close" /></Button>
        </>
      )}
    </li>
  );
}
